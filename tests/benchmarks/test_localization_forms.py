"""The yardsticks of localization compute what kinema computes."""

import json

import pytest
import torch

from kinema.benchmarks.localization import compare_loops, held_mib, made_videos, matching_forms
from kinema.cli import main


def test_dense_and_sparse_matching_are_one():
    torch.manual_seed(0)
    forms = matching_forms(9, 6, 4, 5)
    x = torch.randn(2, 4, 9)
    product, convolved, sparse, ours = (form(x) for form in forms.values())
    torch.testing.assert_close(sparse, product, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours, convolved, rtol=1e-5, atol=1e-5)
    assert product.shape == (2, 4, 32, 6, 9) and ours.shape == (2, 5, 6, 9)
    dense, ours = (held_mib(forms[name]) for name in ("dense product", list(forms)[-1]))
    assert dense == pytest.approx(4 * 9 * 32 * 6 * 9 / 2**20) and ours > 0


def test_loops_that_compute_something_else_measure_nothing(monkeypatch):
    made = made_videos(3, 6, 3)
    rows = compare_loops(made, rounds=1)
    assert [row.name for row in rows] == ["plain loops", "kinema"] and rows[0].faster == 1
    monkeypatch.setattr("kinema.benchmarks.localization.at_once", lambda made, num_labels: 0.5)
    with pytest.raises(RuntimeError, match="one of them is wrong"):
        compare_loops(made, rounds=1)


def test_the_command_writes_both_parts(tmp_path, capsys):
    sizes = [
        "--num-bins=6",
        "--max-bins=4",
        "--channels=4",
        "--outputs=4",
        "--videos=4",
        "--proposals=5",
        "--classes=3",
    ]
    assert main(["bench", "localization", *sizes, "--rounds=1", f"--json={tmp_path / 'bench.json'}"]) == 0
    said, written = capsys.readouterr().out, json.loads((tmp_path / "bench.json").read_text())
    assert "boundary matching, forward" in said and "times as fast as plain loops" in said
    assert written["matching"]["rows"][0]["memory_ratio"] == 1 and len(written["matching"]["rows"]) == 4
    assert [row["name"] for row in written["loops"]["rows"]] == ["plain loops", "kinema"] and written["commit"]
    assert main(["bench", "localization", *sizes, "--rounds=1", "--only=loops"]) == 0
    assert "boundary matching" not in capsys.readouterr().out
