"""`kinema bench`: everything is measured and printed; no test looks at the times."""

import json
from functools import partial

import pytest

from kinema.benchmarks import preparation_speed
from kinema.benchmarks.augmentation_speed import compare_rand_augment
from kinema.benchmarks.tables import speed_table
from kinema.cli import main


@pytest.mark.slow
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


@pytest.mark.slow
def test_loaders_decoders_and_memory(tmp_path, capsys):
    arguments = ["bench", "data", "--folder", str(tmp_path), "--num-videos", "2", "--seconds", "3", "--rounds", "1"]
    assert main([*arguments, "--memory-clips", "20", "--json", str(tmp_path / "rows.json")]) == 0
    out = capsys.readouterr().out
    assert "8 segments: clips per second" in out and "16 x 4 dense: processor time" in out and "memory over" in out
    results = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in results["8 segments"]["loaders"]] == ["kinema", "pytorchvideo"]


@pytest.mark.slow
def test_sources_and_augmentation(tmp_path, capsys, monkeypatch):
    pytest.importorskip("litdata")
    monkeypatch.setattr("kinema.benchmarks.data_sources._PASSES", 1)
    arguments = ["bench", "data", "--what", "sources", "--folder", str(tmp_path), "--num-videos", "2", "--seconds", "1"]
    arguments += ["--gop", "10", "--sizes", "96x64", "--rounds", "1", "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 0
    assert "8 segments, 96x64, a keyframe every 10 frames, 0 workers: clips per second" in capsys.readouterr().out
    results = json.loads((tmp_path / "rows.json").read_text())
    names = ["files", "shards", "shards through litdata", "pictures", "frame cache"]
    assert [[row["name"] for row in setting["rows"]] for setting in results["sources"]] == [names] * 2
    assert results["sources"][0]["rows"][0]["ratio"] == 1
    table = speed_table(
        results | {"augmentation": [{"name": "a", "cpu_ms": 1, "ratio": 2, "ratio_low": 1, "ratio_high": 3}]}
    )
    assert "| 8 segments | 96 x 64 | 10 | 0 | " in table and "| a | 1.0 | 2.00 | 1.00 to 3.00 |" in table
    assert main([*arguments, "--sizes", "97x64"]) == 1
    assert "'97x64' is no size of a video; give even width and height" in capsys.readouterr().err


def test_preparation_with_one_worker_and_two(tmp_path, capsys, monkeypatch):
    compare = preparation_speed.compare_workers
    monkeypatch.setattr(preparation_speed, "compare_workers", partial(compare, copies=2, reencoded_copies=1))
    arguments = [
        "bench",
        "data",
        "--what",
        "preparation",
        "--folder",
        str(tmp_path),
        "--num-videos",
        "2",
        "--seconds",
        "1",
    ]
    arguments += ["--sizes", "96x64", "--workers", "1", "2", "--rounds", "1", "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 0
    assert "kinema data reencode   2 videos, 2 workers" in capsys.readouterr().out
    results = json.loads((tmp_path / "rows.json").read_text())
    told = [
        (row["name"].split()[-1], row["workers"], row["videos"], row["faster"] == 1) for row in results["preparation"]
    ]
    assert told[0] == ("prepare", 1, 4, True) and told[2] == ("reencode", 1, 2, True) and len(told) == 4
    assert "| kinema data prepare, 4 videos | 2 | " in speed_table(results)
    assert not list(tmp_path.glob("*/"))  # nothing is left but the videos


def test_rand_augment_is_compared_on_equal_terms():
    rows = compare_rand_augment(size=16, num_frames=2, rounds=2, clips=2)
    assert [row.name for row in rows][2:4] == ["kinema, bicubic", "torchvision, nearest"]
    assert [row.ratio for row in rows if "torchvision" in row.name] == [1, 1] and all(row.cpu_ms > 0 for row in rows)


@pytest.mark.slow
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
