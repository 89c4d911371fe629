"""Built pairs with their figures, kept in the cache: asked for again, they need neither pandas nor the records."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.io import replacing, write_text
from nngpt_ext.data.folder import cache_folder, source_key
from nngpt_ext.data.trials import Source, say_excluded
from nngpt_ext.data.words import PARTS

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FIGURES = ("pairs", "networks", "pair_prior", "excluded")
_FORMAT = "2"  # raised when the same trials would give other pairs


class KeptPairs(NamedTuple):
    """Pairs as `build_pairs` gives them: in a file of the cache, or at hand where that cannot be written."""

    figures: dict[str, Any]  # pairs, networks, pair_prior (in sample), excluded, with a split its parts
    place: Path | pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """The pairs as a table of one's own."""
        import pandas as pd

        return pd.read_parquet(self.place) if isinstance(self.place, Path) else self.place.copy()

    def write(self, target: Path) -> None:
        """Write the pairs as Parquet."""
        with replacing(target) as temporary:
            if isinstance(self.place, Path):
                shutil.copyfile(self.place, temporary)
            else:
                self.place.to_parquet(temporary, index=False)


def kept_pairs(
    source: Source,
    epoch: int,
    *,
    label: str,
    use: str,
    seed: int,
    split: str | None = None,
    hold_out: str | None = None,
) -> KeptPairs:
    """The pairs of an epoch, from the cache where it is still true; see `build_pairs` for the arguments.

    With a `split` (see `assign_split`) they have that column, and the figures count its parts.

    A file of pairs and a note beside it, which holds the figures and the hash of that file: whatever does
    not fit together is built again.
    """
    records = source.fingerprint(epoch)
    fingerprint = f"{_FORMAT}:{records}"
    parted = "" if split is None else f"-{split}" if hold_out is None else f"-{split}-{hold_out}"
    seeded = f"-{seed}" if use != "best" or split is not None else ""
    stem = f"{source_key(source)}-{epoch}-{label}-{use}{parted}{seeded}.pairs"
    file, note = (cache_folder() / "lemur" / f"{stem}.{kind}" for kind in ("parquet", "json"))
    figures = _figures(file, note, fingerprint, FIGURES if split is None else (*FIGURES, "split"))
    if figures is not None:
        say_excluded(figures["excluded"])
        return KeptPairs(figures, file)

    from nngpt_ext.data.cache import read_trials
    from nngpt_ext.data.pairs import build_pairs, usual_winner_share

    trials = read_trials(source, epoch, fingerprint=records)
    pairs = build_pairs(trials.frame, epoch, label=label, use=use, seed=seed)
    figures = {
        "pairs": len(pairs),
        "networks": int(pairs["nn"].nunique()),
        "pair_prior": usual_winner_share(pairs),
        "excluded": trials.excluded,
    }
    if split is not None:
        from nngpt_ext.data.splits import assign_split

        sources = source.sources(sorted(pairs["nn"].unique())) if split == "by_cluster" else None
        pairs["split"] = assign_split(pairs, split, seed=seed, sources=sources, hold_out=hold_out)
        members = {part: pairs.loc[pairs["split"] == part, "nn"] for part in PARTS}
        figures["split"] = {
            part: {"pairs": len(names), "networks": int(names.nunique())} for part, names in members.items()
        }
    try:
        with replacing(file) as temporary:
            pairs.to_parquet(temporary, index=False)
            digest = _sha256(temporary)
        write_text(note, json.dumps({"fingerprint": fingerprint, "sha256": digest, "figures": figures}))
    except (OSError, UserError) as error:
        log.warning("LEMUR: pairs are not cached: %s", error)
        return KeptPairs(figures, pairs)
    return KeptPairs(figures, file)


def _figures(file: Path, note: Path, fingerprint: str, needed: Sequence[str]) -> dict[str, Any] | None:
    try:
        if not note.exists():
            return None
        content = json.loads(note.read_bytes())
        if content["fingerprint"] != fingerprint:
            return None  # that the source has changed is said where the trials are read
        if content["sha256"] != _sha256(file):
            raise ValueError("other pairs than noted")
        found = content["figures"]
        return {name: found[name] for name in needed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("LEMUR: the cache file %s is damaged (%s); building it again", file, error)
        return None


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
