"""The command `doctor`: checks of this machine, and for each problem the command that fixes it.

A check returns what it found, or raises an error whose message says what is wrong and, after "; type: ", how to fix it.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nngpt_ext.data.sources.discovery import INSTALL, open_source
from nngpt_ext.errors import UserError, for_shell
from nngpt_ext.extras import install_library, pip, requirements
from nngpt_ext.light import check_whole
from nngpt_ext.shell import AsJson, print_json
from nngpt_ext.version import __version__

_BEFORE_CURE = "; type: "
_COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "broken": typer.colors.RED}
_MARK = "nngpt_ext doctor: "  # before each finding that the child process prints
_CHILD_SECONDS = 300  # with a slow disk and a slow card, importing torch may take minutes
_HUB_SECONDS = 4.0
_EPOCH = 5  # LEMUR's records of this epoch are read
# Relative. NF4 changes normal weights by about 0.1 (Dettmers et al. 2023), a wrong kernel by more than 1.
_NF4_ERROR = 0.2
_OWN = pip(f"install -e {shlex.quote(str(Path(__file__).parents[1]))}")
_TUNING = ("transformers", "peft", "trl", "accelerate", "datasets")


@dataclass(frozen=True)
class Finding:
    """The result of one check. A `note` is about something that a run can do without."""

    name: str
    state: Literal["ok", "note", "broken"]
    what: str
    cure: str | None = None  # the command to type


class Note(UserError):
    """A problem that does not prevent a run."""


def finding(name: str, check: Callable[[], str], cure: str | None = None) -> Finding:
    """Run a check. A cure in the message of an error replaces the usual one."""
    try:
        return Finding(name, "ok", check())
    except Exception as error:
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        what, _, own_cure = " ".join(message.split()).partition(_BEFORE_CURE)
        return Finding(name, "note" if isinstance(error, Note) else "broken", what, own_cure or cure)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: nngpt-ext doctor --json")(doctor)


def doctor(
    lemur: Annotated[str | None, typer.Option("--lemur", help="Folder ab/nn, or database ab.nn.db.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and how to fix what is missing.

    The exit code is 0 if everything that a run needs works, and 1 otherwise. What a run can do without (the hub,
    NNGPT, extras) is only noted.
    """
    logging.getLogger("nngpt_ext").setLevel(logging.ERROR)  # warnings would repeat the findings
    findings = []
    for found in examine(lemur):
        findings.append(found)
        if not as_json:
            state = typer.style(f"{found.state:<6}", fg=_COLOURS[found.state])
            cure = f"{_BEFORE_CURE}{found.cure}" if found.cure else ""
            typer.echo(f"{state}  {found.name}: {found.what}{cure}")
    fit = all(found.state != "broken" for found in findings)
    if as_json:
        print_json({"ok": fit, "checks": [asdict(found) for found in findings]})
    if not fit:
        raise typer.Exit(1)


def examine(lemur: str | None = None) -> Iterator[Finding]:
    """Run all checks, one after the other; `lemur` is where LEMUR is, if not where the package finds it."""
    yield finding("Python", check_python)
    whole = finding("language models", check_whole)
    yield from native_findings() if whole.state == "ok" else [whole]
    yield finding("LEMUR", lambda: check_lemur(lemur), INSTALL)
    for name, (check, cure) in OTHERS.items():
        yield finding(name, check, cure)
    yield finding("requirements", check_requirements)
    for own in list(metadata.distributions(name="nngpt-ext"))[:1]:
        for extra in sorted({*(own.metadata.get_all("Provides-Extra") or [])} - {"lemur"}):  # LEMUR is checked above
            yield finding(f"extra {extra}", partial(check_requirements, extra))


def native_findings() -> list[Finding]:
    """The checks of `NATIVE`, in a child process, because a broken native library may take its process down."""
    command = [sys.executable, "-m", "nngpt_ext.doctor"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_CHILD_SECONDS)
        output, end = done.stdout, f"it ended the process with code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, end = error.stdout or b"", f"it did not end within {_CHILD_SECONDS} s"
    lines = [line.removeprefix(_MARK) for line in output.decode().splitlines() if line.startswith(_MARK)]
    findings = [Finding(**json.loads(line)) for line in lines]
    for name in list(NATIVE)[len(findings) :]:
        findings.append(Finding(name, "broken", end, NATIVE[name][1]))
        end = end if end.startswith("not checked") else f"not checked, because of '{name}': {end}"
    return findings


def check_python() -> str:
    """Which Python this is, which nngpt_ext it imports, and whether it has its libraries from elsewhere."""
    what = f"{platform.python_version()} ({sys.executable}), nngpt_ext {__version__} in {Path(__file__).parent}"
    if foreign := _from_pythonpath():
        raise Note(f"{what}; PYTHONPATH, not this environment, has {', '.join(foreign)}{_BEFORE_CURE}unset PYTHONPATH")
    return what


