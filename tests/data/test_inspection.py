"""`kinema data check`'s engine: every file gets a verdict, and facts that a full decode confirms."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from kinema.data.inspection import inspect_video, inspect_videos

from painted import write_sound, write_video


def test_facts_of_a_whole_video(tmp_path):
    path = write_video(tmp_path / "video.mp4", 40, options={"g": "12", "x264-params": "scenecut=0"}, rotation=90)
    facts = inspect_video(path, sha256=True)
    assert facts.status == "ok"
    assert facts.reason == ""
    assert facts.path == str(path)
    assert facts.num_bytes == path.stat().st_size
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts.num_frames, facts.missing, facts.errors) == (40, (), 0)
    assert (facts.fps, facts.duration) == (25, Fraction(40, 25))
    assert (facts.width, facts.height) == (64, 96)
    assert (facts.codec, facts.container) == ("h264", "mov")
    assert (facts.first_timestamp, facts.variable_rate, facts.keyframe_interval) == (0, False, 12)
    assert inspect_video(path).sha256 == ""


def test_facts_of_an_uneven_late_video(tmp_path):
    steps = np.cumsum(np.random.default_rng(0).integers(1, 9, 30))
    late = write_video(
        tmp_path / "late.mp4", 30, times=[38_400 + 512 * int(step) for step in steps], time_base=Fraction(1, 12_800)
    )
    facts = inspect_video(late)
    assert facts.status == "ok"
    assert facts.variable_rate
    assert facts.first_timestamp == 3 + Fraction(int(steps[0]), 25)
    assert facts.keyframe_interval == 30


@pytest.mark.parametrize("rate", [24, 30])
def test_rounded_times_are_no_variable_rate(rate, tmp_path):
    """Matroska stores whole milliseconds: 33, 33, 34 ms is 30 frames per second."""
    facts = inspect_video(write_video(tmp_path / "video.mkv", 40, rate=rate))
    assert not facts.variable_rate
    assert float(facts.fps) == pytest.approx(rate, rel=2e-3)


@pytest.mark.parametrize("name", ["one.mp4", "one.mkv", "one.avi"])
def test_one_frame_is_a_video(name, tmp_path):
    facts = inspect_video(write_video(tmp_path / name, 1, codec="mpeg4"))
    assert (facts.status, facts.num_frames, facts.keyframe_interval) == ("ok", 1, 1)


def test_damage_is_counted_and_located(tmp_path):
    path = write_video(tmp_path / "video.mp4", 60, options={"g": "12", "x264-params": "scenecut=0"})
    import av

    with av.open(str(path)) as container:
        victim = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][25]
    content = bytearray(path.read_bytes())
    content[victim[0] : sum(victim)] = bytes(victim[1])
    path.write_bytes(content)
    facts = inspect_video(path)
    assert facts.status == "damaged"
    assert set(facts.missing) <= set(range(24, 36))
    assert len(facts.missing) >= 1
    assert facts.errors == 1
    assert facts.num_frames == 60
    assert (
        f"{len(facts.missing)} of 60 frames cannot be decoded exactly, the first is {facts.missing[0]}" in facts.reason
    )


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.avi"])
def test_cut_off_files_are_damaged(name, tmp_path):
    """Also where the rest decodes without an error."""
    options = {"container_options": {"movflags": "faststart"}} if name == "cut.mp4" else {}
    path = write_video(tmp_path / name, 60, options={"g": "12"}, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    facts = inspect_video(path)
    assert facts.status == "damaged"
    if name == "cut.mp4":
        assert facts.num_frames == 60
        assert facts.missing[-1] == 59
    else:
        assert facts.num_frames < 60
        assert "it was cut off" in facts.reason or "cannot be decoded" in facts.reason


def test_what_is_no_video_is_reported_not_raised(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\nother.ts\n")
    reasons = {
        "empty": "empty",
        "text": "text was given",
        "sound": "it holds audio",
        "list": "HLS playlist",
        "gone": "cannot be read",
    }
    for name, reason in reasons.items():
        facts = inspect_video(tmp_path / f"{name}.mp4")
        assert facts.status == "undecodable"
        assert reason in facts.reason
        assert facts.num_frames == 0
    assert inspect_video(tmp_path).status == "undecodable"


def test_a_video_of_broken_frames_is_undecodable(tmp_path):
    import av

    path = write_video(tmp_path / "video.mp4", 10)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in places:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    facts = inspect_video(path)
    assert facts.status == "undecodable"
    assert facts.reason == "none of its 10 frames decodes"
    assert len(facts.missing) == 10


@pytest.mark.parametrize("num_workers", [1, 3])
def test_many_videos_come_back_in_order(num_workers, tmp_path, capsys):
    paths = [write_video(tmp_path / f"{n}.mp4", 5 + n, codec="mpeg4") for n in range(6)]
    paths[2].write_bytes(b"")
    found = inspect_videos(paths, num_workers=num_workers, progress=True)
    assert [facts.path for facts in found] == [str(path) for path in paths]
    assert [facts.num_frames for facts in found] == [5, 6, 0, 8, 9, 10]
    assert [facts.status for facts in found] == ["ok", "ok", "undecodable", "ok", "ok", "ok"]
    assert found == inspect_videos(paths, num_workers=num_workers, progress=False)
    assert capsys.readouterr().out == ""


def test_no_videos_are_no_error():
    assert inspect_videos([], progress=False) == []
