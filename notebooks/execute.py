"""Run the notebooks in full mode and save them with their outputs: all of them, or those whose names are given.

python -m notebooks.execute 01_first_tile
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def execute(path: Path, folder: Path, timeout_s: int = 600) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel in `folder`; a cell that fails or takes too long raises."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout_s,
        kernel_name="python3",
        record_timing=False,  # a run that changes nothing then changes no file
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


if __name__ == "__main__":
    for path in [FOLDER / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        nbformat.write(execute(path, FOLDER), path)
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size / 1024:.0f} kB")
