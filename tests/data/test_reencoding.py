"""Re-encoded sets: which frames, how they lie in the file, what is kept, and what is refused."""

import csv
import errno
import json
from fractions import Fraction

import av
import numpy as np
import pytest
from torchvision.transforms.v2.functional import resize

from kinema.cli import main
from kinema.data import reencoding
from kinema.data.alone import Busy, alone
from kinema.data.decoding import open_video
from kinema.data.decoding.pyav_reader import PyAVReader
from kinema.data.motion.encoding import encode_mp4
from kinema.data.reencoding import Encoding, ReencodingError, frame_numbers, reencode_set, reencode_video

from painted import numbers_in, paint, write_video


def read(path):
    with open_video(path) as video:
        return numbers_in(video.decode(range(video.num_frames))), video.fps, (video.width, video.height)


def keyframes(path):
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [i for i, packet in enumerate(packets) if packet.is_keyframe]


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "videos"
    (root / "a").mkdir(parents=True)
    write_video(root / "a" / "one.mp4", 30)
    write_video(root / "two.mp4", 20)
    return root


def test_every_frame_is_there_at_the_rate_it_had(source, tmp_path):
    reencode_video(source / "a" / "one.mp4", tmp_path / "one.mp4", Encoding())
    numbers, fps, size = read(tmp_path / "one.mp4")
    before = read(source / "a" / "one.mp4")
    assert numbers == list(range(30)) == before[0] and fps == before[1]
    assert size == before[2]  # never enlarged


