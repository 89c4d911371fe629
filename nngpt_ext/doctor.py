"""The command `doctor`: checks of this machine, and for each problem the command that fixes it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nngpt_ext.errors import UserError
from nngpt_ext.shell import AsJson, print_json
from nngpt_ext.version import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_BEFORE_CURE = "; type: "  # the package's own messages have their cure behind it
_COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "broken": typer.colors.RED}
_MARK = "nngpt_ext doctor: "  # before each finding that the child process prints
_CHILD_SECONDS = 300  # with a slow disk and a slow card, importing torch may take minutes
_HUB_SECONDS = 4.0
_EPOCH = 5  # LEMUR's records of this epoch are read
_NF4_ERROR = 0.2  # relative; NF4 changes normal weights by about 0.1, a wrong kernel by more than 1
_TUNING = ("transformers", "peft", "trl", "accelerate", "datasets")
_CURES = {
    "torch": "pip install torch",
    "device": "pip install torch",
    "libraries": f"pip install --force-reinstall --no-deps {' '.join(_TUNING)}",
    "4 bits": "pip install --force-reinstall --no-deps bitsandbytes; "
    "or load base models unquantised: --set model.load_in_4bit=false",
    "disk": "cd a folder with room, or give one with --out",
    "cache": "export NNGPT_EXT_CACHE=/a/folder/with/room",
    "hub": "nngpt-ext run dataset_compare --set model.base=embedded",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check. A `note` is about something that a run can do without."""

    name: str
    state: Literal["ok", "note", "broken"]
    what: str
    cure: str | None = None  # the command to type


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
    for finding in examine(lemur):
        findings.append(finding)
        if not as_json:
            state = typer.style(f"{finding.state:<6}", fg=_COLOURS[finding.state])
            cure = f"{_BEFORE_CURE}{finding.cure}" if finding.cure else ""
            typer.echo(f"{state}  {finding.name}: {finding.what}{cure}")
    fit = all(finding.state != "broken" for finding in findings)
    if as_json:
        print_json({"ok": fit, "checks": [asdict(finding) for finding in findings]})
    if not fit:
        raise typer.Exit(1)


def examine(lemur: str | None = None) -> Iterator[Finding]:
    """Run all checks, one after the other; `lemur` is where LEMUR is, if not where the package finds it."""
    yield checked("Python", check_python)
    yield from check_libraries()
    yield checked("LEMUR", lambda: check_lemur(lemur))
    yield checked("disk", check_disk)
    yield checked("cache", check_cache)
    yield checked("hub", check_hub)
    yield checked("host", check_host)
    yield from check_requirements()


def checked(name: str, check: Callable[[], Finding]) -> Finding:
    """The finding of a check, also when it raises an error."""
    try:
        return check()
    except UserError as error:
        return failure(name, str(error))
    except Exception as error:
        return failure(name, f"{type(error).__name__}: {error}")


def failure(name: str, message: str, state: Literal["note", "broken"] = "broken", cure: str | None = None) -> Finding:
    """The finding of an error message. A cure in the message itself goes before `cure` and the usual one."""
    what, _, own_cure = " ".join(message.split()).partition(_BEFORE_CURE)
    return Finding(name, state, what, own_cure or cure or _CURES.get(name))


def check_python() -> Finding:
    """Which Python this is, and which nngpt_ext it imports."""
    what = f"{platform.python_version()} ({sys.executable}), nngpt_ext {__version__} in {Path(__file__).parent}"
    return Finding("Python", "ok", what)


def check_requirements() -> Iterator[Finding]:
    """Whether the libraries that the package and its extras require are installed, in versions that they allow."""
    try:
        extras = metadata.metadata("nngpt-ext").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        what = "nngpt-ext is not installed, so its requirements are unknown"
        yield Finding("requirements", "note", what, "pip install -e .")
        return
    for extra in ("", *sorted(set(extras) - {"lemur"})):  # LEMUR has a check of its own
        requirements = list(_requirements(extra))
        unmet = {str(one): problem for one in requirements if (problem := _problem(one))}
        name = f"extra {extra}" if extra else "requirements"
        if not unmet:
            yield Finding(name, "ok", ", ".join(sorted({one.name for one in requirements})))
        elif extra:
            yield Finding(name, "note", ", ".join(unmet.values()), f"pip install 'nngpt-ext[{extra}]'")
        else:
            cure = f"pip install {' '.join(repr(requirement) for requirement in unmet)}"
            yield Finding(name, "broken", ", ".join(unmet.values()), cure)


