"""The baselines after more and more training networks, always on the same test pairs."""

from __future__ import annotations

import json
import logging

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import metrics
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.io import write_text
from nngpt_ext.study.folder import StudyFolder
from nngpt_ext.study.grid import Grid
from nngpt_ext.study.schema import CurvePoint
from nngpt_ext.tasks.loading import Loader

log = logging.getLogger(__name__)

FILE = "learning_curve.json"


def learning_curve(grid: Grid, place: StudyFolder, loader: Loader, *, compute: bool) -> list[CurvePoint]:
    """The points of the grid's `learning_curve`, kept in the study's folder.

    They are of best trials and the normalized label under by_network, in all else of the first cell's data.
    Sizes beyond the networks that there are give one point, that of all of them. Where the data cannot be had,
    there is no curve: that is logged, and the study goes on.
    """
    file = place.folder / FILE
    if file.is_file():
        try:
            return [CurvePoint.model_validate(point) for point in json.loads(file.read_text(encoding="utf-8"))]
        except (OSError, TypeError, ValueError):
            log.warning("study: '%s' is damaged; computing it again", file)
    if not compute or not grid.learning_curve:
        return []
    points: dict[int, CurvePoint] = {}
    try:
        for size in grid.learning_curve:
            point = _point(grid, size, loader)
            points[point.networks] = point
            log.info("study: baselines after %d training networks", point.networks)
    except UserError as error:
        log.warning("study: no learning curve of the baselines: %s", error)
        return []
    found = list(points.values())
    write_text(file, json.dumps([point.model_dump() for point in found], indent=2) + "\n")
    return found


def _point(grid: Grid, size: int, loader: Loader) -> CurvePoint:
    usual = {"split": "by_network", "hold_out": None, "label": "normalized", "trials": "best"}
    config = grid.cells[0].config.data.model_copy(update={**usual, "train_networks": size})
    data = loader.data(config)
    test = data.part("test")
    first = (test["better_dataset"] == test["dataset_1"]).to_numpy()
    networks = test["nn"].to_numpy(dtype=object)
    right = {name: metrics.correct(p, first) for name, p in loader.baselines(config).items()}
    return CurvePoint(
        networks=int(data.training["nn"].nunique()),
        train_pairs=len(data.training),
        n_test_pairs=len(test),
        accuracy={name: float(values.mean()) for name, values in right.items()},
        ci95={name: bootstrap_networks(values, networks) for name, values in right.items()},
    )