def test_keyframes_and_the_index_lie_where_training_wants_them(source, tmp_path):
    reencode_video(source / "a" / "one.mp4", tmp_path / "one.mp4", Encoding(keyframe_interval=7))
    assert keyframes(tmp_path / "one.mp4") == [0, 7, 14, 21, 28]
    content = (tmp_path / "one.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_a_cut_is_no_keyframe(tmp_path):
    pictures = [np.full((64, 96, 3), 20, np.uint8)] * 10 + [paint(i) for i in range(14)]
    (tmp_path / "cut.mp4").write_bytes(encode_mp4(np.stack(pictures), intra_only=False))
    reencode_video(tmp_path / "cut.mp4", tmp_path / "again.mp4", Encoding(keyframe_interval=12))
    assert keyframes(tmp_path / "again.mp4") == [0, 12]


def test_a_video_on_its_side_comes_out_upright(tmp_path):
    write_video(tmp_path / "phone.mp4", 6, rotation=90)
    reencode_video(tmp_path / "phone.mp4", tmp_path / "upright.mp4", Encoding(short_side=32))
    with open_video(tmp_path / "phone.mp4") as before, open_video(tmp_path / "upright.mp4") as after:
        assert (before.width, before.height, after.width, after.height) == (64, 96, 32, 48)
        wanted = resize(before.decode([0, 5]), [48, 32], antialias=True).float()
        assert (after.decode([0, 5]).float() - wanted).abs().mean() < 12


def test_the_short_side_and_even_sizes(source, tmp_path):
    reencode_video(source / "a" / "one.mp4", tmp_path / "one.mp4", Encoding(short_side=33))
    assert read(tmp_path / "one.mp4")[2] == (48, 32)  # 49.5 x 33


def test_another_rate_repeats_and_leaves_out_frames(source, tmp_path):
    rate = read(source / "a" / "one.mp4")[1]
    reencode_video(source / "a" / "one.mp4", tmp_path / "slow.mp4", Encoding(fps=float(rate / 2)))
    numbers, fps, _ = read(tmp_path / "slow.mp4")
    assert (
        fps == rate / 2 and len(numbers) == 15 and all(number in (2 * k, 2 * k + 1) for k, number in enumerate(numbers))
    )
    reencode_video(source / "a" / "one.mp4", tmp_path / "fast.mp4", Encoding(fps=float(rate * 2)))
    assert read(tmp_path / "fast.mp4")[0] == [k // 2 for k in range(60)]


def test_lots_join_without_a_seam(source, tmp_path, monkeypatch):
    monkeypatch.setattr(reencoding, "_FRAMES_AT_ONCE", 8)
    reencode_video(source / "a" / "one.mp4", tmp_path / "one.mp4", Encoding())
    assert read(tmp_path / "one.mp4")[0] == list(range(30))


def test_frame_numbers_of_uneven_times():
    times = [Fraction(t, 10) for t in (0, 1, 4, 5)]  # the second is shown three times as long
    assert frame_numbers(times, Fraction(6, 10), Fraction(10)) == [0, 1, 1, 1, 2, 3]
    assert frame_numbers(times, Fraction(6, 10), Fraction(5)) == [1, 1, 3]
    assert frame_numbers([Fraction(0)], Fraction(1, 100), Fraction(10)) == [0]
    ntsc = [Fraction(1001 * i, 30000) for i in range(300)]
    assert frame_numbers(ntsc, Fraction(1001 * 300, 30000), Fraction(30000, 1001)) == list(range(300))


def test_a_set_keeps_its_folders_and_goes_on(source, tmp_path, capsys):
    out = tmp_path / "small"
    assert main(["data", "reencode", str(source), str(out), "--workers", "2"]) == 0
    assert "2 videos encoded, 0 were there" in capsys.readouterr().out
    assert read(out / "a" / "one.mp4")[0] == list(range(30)) and read(out / "two.mp4")[0] == list(range(20))
    held = (out / "two.mp4").stat().st_mtime_ns
    (out / "a" / "one.mp4").unlink()
    done = reencode_set(source, out, progress=False)
    assert (done.written, done.kept, done.unreadable) == (1, 1, {})
    assert (out / "two.mp4").stat().st_mtime_ns == held
    assert json.loads((out / "reencoding.json").read_text())["keyframe_interval"] == 12
    assert not list(out.rglob("*unfinished*"))


def test_what_cannot_be_read_is_listed_and_not_written(source, tmp_path, capsys):
    (source / "broken.mp4").write_bytes(b"no video")
    whole = (source / "two.mp4").read_bytes()
    (source / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    out = tmp_path / "small"
    assert main(["data", "reencode", str(source), str(out)]) == 1
    told = capsys.readouterr().out
    assert "broken.mp4: " in told and "2 cannot be read, see" in told
    rows = list(csv.DictReader((out / "unreadable.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["broken.mp4", "cut.mp4"] and all(row["reason"] for row in rows)
    assert sorted(path.name for path in out.rglob("*.mp4")) == ["one.mp4", "two.mp4"]
    (source / "broken.mp4").unlink()
    (source / "cut.mp4").unlink()
    assert main(["data", "reencode", str(source), str(out)]) == 0
    assert not (out / "unreadable.csv").exists()


def test_a_frame_that_is_not_exact_spoils_the_video(source, tmp_path, monkeypatch):
    decode = PyAVReader._decode_into

    def one_lost(self, canvas):
        decode(self, canvas)  # the frame was drawn before its packet turned out to be damaged
        return [3] if "two" in self.name and isinstance(canvas, reencoding._SmallFrames) else []

    monkeypatch.setattr(PyAVReader, "_decode_into", one_lost)
    done = reencode_set(source, tmp_path / "small", progress=False)
    assert done.written == 1 and list(done.unreadable) == ["two.mp4"]
    assert "1 of 20 frames cannot be decoded exactly, the first is 3" in done.unreadable["two.mp4"]
    assert not (tmp_path / "small" / "two.mp4").exists()


def test_a_full_disk_leaves_what_was_written_whole(source, tmp_path, monkeypatch):
    encode, calls = reencoding._encode, []

    def full(video, target, encoding):
        encode(video, target, encoding)
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reencoding, "_encode", full)
    out = tmp_path / "small"
    with pytest.raises(
        ReencodingError, match="the disk is full; what was written is whole, and the same command goes on"
    ):
        reencode_set(source, out, num_workers=1, progress=False)
    assert [path.name for path in out.rglob("*.mp4")] == ["one.mp4"] and not list(out.rglob("*unfinished*"))
    monkeypatch.setattr(reencoding, "_encode", encode)
    assert reencode_set(source, out, progress=False).written == 1


def test_what_a_killed_run_left_is_swept_away_and_half_a_note_is_told(source, tmp_path):
    out = tmp_path / "small"
    (out / "a").mkdir(parents=True)
    (out / "a" / ".one.mp4.4711.unfinished").write_bytes(b"half a video")
    assert reencode_set(source, out, progress=False).written == 2
    assert not list(out.rglob("*unfinished*"))
    with (
        alone(out / ".lock", "encoding"),
        pytest.raises(Busy, match=r"another process is encoding videos into .*small"),
    ):
        reencode_set(source, out, progress=False)
    (out / "reencoding.json").write_text("")
    with pytest.raises(ReencodingError, match=r"reencoding\.json cannot be read"):
        reencode_set(source, out, progress=False)


def test_what_does_not_fit_is_refused(source, tmp_path):
    out = tmp_path / "small"
    reencode_set(source, out, progress=False)
    with pytest.raises(ReencodingError, match=r"holds videos encoded with \{'short_side': 256\}"):
        reencode_set(source, out, Encoding(short_side=128), progress=False)
    with pytest.raises(ReencodingError, match="lies within"):
        reencode_set(source, source / "small", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReencodingError, match="no video below"):
        reencode_set(tmp_path / "empty", tmp_path / "x", progress=False)
    with pytest.raises(ReencodingError, match="is no folder"):
        reencode_set(tmp_path / "nowhere", tmp_path / "x", progress=False)
    write_video(source / "two.mkv", 5)
    with pytest.raises(ReencodingError, match="would both become"):
        reencode_set(source, tmp_path / "y", progress=False)
    with pytest.raises(ValueError, match="quality from 0 to 51"):
        Encoding(quality=60)
    with pytest.raises(ValueError, match="fps must be above 0"):
        Encoding(fps=0)
