"""`kinema bench`: everything is measured and printed; no test looks at the times."""

import json

import pytest

from kinema.benchmarks.tables import speed_table
from kinema.cli import main


def test_networks_side_by_side(tmp_path, capsys):
    arguments = ["bench", "model", "tsn_nano", "tsm_nano:shift_fraction=0.5", "--num-classes", "4", "--size", "32"]
    assert main([*arguments, "--rounds", "2", "--json", str(tmp_path / "rows.json")]) == 0
    out = capsys.readouterr().out
    assert "forward + backward, clip 1 x 3 x 8 x 32 x 32" in out
    results = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in results["forward"]] == ["tsn_nano", "tsm_nano:shift_fraction=0.5"]
    assert results["forward"][0]["ratio"] == 1 and len(results["commit"]) in (0, 40) and results["machine"]


def test_an_unknown_network(capsys):
    assert main(["bench", "model", "tsn_nan"]) == 1
    assert "tsn_nano" in capsys.readouterr().err


def test_loaders_decoders_and_memory(tmp_path, capsys):
    arguments = ["bench", "data", "--folder", str(tmp_path), "--num-videos", "2", "--seconds", "3", "--rounds", "1"]
    assert main([*arguments, "--memory-clips", "20", "--json", str(tmp_path / "rows.json")]) == 0
    out = capsys.readouterr().out
    assert "8 segments: clips per second" in out and "16 x 4 dense: processor time" in out and "memory over" in out
    results = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in results["8 segments"]["loaders"]] == ["kinema", "pytorchvideo"]


@pytest.mark.parametrize(("kind", "size"), [("calibrated", "8x8"), ("operators", "16x8"), ("depthwise", "4x6x5")])
def test_layers(kind, size, tmp_path, capsys):
    path = tmp_path / "layers.json"
    arguments = ["bench", "layers", size, "--kind", kind, "--rounds", "1", "--num-frames", "3", "--json", str(path)]
    assert main(arguments) == 0
    assert ("tadaconv_v2" if kind == "operators" else "kinema") in capsys.readouterr().out
    table = speed_table(json.loads(path.read_text(encoding="utf-8")))
    assert table.count("| ratio (quartiles) |" if kind == "operators" else "of one layer") == 2


@pytest.mark.parametrize("size", ["8", "8x8x4", "8xa", "8x8x3x3"])
def test_what_is_no_layer_is_told(size, capsys):
    assert main(["bench", "layers", size]) == 1
    assert "give" in capsys.readouterr().err
