"""LEMUR, the hub, the host, and the extras of this package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import metadata

from nngpt_ext.doctor.finding import Finding, failed

_LOCAL = "nngpt-ext run dataset_compare --set model.base=embedded"
_PATIENCE = 4.0  # seconds for the hub
_EPOCH = 5  # whose records are read


def lemur(path: str | None = None) -> Finding:
    """Which LEMUR would be read, and how much of it there is: its records of one epoch are read, past the cache."""
    from nngpt_ext.errors import UserError
    from nngpt_ext.lemur.cache import read_trials
    from nngpt_ext.lemur.locate import INSTALL, open_source

    try:
        source = open_source("auto", path)
        if source.kind == "api":  # looking into it builds or downloads its database, which takes minutes
            what = "the installed nn-dataset ships no records; its first import builds or downloads a database"
            return Finding("LEMUR", "note", what, f"{INSTALL}   # ships them")
        networks = len(source.networks())
        trials = read_trials(source, _EPOCH, cached=False)
    except UserError as error:
        return failed("LEMUR", error, INSTALL)
    what = f"{source.kind} at {source.location}: {networks:,} network sources, {len(trials.frame):,} trials at epoch "
    what += f"{_EPOCH}" + (f", {sum(trials.excluded.values()):,} left out" if trials.excluded else "")
    if not networks or trials.frame.empty:
        return Finding("LEMUR", "broken", f"{what}: it is not whole", f"{INSTALL} --force-reinstall")
    return Finding("LEMUR", "ok", what)


def hub() -> Finding:
    """Whether the model hub answers. It is never a fault: the package's own base model needs none."""
    answered: list[str] = []

    def ask() -> None:
        try:
            from huggingface_hub import constants

            if constants.HF_HUB_OFFLINE:
                answered.append("not asked: HF_HUB_OFFLINE is set")
                return
            from huggingface_hub.utils import get_session

            code = get_session().head(constants.ENDPOINT, timeout=_PATIENCE - 1).status_code
            answered.append("" if code < 500 else f"answered with status {code}")
        except Exception as error:
            answered.append(f"not reached ({type(error).__name__})")

    # Looking a name up knows no time limit, so the question is left behind after a while.
    question = threading.Thread(target=ask, daemon=True)
    question.start()
    question.join(_PATIENCE)
    said = answered[0] if answered else f"no answer within {_PATIENCE:.0f} s"
    if said == "":
        return Finding("hub", "ok", "the model hub can be reached")
    return Finding("hub", "note", f"{said}; base models of the hub cannot be fetched", _LOCAL)


def host() -> Finding:
    """Which NNGPT is here; the task runs without it."""
    from nngpt_ext.errors import UserError
    from nngpt_ext.host.installation import find_host

    try:
        found = find_host()
    except UserError as error:
        return failed("host", error, state="note")
    version = found.version or "(version unknown)"
    return Finding("host", "ok", f"NNGPT {version}, layout {found.layout}, in {found.folder}")


def extras() -> list[Finding]:
    """A line for each extra of this package: installed, or the command that installs it."""
    try:
        known = metadata.metadata("nngpt-ext").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        what = "nngpt-ext is not installed here, so its extras are not known"
        return [Finding("extras", "note", what, "pip install -e .")]
    # LEMUR has a check of its own, and another way to be installed.
    return [_extra(name) for name in sorted(known) if name != "lemur"]


def _extra(name: str) -> Finding:
    wanted = sorted(set(_requirements(name)))
    missing = [package for package in wanted if not _installed(package)]
    if missing:
        return Finding(f"extra {name}", "note", f"not here: {', '.join(missing)}", f"pip install 'nngpt-ext[{name}]'")
    return Finding(f"extra {name}", "ok", ", ".join(wanted))


def _requirements(extra: str) -> Iterator[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for text in metadata.requires("nngpt-ext") or []:
        wanted = Requirement(text)
        marker = wanted.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue  # not of this extra
        if canonicalize_name(wanted.name) == "nngpt-ext":
            for other in sorted(wanted.extras):
                yield from _requirements(other)
        else:
            yield canonicalize_name(wanted.name)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