def _requirements(extra: str) -> Iterator[Requirement]:
    """What an extra adds to the requirements of the package, or, for "", those of the package itself."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, metadata.requires("nngpt-ext") or []):
        marker, requirement.marker = requirement.marker, None
        required = marker is None or marker.evaluate({"extra": ""})
        if (required and extra) or not (required or (marker and marker.evaluate({"extra": extra}))):
            continue
        if requirement.name == "nngpt-ext":  # an extra that consists of other extras
            for other in sorted(requirement.extras):
                yield from _requirements(other)
        else:
            yield requirement


def _problem(requirement: Requirement) -> str | None:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    suitable = requirement.specifier.contains(version, prereleases=True)
    return None if suitable else f"{requirement.name} {version} is not {requirement.specifier}"


def check_libraries() -> list[Finding]:
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
        findings.append(failure(name, end))
        end = end if end.startswith("not checked") else f"not checked, because of '{name}': {end}"
    return findings


def check_torch() -> Finding:
    """torch's version and build."""
    import torch

    cuda = torch.version.cuda
    return Finding("torch", "ok", f"{torch.__version__}, {f'built for CUDA {cuda}' if cuda else 'CPU build'}")


def check_device() -> Finding:
    """The device that models would be loaded on, and its free memory."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{cores} cores, {_size(memory.available)} of {_size(memory.total)} memory free"
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(0)
        kind = "bf16" if torch.cuda.is_bf16_supported() else "no bf16, so fp32"
        what = f"{torch.cuda.get_device_name(0)}, {_size(free)} of {_size(total)} free, {kind}; {machine}"
        return Finding("device", "ok", what)
    if shutil.which("nvidia-smi"):
        what = f"CPU ({machine}); there is an NVIDIA driver, but torch finds no card: it may be a CPU build"
        return Finding("device", "note", what, "pip install --force-reinstall torch")
    return Finding("device", "ok", f"CPU, {machine}")


def check_tuning_libraries() -> Finding:
    """The libraries that fine-tune; each is imported."""
    from nngpt_ext.models import requirements

    requirements.check_libraries(load_in_4bit=False)
    for name in _TUNING:
        importlib.import_module(name)
    return Finding("libraries", "ok", ", ".join(f"{name} {metadata.version(name)}" for name in _TUNING))


def check_four_bits() -> Finding:
    """A product with a 512 × 512 matrix in NF4, as base models are loaded, compared with the unquantised one."""
    from nngpt_ext.models import requirements
    from nngpt_ext.models.base import compute_dtype, keep_compute_dtype

    requirements.check_libraries(load_in_4bit=True)
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
    errors = [float((a.float() - b.float()).norm() / b.float().norm()) for a, b in (products, gradients)]
    return judge_product(f"bitsandbytes {bnb.__version__} on {device}", *errors)


def judge_product(where: str, product: float, gradient: float) -> Finding:
    """Whether NF4 changes a product, and the gradient of its input, by no more than its rounding does.

    Args:
        where: the library and device, for the message.
        product: relative difference (Frobenius norm) from the unquantised product; NF4 rounds normal weights by
            about a tenth (Dettmers et al. 2023).
        gradient: the same of the gradient.
    """
    what = f"{where}: an NF4 product differs by {product:.3f} from the unquantised one, its gradient by {gradient:.3f}"
    if product < _NF4_ERROR and gradient < 2 * _NF4_ERROR:
        return Finding("4 bits", "ok", what)
    return failure("4 bits", what)


NATIVE: dict[str, Callable[[], Finding]] = {
    "torch": check_torch,
    "device": check_device,
    "libraries": check_tuning_libraries,
    "4 bits": check_four_bits,
}


def check_lemur(path: str | None = None) -> Finding:
    """Which LEMUR is found, and how much of it: the records of one epoch are read, past the cache."""
    from nngpt_ext.data.cache import read_trials
    from nngpt_ext.data.sources.discovery import INSTALL, open_source

    try:
        source = open_source("auto", path)
        if source.kind == "api":  # opening it would build or download its database, which takes minutes
            what = "the installed nn-dataset ships no records; its first import builds or downloads a database"
            return Finding("LEMUR", "note", what, f"{INSTALL}   # ships them")
        networks = len(source.networks())
        trials = read_trials(source, _EPOCH, cached=False)
    except UserError as error:
        return failure("LEMUR", str(error), cure=INSTALL)
    what = f"{source.kind} at {source.location}: {networks:,} network sources, {len(trials.frame):,} trials at epoch "
    what += f"{_EPOCH}" + (f", {sum(trials.excluded.values()):,} excluded" if trials.excluded else "")
    if not networks or trials.frame.empty:
        return Finding("LEMUR", "broken", f"{what}: it is incomplete", f"{INSTALL} --force-reinstall")
    return Finding("LEMUR", "ok", what)


def check_disk(folder: Path | None = None) -> Finding:
    """Whether a run can be written to a folder, by default the current one; a file is written and removed."""
    from nngpt_ext.run_folder import ROOM

    place = (folder or Path.cwd()).resolve()
    try:
        _write(place, 2**20)
    except OSError as error:
        return failure("disk", f"cannot write to {place}: {error.strerror or error}")
    free = shutil.disk_usage(place).free
    if free < ROOM:
        return failure("disk", f"{_size(free)} free in {place}; a small run needs {_size(ROOM)}")
    return Finding("disk", "ok", f"{_size(free)} free in {place}")


def check_cache() -> Finding:
    """Whether the cache of LEMUR's records can be written; without it they are parsed in every run."""
    from nngpt_ext.data.cache import cache_folder

    place = cache_folder()
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    try:
        _write(existing, 2**16)
    except OSError as error:
        what = f"cannot write to {existing}: {error.strerror or error}; records are parsed in every run"
        return failure("cache", what, "note")
    used = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return Finding("cache", "ok", f"{_size(used)} in {place}, {_size(shutil.disk_usage(existing).free)} free")


