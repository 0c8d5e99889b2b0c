"""Execute notebooks in place, as they are committed: with outputs, without times and paths of this machine, pictures small."""

import argparse
import base64
import io
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image
from rich.progress import track

COLOURS = 256
"""Of a picture. The noise of video frames in full colour would take four times the room."""
QUIET = "ignore:IProgress not found"
"""tqdm warns, when Lightning is imported, of bars that a notebook without ipywidgets cannot have."""


def execute(path: Path, *, timeout_s: int = 3600) -> None:
    """Run one notebook from its folder and write it back.

    Raises:
        CellExecutionError: If a cell fails; the notebook is left as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=timeout_s, resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            _shrink(output)
    nbformat.write(notebook, path)


def _shrink(output: Any) -> None:
    data = output.get("data", {})
    if "image/png" in data:
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        smaller = io.BytesIO()
        picture.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(smaller, format="png", optimize=True)
        data["image/png"] = base64.b64encode(smaller.getvalue()).decode()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", QUIET)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path, nargs="+", help="such as notebooks/*.ipynb")
    for path in track(parser.parse_args().notebooks, "Notebooks"):
        execute(path)
