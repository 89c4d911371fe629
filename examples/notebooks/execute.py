"""Execute the notebooks beside this file, and write them back with outputs: `python examples/notebooks/execute.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(file: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom; the first error ends it and is raised.

    Args:
        file: the notebook, which stays as it is.
        folder: the kernel's working folder.
        parameters: assigned below the cell that is tagged `parameters`.
    """
    notebook = nbformat.read(file, as_version=4)
    if parameters:
        tagged = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(text))
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}}, record_timing=False)
    return client.execute()


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs between machines, and without the progress that is no longer on the screen."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            for out in cell.outputs:
                if out.get("name") == "stderr":
                    out.text = remaining(out.text)
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr" or out.text]
    return notebook


def remaining(text: str) -> str:
    """What a screen shows of a stream in the end: progress bars draw over their own line."""
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return "".join(f"{line}\n" for line in lines if line)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        nbformat.write(cleaned(execute(path, HERE)), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