def _from_pythonpath() -> list[str]:
    """The libraries that a folder in PYTHONPATH has, which comes before the environment's own; modules set it."""
    places = {Path(place).resolve() for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}
    places -= {Path(sysconfig.get_path(own)).resolve() for own in ("purelib", "platlib")}
    found = []
    with suppress(metadata.PackageNotFoundError):  # the check of requirements says so
        for name in {needed.name for needed in requirements()}:
            for first in list(metadata.distributions(name=name))[:1]:
                if (place := Path(str(first.locate_file(""))).resolve()) in places:
                    found.append(f"{name} {first.version} in {place}")
    return sorted(found)


def check_torch() -> str:
    """torch's version and build."""
    import torch

    cuda = torch.version.cuda
    return f"{torch.__version__}, {f'built for CUDA {cuda}' if cuda else 'CPU build'}"


def check_device() -> str:
    """The device that models would be loaded on, and its free memory."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{cores} cores, {_size(memory.available)} of {_size(memory.total)} memory free"
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(0)
        kind = "bf16" if torch.cuda.is_bf16_supported() else "no bf16, so fp32"
        return f"{torch.cuda.get_device_name(0)}, {_size(free)} of {_size(total)} free, {kind}; {machine}"
    if shutil.which("nvidia-smi"):
        raise Note(
            f"CPU ({machine}); there is an NVIDIA driver, but torch finds no GPU: it may be a CPU build"
            f"{_BEFORE_CURE}{install_library('torch', again=True)}"
        )
    return f"CPU, {machine}"


def check_tuning_libraries() -> str:
    """The libraries that fine-tune; each is imported."""
    from nngpt_ext.models.requirements import check_libraries, import_library

    check_libraries(load_in_4bit=False)
    for name in _TUNING:
        import_library(name)
    return ", ".join(f"{name} {metadata.version(name)}" for name in _TUNING)


def check_four_bits() -> str:
    """A product with a 512 × 512 matrix in NF4, as base models are loaded, compared with the unquantised one."""
    from nngpt_ext.models.base import compute_dtype, keep_compute_dtype
    from nngpt_ext.models.requirements import check_libraries

    check_libraries(load_in_4bit=True, otherwise=f"load base models unquantised: {_UNQUANTISED}")
    import bitsandbytes as bnb
    import torch

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dtype = compute_dtype(device)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(512, 512, generator=generator).to(dtype)
    inputs = torch.randn(8, 512, generator=generator).to(device, dtype).requires_grad_()
    kind: dict[str, Any] = {"quant_type": "nf4", "compress_statistics": True}
    layer: Any = bnb.nn.Linear4bit(512, 512, bias=False, compute_dtype=dtype, **kind)
    layer.weight = bnb.nn.Params4bit(weight.clone(), requires_grad=False, **kind)
    layer = layer.to(device)
    keep_compute_dtype(layer)
    products = layer(inputs), inputs @ weight.to(device).T
    gradients = [torch.autograd.grad(product.float().square().sum(), inputs)[0] for product in products]
    version = f"bitsandbytes {bnb.__version__} on {device}"
    product, gradient = (((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in (products, gradients))
    what = f"an NF4 product differs by {product:.3f} from the unquantised one, its gradient by {gradient:.3f}"
    if not (product < _NF4_ERROR and gradient < 2 * _NF4_ERROR):
        raise UserError(f"{version}: {what}")
    return f"{version}: {what}"


def check_lemur(path: str | None = None) -> str:
    """Which LEMUR is found, and how much of it: the records of one epoch are read, past the cache."""
    from nngpt_ext.data.cache import read_trials

    source = open_source("auto", path)
    if source.kind == "api":  # opening it would build or download its database, which takes minutes
        raise Note(
            "the installed nn-dataset ships no records; its first import builds or downloads a database"
            f"{_BEFORE_CURE}{INSTALL}   # ships them"
        )
    networks = len(source.networks())
    trials = read_trials(source, _EPOCH, cached=False)
    what = f"{source.kind} at {source.location}: {networks:,} network sources, {len(trials.frame):,} trials at epoch "
    what += f"{_EPOCH}" + (f", {sum(trials.excluded.values()):,} excluded" if trials.excluded else "")
    if not networks or trials.frame.empty:
        raise UserError(f"{what}: it is incomplete{_BEFORE_CURE}{INSTALL} --force-reinstall")
    return what


def check_disk(folder: Path | None = None) -> str:
    """Whether a run can be written to a folder, by default the current one; a file is written and removed."""
    from nngpt_ext.run_folder import ROOM

    place = (folder or Path.cwd()).resolve()
    _write(place, 2**20)
    free = shutil.disk_usage(place).free
    if free < ROOM:
        raise UserError(f"{_size(free)} free in {place}; a small run needs {_size(ROOM)}")
    return f"{_size(free)} free in {place}"


def check_cache() -> str:
    """Whether the cache of LEMUR's records can be written; without it they are parsed in every run."""
    from nngpt_ext.data.cache import cache_folder

    place = cache_folder()
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    try:
        _write(existing, 2**16)
    except UserError as error:
        raise Note(f"{error}; records are parsed in every run") from None
    used = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return f"{_size(used)} in {place}, {_size(shutil.disk_usage(existing).free)} free"


