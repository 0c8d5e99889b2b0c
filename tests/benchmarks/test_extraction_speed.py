"""`kinema bench features`: both ways give the same clips and are measured; no test looks at the times."""

import json

import pytest
import torch

from kinema.benchmarks import extraction_speed
from kinema.benchmarks.extraction_speed import measure_extraction
from kinema.benchmarks.tables import speed_table
from kinema.benchmarks.throughput import prepare_bench_videos
from kinema.cli import main
from kinema.data.transforms import EvalTransform
from kinema.data.untrimmed.clip_grid import ClipGrid


def test_the_command(tmp_path, capsys):
    arguments = ["bench", "features", "--folder", str(tmp_path), "--seconds", "1", "--rounds", "1", "--size", "32"]
    arguments += ["--clip-frames", "8", "--keyframes", "250", "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 0
    assert "each frame once" in capsys.readouterr().out
    results = json.loads((tmp_path / "rows.json").read_text())
    rows = results["1 s of 320 x 240, a keyframe every 250 frames"]["ways"]
    assert [row["name"] for row in rows] == ["each frame once", "clip by clip"] and rows[1]["ratio"] == 1
    assert results["grid"]["clip_frames"] == 8 and results["command"]
    assert "relative to clip by clip" in speed_table(results)


def test_times_of_different_clips_are_refused(tmp_path, monkeypatch):
    videos = prepare_bench_videos(tmp_path, num_videos=1, seconds=1, size=(64, 48), progress=False)
    once = extraction_speed._once
    monkeypatch.setattr(extraction_speed, "_once", lambda *args: (torch.flip(clip, [2]) for clip in once(*args)))
    with pytest.raises(RuntimeError, match=r"clip 0 of .* differs"):
        measure_extraction(videos, ClipGrid(4, 1, 8), EvalTransform(32), rounds=1)
