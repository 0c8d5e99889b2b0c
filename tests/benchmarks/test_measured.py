"""Every benchmark file of the repository has its tables, also those of growth."""

import json

import pytest

from kinema.benchmarks.measured import measured_table

from conftest import REPOSITORY

FILES = sorted((REPOSITORY / "experiments").glob("*/*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_files_of_the_repository(file):
    text = measured_table(file)
    told = json.loads(file.read_text())
    assert text.startswith("|") and told["command"] in text and told["commit"][:10] in text
    for row in [*told.get("forward", []), *told.get("exports", [])]:
        assert row["name"] in text


def test_growth(tmp_path):
    facts = {"command": "kinema bench growth", "commit": "abcdefghijkl", "uncommitted_changes": False, "machine": "it"}
    rows = [
        {"name": "a", "num_frames": 8, "median_ms": 12.0, "peak_memory_mib": 3.0, "failure": None},
        {"name": "a", "num_frames": 16, "median_ms": None, "peak_memory_mib": None, "failure": "out of memory"},
    ]
    told = facts | {"cores": 2, "torch": "2", "threads": 1, "size": 64, "forward": rows, "forward_backward": rows[:1]}
    (tmp_path / "growth.json").write_text(json.dumps(told))
    text = measured_table(tmp_path / "growth.json")
    assert "forward, frames of 64 pixels, 1 thread" in text and "T = 16" in text and "out of memory" in text
    assert "forward + backward, frames of 64 pixels" in text and text.endswith("torch 2.")
