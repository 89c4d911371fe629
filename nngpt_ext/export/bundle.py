"""A folder with all that a machine without a package registry needs: libraries, LEMUR, a base model, an installer.

It is made in a clone of the repository, on a machine with a registry: `constraints.txt` has the tested versions. pip
uses its configured index.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.version import Version

from nngpt_ext.data.sources.discovery import INSTALL
from nngpt_ext.data.sources.package import installed_folder
from nngpt_ext.data.trials import METRIC, RECIPE, TASK
from nngpt_ext.errors import UserError, shown, unknown
from nngpt_ext.extras import requirements
from nngpt_ext.io import is_free, replacing_folder, write_text
from nngpt_ext.models.base import base_folder
from nngpt_ext.models.gguf import EXTRA
from nngpt_ext.models.presets import SHIPPED, preset

REPOSITORY = Path(__file__).parents[2]
PINS = "constraints.txt"
INSTALLER = "install.sh"
WHEELS, LEMUR, BASE, PYTHON, TORCH = "wheels", "lemur.tar.xz", "base", "python.txt", "torch.txt"
# The libraries have no wheels for musl, and pip takes none of theirs for a bare linux_x86_64.
_PLATFORM = re.compile(r"manylinux_2_\d\d?_(x86_64|aarch64)")
_TIME = 1_700_000_000  # of all files of LEMUR: their times are part of its fingerprint


def make_bundle(
    out: Path, *, platform: str, python: str, base: str = "embedded", torch: str = "tested"
) -> dict[str, int]:
    """Write the bundle.

    Args:
        out: a new or an empty folder.
        platform: of the other machine as pip names it, such as `manylinux_2_28_x86_64`.
        python: its version of Python, such as `3.12`.
        base: a base model, as `model.base`.
        torch: `tested` to include torch, `none` if the other machine has its own.

    Returns:
        Bytes of the wheels, of LEMUR, of the base model (0 if a wheel has it) and of all together.

    Raises:
        UserError: without a clone or LEMUR, for a folder with files, an unknown base, and if pip fails.
    """
    if torch not in ("tested", "none"):
        raise unknown("torch", torch, ("tested", "none"))
    if not (REPOSITORY / PINS).is_file():
        raise UserError(f"a bundle is made in a clone of the repository, which has {PINS}; {REPOSITORY} is not one")
    least = _least_python()
    if not re.fullmatch(r"3\.\d\d?", python) or Version(python) < Version(least):
        raise UserError(
            f"--python must be {least} or later, which the versions in {PINS} need, such as 3.12, not {shown(python)}"
        )
    if not _PLATFORM.fullmatch(platform):
        raise UserError(
            "--platform must name the other machine's glibc and processor (x86_64 or aarch64), not "
            f"{shown(platform)}; for glibc 2.28 or later, type: --platform manylinux_2_28_x86_64"
        )
    if (lemur := installed_folder()) is None:
        raise UserError(f"LEMUR's records are not installed; type: {INSTALL}")
    if out.exists() and not (out.is_dir() and is_free(out, INSTALLER)):
        raise UserError(f"'{out}' is not an empty folder; give another --out")
    package = preset(base).package
    folder = None if package else base_folder(base)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as made:
        (made / WHEELS).mkdir()
        _get_wheels(made / WHEELS, platform, python, [package] if package else [], torch)
        _pack_lemur(lemur, made / LEMUR)
        if folder is not None and folder not in SHIPPED:
            shutil.copytree(folder, made / BASE / folder.name)  # of a hub's cache, what its links lead to
        shutil.copy(Path(__file__).with_name(INSTALLER), made / INSTALLER)
        write_text(made / PYTHON, f"{python}\n")  # which the installer checks
        if torch == "none":
            write_text(made / TORCH, f"{_least_torch()}\n")  # likewise
        return {**{name: _size(made / name) for name in (WHEELS, LEMUR, BASE)}, "total": _size(made)}


def _least_python() -> str:
    """The oldest Python that all tested versions run on.

    Older ones have other requirements, which pip would need to be that Python to see.
    """
    own = metadata.metadata("nngpt-ext")["Requires-Python"].removeprefix(">=")
    return max([own, *re.findall(r'python_version >= "([\d.]+)"', _pins())], key=Version)


def _least_torch() -> str:
    (found,) = (one.specifier for one in requirements() if one.name == "torch")
    return next(part.version for part in found if part.operator == ">=")


def _pins() -> str:
    return (REPOSITORY / PINS).read_text(encoding="utf-8")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _get_wheels(target: Path, platform: str, python: str, packages: Iterable[str], torch: str) -> None:
    """The project's own wheel, all that it requires, and packages that are taken without their requirements."""
    constraints = ["-c", str(REPOSITORY / PINS)]
    here = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, "-d", str(target)]
    here += [f"--platform={name}" for name in _older(platform)]
    with tempfile.TemporaryDirectory() as stand_ins:
        _pip("wheel", "--no-deps", "-w", stand_ins, str(REPOSITORY))
        (own,) = Path(stand_ins).glob("*.whl")
        wanted = f"nngpt-ext{f'[{EXTRA}]' if packages else ''} @ {own.as_uri()}"
        found = _stand_in(Path(stand_ins)) if torch == "none" else None
        _pip(
            "download", *here, *constraints, "--find-links", stand_ins, wanted, *(["torch==" + found] if found else [])
        )
        for package in (*packages, "pip"):  # the other machine's pip may be too old to install from outside
            _pip("download", *here, "--no-deps", package)
        if found:
            (target / f"torch-{found}-py3-none-any.whl").unlink()