def _write(folder: Path, size: int) -> None:
    with tempfile.NamedTemporaryFile(prefix=".nngpt_ext.", dir=folder) as file:
        file.write(b"\1" * size)
        file.flush()
        os.fsync(file.fileno())


def _size(n: float) -> str:
    return f"{n / 2**30:,.1f} GB" if n >= 2**30 else f"{n / 2**20:,.1f} MB"


def check_hub() -> Finding:
    """Whether the model hub answers. The package's own base models do not need it."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    problems: list[str] = []

    def ask() -> None:
        try:
            code = get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS - 1).status_code
            problems.append(f"the model hub answered with status {code}" if code >= 500 else "")
        except Exception as error:
            problems.append(f"the model hub cannot be reached ({type(error).__name__})")

    if constants.HF_HUB_OFFLINE:
        return failure("hub", "HF_HUB_OFFLINE is set; base models cannot be downloaded", "note")
    # A name lookup has no time limit of its own, so the thread is abandoned after a while.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_HUB_SECONDS)
    problem = problems[0] if problems else f"the model hub did not answer within {_HUB_SECONDS:.0f} s"
    if problem:
        return failure("hub", f"{problem}; base models cannot be downloaded", "note")
    return Finding("hub", "ok", "the model hub can be reached")


def check_host() -> Finding:
    """Which NNGPT is installed; the task runs without it."""
    from nngpt_ext.host.installation import find_host

    try:
        found = find_host()
    except UserError as error:
        return failure("host", str(error), "note")
    version = found.version or "(version unknown)"
    return Finding("host", "ok", f"NNGPT {version}, layout {found.layout}, in {found.folder}")


def main() -> None:
    """Print the findings of `NATIVE` as lines of JSON, for `check_libraries`."""
    logging.disable(logging.WARNING)
    for name, check in NATIVE.items():
        print(_MARK + json.dumps(asdict(checked(name, check))), flush=True)


if __name__ == "__main__":
    main()
