"""Every notebook runs from its first cell to its last at small size; those committed are whole, small, and of no machine."""

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import REPOSITORY

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))
LARGEST = 600_000  # bytes
PATHS = re.compile(r"(?<![\w.~}])/(?:home|root|work|tmp|opt|mnt|data|scratch|Users|private|usr|var)/|[A-Z]:\\\\")


def test_all_of_them_are_found():
    # Add to this number with every notebook: a test that silently saw fewer would pass.
    assert len(NOTEBOOKS) == 4, NOTEBOOKS
    table = (FOLDER / "README.md").read_text()
    assert all(f"]({path.relative_to(FOLDER)})" in table for path in NOTEBOOKS), "the table names every notebook"


def outputs_of(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def texts_of(output):
    """What an output says, pictures left out."""
    if "text" in output:
        yield output["text"]
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield content if isinstance(content, str) else json.dumps(content)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, motion_root, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "motion").symlink_to(motion_root)
    monkeypatch.setenv("KINEMA_NOTEBOOK_SMALL", "1")
    monkeypatch.setenv("KINEMA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # tqdm warns, when Lightning is imported, of bars that a notebook without ipywidgets cannot have.
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for name in ("WANDB_PROJECT", "KINEMA_EXPERIMENTS", "KINEMA_RUN", "KINEMA_RUN_TSN", "KINEMA_RUN_TSM"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KINEMA_RUN_TADA2D", "KINEMA_RUN_TIMESFORMER"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(path, as_version=4)
    committed = path.read_bytes()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert path.read_bytes() == committed
    complaints = [output["text"] for output in outputs_of(notebook) if output.get("name") == "stderr"]
    assert not complaints, "".join(complaints)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_committed_with_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert "**Your own" in notebook.cells[0].source, "how to give it one's own runs or data"
    ran = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert ran == list(range(1, len(ran) + 1)), "run from top to bottom, once"
    assert not [output for output in outputs_of(notebook) if output.output_type == "error"]
    assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs_of(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_of_no_machine(path):
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    said = [cell.source for cell in notebook.cells]
    said += [text for output in outputs_of(notebook) for text in texts_of(output)]
    found = [text[:200] for text in said if PATHS.search(text)]
    assert not found, found
    assert not [cell.metadata for cell in notebook.cells if "execution" in cell.metadata], "times of a run"


def test_a_path_of_a_machine_is_seen():
    assert PATHS.search("see /home/me/runs") and PATHS.search("'/tmp/x'")
    assert not PATHS.search("~/.cache/kinema and ../experiments/data/ and $KINEMA_DATA or a/usr/b")