def _write(folder: Path, size: int) -> None:
    try:
        with tempfile.NamedTemporaryFile(prefix=".nngpt_ext.", dir=folder) as file:
            file.write(b"\1" * size)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None


def _size(n: float) -> str:
    return f"{n / 2**30:,.1f} GB" if n >= 2**30 else f"{n / 2**20:,.1f} MB"


def check_hub() -> str:
    """Whether the model hub answers. The package's own base models do not need it."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    answers: list[int] = []

    def ask() -> None:
        with suppress(Exception):
            answers.append(get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS).status_code)

    if constants.HF_HUB_OFFLINE:
        raise Note("HF_HUB_OFFLINE is set; base models cannot be downloaded")
    # A name lookup cannot be given a time limit, so the thread is abandoned after a while.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_HUB_SECONDS)
    if not answers or answers[0] >= 500:
        raise Note("the model hub cannot be reached; base models cannot be downloaded")
    return "the model hub can be reached"


def check_smollm2() -> str:
    """Where the weights of the preset smollm2-135m would come from."""
    from huggingface_hub import try_to_load_from_cache

    from nngpt_ext.models.gguf import packaged_file
    from nngpt_ext.models.presets import PRESETS

    found = PRESETS["smollm2-135m"]
    if file := packaged_file(str(found.package)):
        return f"weights in {file}"
    if isinstance(try_to_load_from_cache(found.location, "config.json"), str):
        return f"weights of {found.location} in the hub's cache"
    raise Note(f"its weights are not here{_BEFORE_CURE}{pip(f'install --no-deps {found.package}')}")


def check_host() -> str:
    """Which NNGPT is installed; the task runs without it."""
    from nngpt_ext.host.installation import find_host

    try:
        found = find_host()
    except UserError as error:
        raise Note(str(error)) from None
    return f"NNGPT {found.version or '(version unknown)'} in {found.folder}"


def check_requirements(extra: str = "") -> str:
    """Whether the libraries of the package or an extra are installed, in versions that it allows."""
    unmet, names = {}, set()
    try:
        needs = list(requirements(extra))
    except metadata.PackageNotFoundError:
        raise Note(f"nngpt-ext is not installed, so its requirements are unknown{_BEFORE_CURE}{_OWN}") from None
    for needed in needs:
        names.add(needed.name)
        try:
            version = metadata.version(needed.name)
            if not needed.specifier.contains(version, prereleases=True):
                unmet[str(needed)] = f"{needed.name} {version} is not {needed.specifier}"
        except metadata.PackageNotFoundError:
            unmet[str(needed)] = f"{needed.name} is not installed"
    if not unmet:
        return ", ".join(sorted(names))
    cure = pip(f"install {shlex.join(unmet)}")
    raise (Note if extra else UserError)(f"{', '.join(unmet.values())}{_BEFORE_CURE}{cure}")


# Each check with its usual cure. Native libraries are checked in a child process, the one that fails most often last
# but for those that load it.
_UNQUANTISED = "--set model.load_in_4bit=false"
NATIVE: dict[str, tuple[Callable[[], str], str]] = {
    "torch": (check_torch, install_library("torch", again=True)),
    "device": (check_device, install_library("torch", again=True)),
    "4 bits": (
        check_four_bits,
        f"{install_library('bitsandbytes', again=True)}; or, if that does not help, {pip('uninstall bitsandbytes')} "
        f"and load base models unquantised: {_UNQUANTISED}",
    ),
    "libraries": (check_tuning_libraries, pip(f"install --force-reinstall --no-deps {' '.join(_TUNING)}")),
}
OTHERS: dict[str, tuple[Callable[[], str], str | None]] = {
    "disk": (check_disk, "nngpt-ext run dataset_compare --set model.base=embedded --out /a/folder/with/room"),
    "cache": (check_cache, "export NNGPT_EXT_CACHE=/a/folder/with/room"),
    "hub": (check_hub, "nngpt-ext run dataset_compare --set model.base=embedded"),
    "base smollm2-135m": (check_smollm2, None),
    "host": (check_host, None),
}


if __name__ == "__main__":  # the child process of `native_findings`
    logging.disable(logging.WARNING)
    with for_shell():
        for name, (check, cure) in NATIVE.items():
            print(_MARK + json.dumps(asdict(finding(name, check, cure))), flush=True)
