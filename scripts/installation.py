"""Installs the built wheel as a user does, in environments of its own outside the clone, and uses it there.

python scripts/installation.py wheel          # README's uses, and what works without torch
python scripts/installation.py dependencies   # the oldest libraries that pyproject.toml allows, then the newest
python scripts/installation.py oldest         # prints the former, as constraints for pip
python scripts/installation.py host           # NNGPT's own environment as docs/host.md makes it, and our client in it

torch is that of constraints.txt throughout, for the host that of constraints-host.txt. The Python that runs this makes
the environments (--python: another one).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from nngpt_ext.host.installation import find_host
from nngpt_ext.host.process import bare_root

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SMALL = "--set data.train_networks=8 --set data.validation_networks=4 --set data.test_networks=4 --set tuning.epochs=1"
# The commands that need no language model, and three that say what to install for one.
WITHOUT_TORCH = (
    "--help", "tasks", "pairs", "baselines", "report runs/demo", "examples --out again", "export dataset --out pairs",
)  # fmt: skip
WITH_TORCH = (
    "run dataset_compare --config examples/demo.yaml --out runs/other",
    "compare --run runs/demo --code examples/alexnet.py mnist svhn",
    "rank --run runs/demo --code examples/alexnet.py",
    "score --run runs/demo --codes examples --out scores.parquet",
)
STORE = "from nngpt_ext import PredictionStore\nassert len({}) > 0"
REFUSED = """
from nngpt_ext import Predictor, UserError, run_task
code = open("examples/alexnet.py").read()
for use in (
    lambda: Predictor.from_run("runs/demo").compare(code, "mnist", "svhn"),
    lambda: run_task("dataset_compare", config="examples/demo.yaml", output_dir="runs/another"),
):
    try:
        use()
    except UserError as error:
        assert "torch, transformers and trl are not installed; type: " in str(error), error
    else:
        raise AssertionError("it worked")
"""

IN_HOST = """
import ab.gpt.TuneNNGen, ab.gpt.util.Tune
from nngpt_ext.host.agents import make_state
from nngpt_ext.host.node import dataset_compare_node
assert "dataset_ranking" in make_state().model_fields
print(dataset_compare_node({"nn_code": "x", "dataset_compare_run": "runs/demo"})["dataset_compare_error"])
"""


def oldest() -> list[str]:
    """The lower bound of each dependency, as a pin; that of torch is the tested one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [re.sub(r">=\s*([\w.]+)", r"==\1", line, count=1) for line in project["dependencies"]]
    return [tested_torch() if pin.startswith("torch==") else pin for pin in pins]


def tested_torch() -> str:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(pin for pin in pins if pin.startswith("torch=="))


