"""The notebooks of docs/notebooks: runs them, each in an empty folder, and writes what they print into them.

    python tests/docs/notebooks.py      `make notebooks`: all of them, as they stand, with a trained LeNet

test_notebooks.py runs them too, with shorter searches, and compares what they show with what is stored in them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LENET = ROOT / "weights" / "lenet.safetensors"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def run(path: Path, folder: Path, lenet: Path, change: Callable[[str], str] = str) -> Any:
    """A notebook with the outputs of all its cells, run in a folder from top to bottom.

    Args:
        lenet: the network of `quickstart`, which would be trained otherwise.
        change: makes of a cell's code what is run in its place.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    (folder / "weights").mkdir()
    shutil.copy(lenet, folder / "weights" / "lenet.safetensors")
    notebook = read(path)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        cell.source = change(cell.source) if cell.cell_type == "code" else cell.source
    # One thread: on a busy machine several that wait for each other take many times as long.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(folder)}
    # Code cells do not store when they ran, so that the same results are the same file.
    client = NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute(env=environment)
    for cell, source in zip(notebook.cells, sources):
        cell.source = source
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def shorter(code: str) -> str:
    """The same code with searches of three generations, and networks trained for few steps."""
    return re.sub(r"(?<=search\.generations=)\d+", "3", code).replace("in range(150)", "in range(15)")


def main() -> None:
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run(path, Path(folder), LENET), path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
