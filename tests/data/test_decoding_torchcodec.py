"""torchcodec, where it is installed and finds FFmpeg, gives the very same frames; where not, that is said plainly."""

import random
import sys
import warnings
from fractions import Fraction

import pytest
import torch

from kinema.data.decoding import DecodeError, open_video
from kinema.data.decoding.torchcodec_reader import load_torchcodec

from painted import numbers_in, write_video

try:
    load_torchcodec()
    absent = ""
except ImportError as error:
    absent = str(error)
needs_torchcodec = pytest.mark.skipif(bool(absent), reason=absent)

VIDEOS = {
    "gop_12.mp4": {"options": {"g": "12"}},
    "one_keyframe.mkv": {},
    "open_gop.mp4": {"num_frames": 80, "options": {"g": "10", "x264-params": "open-gop=1:scenecut=0"}},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "uneven_times.mp4": {"times": [512 * n * n for n in range(40)], "time_base": Fraction(1, 12_800)},
    "starts_at_3_s.mp4": {"times": [38_400 + 512 * n for n in range(40)], "time_base": Fraction(1, 12_800)},
    "odd_size.webm": {"codec": "libvpx-vp9", "size": (97, 65)},
    "one_frame.mp4": {"num_frames": 1},
    "sound.mp4": {"audio": True},
}
READ_WITH_PYAV = {
    "h264.ts": {"container": "mpegts"},
    "h264.avi": {},
    "turned.mp4": {"rotation": 90},
}


@needs_torchcodec
@pytest.mark.parametrize("name", VIDEOS)
def test_same_frames_from_both_decoders(name, tmp_path):
    path = write_video(tmp_path / name, **VIDEOS[name])
    draw = random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_video(path, "pyav") as one, open_video(path, "torchcodec") as other:
            assert other.num_frames == one.num_frames
            assert other.timestamps == one.timestamps
            assert (other.duration, other.fps, other.width, other.height) == (
                one.duration,
                one.fps,
                one.width,
                one.height,
            )
            for count in (1, 3, 8):
                request = [draw.randrange(one.num_frames) for _ in range(count)]
                frames = other.decode(request)
                assert numbers_in(frames) == request
                assert torch.equal(frames, one.decode(request))
                assert frames.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(other.decode([0]), one.decode([0]))


@needs_torchcodec
@pytest.mark.parametrize("name", READ_WITH_PYAV)
def test_what_torchcodec_gets_wrong_is_read_with_pyav(name, tmp_path):
    path = write_video(tmp_path / name, **READ_WITH_PYAV[name])
    with pytest.warns(UserWarning, match="are read with PyAV instead"), open_video(path, "torchcodec") as other:
        request = [33, 2, 17]
        with open_video(path) as one:
            assert torch.equal(other.decode(request), one.decode(request))


@needs_torchcodec
def test_bytes_and_bad_input(tmp_path):
    path = write_video(tmp_path / "video.mp4")
    with open_video(path.read_bytes(), "torchcodec") as video:
        assert numbers_in(video.decode([7, 7, 39])) == [7, 7, 39]
    (tmp_path / "text.mp4").write_text("#EXTM3U\nvideo.mp4\n")
    with pytest.raises(DecodeError, match="an HLS playlist"):
        open_video(tmp_path / "text.mp4", "torchcodec")


@needs_torchcodec
def test_another_frame_than_the_wanted_one_is_noticed(tmp_path):
    with open_video(write_video(tmp_path / "video.mp4"), "torchcodec") as video:
        actual = video._decoder

        class OneLate:
            def get_frames_at(self, indices):
                return actual.get_frames_at([index + 1 for index in indices])

        video._decoder = OneLate()
        with pytest.raises(DecodeError, match=r"torchcodec returned other frames than the frames \[3, 9\] asked for"):
            video.decode([9, 3])
        assert video.report.missing == [3, 9]


def test_without_torchcodec_the_way_out_is_told(tmp_path, monkeypatch):
    path = write_video(tmp_path / "video.mp4", 3)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(
        ImportError, match=r"pip install 'kinema\[torchcodec\]' and install FFmpeg, or use decoder='pyav'"
    ):
        open_video(path, "torchcodec")
    with open_video(path, "auto") as video:
        assert video.num_frames == 3