def _older(platform: str) -> list[str]:
    """A platform, and those whose wheels run there too: a newer glibc runs what was built for an older one."""
    _, _, minor, machine = platform.split("_", 3)
    newest = int(minor)
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
    return names + [f"manylinux{year}_{machine}" for year, minor in ((2014, 17), (2010, 12), (1, 5)) if minor <= newest]


def _stand_in(folder: Path) -> str:
    """A wheel of torch without content or requirements, later than the tested one; its version."""
    version = re.search(r"^torch==([\d.]+)", _pins(), re.MULTILINE)[1] + "+none"  # type: ignore[index]
    info = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: nngpt-ext\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return version


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        with tempfile.NamedTemporaryFile("w", prefix="nngpt_ext_pip_", suffix=".log", delete=False) as file:
            file.write(done.stdout + done.stderr)
        why = _why(done.stdout, done.stderr)
        raise UserError(f"pip {arguments[0]} failed ({shown(why, 300)[1:-1]}); it printed: {file.name}")


def _why(output: str, errors: str) -> str:
    """The part of what pip printed that says why it failed: of a conflict, what wants which version."""
    conflict = re.search(r"^The conflict is caused by:\n((?: +.+\n)+)", output + errors, re.MULTILINE)
    if conflict:
        return "; ".join(line.strip() for line in conflict[1].splitlines())
    lines = errors.splitlines()
    return " ".join([line for line in lines if line.startswith("ERROR:")] or lines)


def _pack_lemur(folder: Path, target: Path) -> None:
    """LEMUR's sources, and of its trials what is read, as an archive of a folder on Python's path."""
    distribution = metadata.distribution("nn-dataset")
    info = f"nn_dataset-{distribution.version}.dist-info"
    records = sorted(folder.glob(f"stat/train/{TASK}_*_{METRIC}_*/*.json"), key=lambda file: (file.name, file.parent))
    with tarfile.open(target, "w:xz", preset=6) as archive:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), _TIME
            archive.addfile(entry, io.BytesIO(content))

        add(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: nn-dataset\nVersion: {distribution.version}\n".encode())
        for file in (*sorted(folder.glob("nn/*.py")), *records):
            add(
                f"ab/nn/{file.relative_to(folder).as_posix()}",
                _slim(file.read_bytes()) if file.suffix == ".json" else file.read_bytes(),
            )


def _slim(trials: bytes) -> bytes:
    """A file of trials with the keys that are read; one that is damaged stays as it is."""
    try:
        kept = [{key: trial[key] for key in ("accuracy", *RECIPE) if key in trial} for trial in json.loads(trials)]
    except (ValueError, TypeError):
        return trials
    return json.dumps(kept, separators=(",", ":")).encode()
