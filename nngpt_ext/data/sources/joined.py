"""Several sources as one: the same network under one name, and datasets whose names say what is meant."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from nngpt_ext.compact import compact_code
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.lineage import known_key
from nngpt_ext.data.sources.trial_table import TableSource
from nngpt_ext.data.trials import KEYS, Source, raw_frame
from nngpt_ext.errors import UserError, plain, shown
from nngpt_ext.io import as_text, digest, text_digest

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

JOINED = " + "  # between the places of joined sources


class JoinedSource:
    """Sources in their order, each with names for its datasets.

    A network with the source of one in an earlier place, or in the same table, has that one's name. Another one whose
    name is taken gets the name of its place behind its own, and a number if that is taken, too.

    Args:
        parts: sources, and for each the names of datasets in it by the names that they have here.

    Raises:
        UserError: if two sources say different facts about a dataset, or other values of a recipe's field.
    """

    def __init__(self, parts: Sequence[tuple[Source, Mapping[str, str]]]) -> None:
        self._sources = [source for source, _ in parts]
        self._here = [{theirs: here for here, theirs in names.items()} for _, names in parts]
        self.kind = "+".join(source.kind for source in self._sources)
        self.location = JOINED.join(source.location for source in self._sources)

    @cached_property
    def facts(self) -> Mapping[str, DatasetFacts]:
        found: dict[str, DatasetFacts] = {}
        for source, here in zip(self._sources, self._here, strict=True):
            for theirs, facts in source.facts.items():
                name = here.get(theirs, theirs)
                if found.setdefault(name, facts) != facts:
                    raise UserError(f"two sources have different facts of dataset {shown(name)}; correct data.facts")
        return found

    @cached_property
    def recipe(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for source in self._sources:
            for name, kind in source.recipe.items():
                if found.setdefault(name, kind) != kind:
                    raise UserError(
                        f"the recipe's {name} is a number in one source and text in another; declare the recipe of "
                        f"'{source.location}' with recipe: {{{name}: {found[name]}}}, or rename its column (columns)"
                    )
        return found

    @cached_property
    def _names(self) -> list[dict[str, str]]:
        """For each source, the names that its networks have here."""
        result: list[dict[str, str]] = []
        earlier: dict[str, str] = {}  # names by hash of the source
        taken: set[str] = set()
        for source in self._sources:
            own: dict[str, str] = {}
            names: dict[str, str] = {}
            theirs = source.networks()
            in_table = source.kind == TableSource.kind  # LEMUR has sources under several names, which it keeps
            for nn, code in source.sources(sorted(theirs)).items():
                text = as_text(code, f"the source of '{nn}'")
                # Those of a LEMUR that is the first source are not compacted: that takes minutes.
                compact = text_digest(compact_code(text)) if earlier or in_table else None
                hashes = [one for one in (text_digest(text), known_key(text), compact) if one]
                known = own | earlier if in_table else earlier
                name = next((known[one] for one in hashes if one in known), None)
                if name is None and nn in taken:
                    name = _free(nn, Path(source.location).stem, taken | theirs | {*names.values()})
                names[nn] = name or nn
                for one in hashes:
                    own.setdefault(one, names[nn])
            if copies := len(names) - len({*names.values()}):
                log.info(
                    "records: %d networks of '%s' have the source of another one, and its name", copies, source.location
                )
            earlier, taken = own | earlier, taken | set(names.values())
            result.append(names)
        return result

    def fingerprint(self, epoch: int | None) -> str:
        return digest([[source.fingerprint(epoch) for source in self._sources], self._here, self._names])

    def records(self, epoch: int | None) -> pd.DataFrame:
        import pandas as pd

        frames: list[pd.DataFrame] = []
        seen: dict[str, str] = {}
        for source, names, here in zip(self._sources, self._names, self._here, strict=True):
            frame = raw_frame(source.records(epoch), source.recipe)
            own = {name: here.get(name, name) for name in frame["dataset"].unique()}
            for theirs, name in own.items():
                other = seen.get(plain(str(name)))
                if other is not None and not (theirs in here and name == other):
                    raise UserError(
                        f"is dataset {shown(theirs)} of '{source.location}' the dataset '{other}' of another source? "
                        f"Say so in its datasets, {{{other}: {theirs}}}, or give it another name, "
                        f"{{my-{theirs}: {theirs}}}"
                    )
            frames.append(frame.assign(nn=frame["nn"].map(names), dataset=frame["dataset"].map(own)))
            seen |= {plain(str(name)): str(name) for name in own.values()}
        return pd.concat(frames, ignore_index=True).reindex(columns=[*KEYS, *self.recipe])

    def networks(self) -> Set[str]:
        return {name for names in self._names for name in names.values()}

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        wanted = set(names)
        found: dict[str, str] = {}
        for source, own in zip(self._sources, self._names, strict=True):
            # Of several networks with one name, the first one's.
            asked = {name: nn for nn, name in reversed(own.items()) if name in wanted and name not in found}
            codes = source.sources(list(asked.values()))
            found |= {name: codes[nn] for name, nn in asked.items()}
        return found


def _free(nn: str, place: str, taken: Set[str]) -> str:
    """The name with its place behind it, numbered on until it is not taken."""
    names = (f"{nn} ({place}{number})" for number in chain([""], map(" {}".format, count(2))))
    return next(name for name in names if name not in taken)