def readme_blocks() -> dict[str, list[str]]:
    """The blocks of README's section about use, by language."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Use it\n")[1].split("\n## ")[0]
    found: dict[str, list[str]] = {}
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        found.setdefault(language, []).append(text)
    return found


class Environment:
    """A virtual environment beside a project's folder, where neither the clone nor its packages are on the path."""

    def __init__(self, folder: Path, name: str, python: str) -> None:
        self.bin, self.place = folder / name / "bin", folder / "project"
        self.place.mkdir(exist_ok=True)
        subprocess.run([python, "-m", "venv", folder / name], check=True)

    def do(self, command: str, code: int = 0) -> str:
        """Run a shell command and return its standard error; anything but the exit code `code` ends this script."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        outside["PATH"] = f"{self.bin}{os.pathsep}{outside['PATH']}"
        print(f"$ {command}", flush=True)
        done = subprocess.run(
            ["bash", "-ec", command], cwd=self.place, env=outside, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode != code or "Traceback" in done.stderr:
            print(f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}, not {code}: {command}")
            raise SystemExit(1)
        return done.stderr

    def python(self, text: str) -> None:
        file = self.place / "use.py"
        file.write_text(text, encoding="utf-8")
        self.do("python use.py")

    def use(self) -> None:
        """A small run, then everything that README says about use."""
        self.do("rm -rf runs examples nngpt.yaml hub again && nngpt-ext examples")
        self.do(f"nngpt-ext run dataset_compare --config examples/demo.yaml --out runs/demo {SMALL}")
        blocks = readme_blocks()
        ask, small, query = blocks["python"]
        self.python(f"{ask}\nassert c.winner in ('mnist', 'svhn') and len(predictor.rank(code).datasets) == 7")
        for command in blocks["bash"]:
            self.do(command)
        self.python(f"{small}\nassert len(result.report.per_dataset) > 0")
        # The third use, on a base model that needs no hub.
        (self.place / "nngpt.yaml").write_text(blocks["yaml"][0], encoding="utf-8")
        own = 'run_task("dataset_compare", model={"base": "embedded"}, data=small, tuning={"epochs": 1})'
        self.python(f"{small.splitlines()[0]}\n{small.splitlines()[2]}\nassert {own}.output_dir.name == 'code_only'")
        self.python(STORE.format(query.partition("  #")[0].replace("0.9", "0.5")))
        self.do("nngpt-ext baselines")
        self.do("nngpt-ext export hub --run runs/demo --out hub")
        self.do("nngpt-ext doctor")

    def versions(self) -> None:
        self.do("pip check || true")
        print(subprocess.check_output([self.bin / "pip", "list", "--format=freeze"], text=True))


def build(folder: Path) -> Path:
    """Build the wheel from a source distribution, so that both are whole."""
    for target, source in (("sdist", ROOT), ("wheel", None)):
        if source is None:
            (archive,) = folder.glob("*.tar.gz")
            subprocess.run(["tar", "xzf", archive, "-C", folder], check=True)
            source = folder / archive.name.removesuffix(".tar.gz")
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder]
        subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(folder: Path, wheel: Path, python: str) -> None:
    lemur = "pip install -q --no-deps nn-dataset==2.1.2"
    whole = Environment(folder, "whole", python)
    whole.do(f"pip install -q {wheel} {tested_torch()} && {lemur}")
    whole.use()
    light = Environment(folder, "light", python)
    light.do(f"pip install -q --no-deps {wheel} && pip install -q $(python -m nngpt_ext.light) && {lemur}")
    for command in WITHOUT_TORCH:
        light.do(f"nngpt-ext {command}")
    for command in WITH_TORCH:
        said = light.do(f"nngpt-ext {command}", code=2).splitlines()[-1]
        assert said.startswith("error: a light installation loads no language model: "), said
    light.do("nngpt-ext doctor", code=1)
    light.python(STORE.format(readme_blocks()["python"][2].partition("  #")[0].replace("0.9", "0.5")))
    light.python(REFUSED)


def install_dependencies(folder: Path, wheel: Path, python: str) -> None:
    (folder / "oldest.txt").write_text("\n".join(oldest()), encoding="utf-8")
    one = Environment(folder, "dependencies", python)
    one.do(f"pip install -q -c {folder / 'oldest.txt'} {wheel} && pip install -q --no-deps nn-dataset==2.1.2")
    one.versions()
    one.use()
    one.do(f"pip install -q --upgrade --upgrade-strategy eager {wheel} {tested_torch()}")
    one.versions()
    one.use()


def install_host(folder: Path, python: str) -> None:
    place = folder / "clone"
    place.mkdir()
    for name in ("constraints-host.txt", "client", "nngpt_ext"):
        (place / name).symlink_to(ROOT / name)
    section = (ROOT / "docs" / "host.md").read_text(encoding="utf-8").split("\n## NNGPT's own tuner\n")[1]
    commands = re.search(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1].splitlines()  # type: ignore[index]
    for command in (*commands, "nngpt-env/bin/pip install ./client"):
        print(f"$ {command}", flush=True)
        subprocess.run(["bash", "-ec", command.replace("python -m venv", f"{python} -m venv")], cwd=place, check=True)
    (site,) = (place / "nngpt-env" / "lib").glob("python3.*/site-packages")
    with bare_root(find_host(site)) as root:
        subprocess.run([place / "nngpt-env" / "bin" / "python", "-c", IN_HOST], cwd=root, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["wheel", "dependencies", "oldest", "host"])
    parser.add_argument("--python", default=sys.executable, help="makes the environments")
    parser.add_argument("--dist", type=Path, help="keep the wheel and the source distribution in this folder")
    given = parser.parse_args()
    if given.what == "oldest":
        print("\n".join(oldest()))
        return
    with tempfile.TemporaryDirectory(prefix="nngpt_ext.") as made:
        folder = Path(made)
        if given.what == "host":
            install_host(folder, given.python)
            print("everything worked")
            return
        wheel = build(folder)
        install = install_wheel if given.what == "wheel" else install_dependencies
        install(folder, wheel, given.python)
        if given.dist:
            given.dist.mkdir(exist_ok=True)
            for file in (*folder.glob("*.whl"), *folder.glob("*.tar.gz")):
                (given.dist / file.name).write_bytes(file.read_bytes())
    print("everything worked")


if __name__ == "__main__":
    main()
