"""Run the notebooks in full mode and save them with their outputs: all of them, or those whose names are given.

python -m notebooks.execute 01_first_tile
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
_PROGRESS = re.compile(r"^.*: \d+/\d+, about .* s left .*\n", re.MULTILINE)


def execute(path: Path, folder: Path, timeout_s: int = 900) -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel in `folder`; a cell that fails or takes too long raises."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout_s,
        startup_timeout=timeout_s,
        kernel_name="python3",
        record_timing=False,  # a run that changes nothing then changes no file
        resources={"metadata": {"path": str(folder)}},
    )
    quiet = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}  # bars of the model loader
    client.execute(env={**os.environ, **quiet})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
    return notebook


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether an output holds nothing but how far a long run was; warnings stay."""
    return output.get("name") == "stderr" and not _PROGRESS.sub("", output.text).strip()


if __name__ == "__main__":
    for path in [FOLDER / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        nbformat.write(execute(path, FOLDER), path)
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size / 1024:.0f} kB")
