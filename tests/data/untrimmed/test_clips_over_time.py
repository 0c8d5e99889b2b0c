"""Clips that slide over a video: which frames, at what times, and how many are held."""

from fractions import Fraction

import pytest
import torch

from kinema.data.clips import EvalClips
from kinema.data.decoding import DecodeError, open_video
from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.motion.encoding import encode_mp4
from kinema.data.sampling import Dense, Segments, frame_scheme
from kinema.data.transforms import EvalTransform
from kinema.data.untrimmed.clips_over_time import ClipsOverTime

import painted


class Numbered:
    """A video whose frames have their number as brightness."""

    def __init__(self, num_frames, fps=Fraction(10)):
        self.num_frames, self.fps, self.asked = num_frames, fps, []

    def decode(self, indices):
        self.asked.append(list(indices))
        return torch.stack([torch.full((3, 12, 16), index % 256, dtype=torch.uint8) for index in indices])

    @property
    def clock(self):
        return FrameClock.constant(self.num_frames, self.fps)

    def frame_at(self, time):
        return round(time * self.fps)

    def open(self, path):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def sliding(scheme, video, **options):
    return ClipsOverTime(EvalClips(scheme, EvalTransform(8, num_crops=3), cache=video), **options)


def test_windows_of_segment_sampling_by_hand():
    """100 frames of 10 a second: windows of 2 s from 0 to 8 s, frames in the middle of their quarters."""
    video = Numbered(100)
    views = list(sliding(Segments(4), video, num_windows=3)("any"))
    assert [view.clip.indices for view in views] == [[2, 7, 12, 17], [42, 47, 52, 57], [82, 87, 92, 97]]
    assert [(view.clip.start, view.clip.end, view.clip.index) for view in views] == [(0, 2, 0), (4, 6, 1), (8, 10, 2)]
    for view in views:
        assert view.pixels.shape == (3, 4, 8, 8) and view.pixels[0, :, 0, 0].tolist() == view.clip.indices


def test_a_short_video_has_windows_of_half_of_it_or_as_long_as_asked():
    video = Numbered(20)
    windows = sliding(Segments(2), video, num_windows=2).windows(video)
    assert [(window.start, window.end) for window in windows] == [(0, 1), (1, 2)]
    (only,) = sliding(Segments(2), video, seconds=Fraction(5)).windows(video)
    assert (only.start, only.end) == (0, 2)
    one = sliding(Segments(2), video, num_windows=1).windows(video)
    assert [(window.start, window.end) for window in one] == [(Fraction(1, 2), Fraction(3, 2))]


@pytest.mark.parametrize("num_frames", [1, 2, 3])
@pytest.mark.parametrize("seconds", [None, Fraction(1, 1000)])
def test_videos_of_hardly_any_frame(num_frames, seconds):
    video = Numbered(num_frames)
    views = list(sliding(Segments(2), video, num_windows=7, seconds=seconds)("any"))
    assert all(0 <= index < num_frames for view in views for index in view.clip.indices)
    assert views[-1].clip.end <= Fraction(num_frames, 10)


@pytest.mark.parametrize(
    ("scheme", "length", "first"),
    [
        (Dense(4, 5), 20, [0, 5, 10, 15]),
        (Dense(4, 5, target_fps=20.0), 10, [0, 2, 5, 7]),
        (frame_scheme("dense", 4, 5, rounding="tada"), 20, [0, 6, 12, 19]),
    ],
)
def test_windows_of_dense_sampling_are_as_long_as_its_clips(scheme, length, first):
    video = Numbered(100)
    windows = sliding(scheme, video, num_windows=5).windows(video)
    assert windows[0].indices == first and windows[0].end == Fraction(length, 10)
    assert windows[-1].end == 10 and len(windows) == 5


def test_a_video_shorter_than_a_dense_clip_has_one_window():
    video = Numbered(12)
    (only,) = sliding(Dense(4, 5), video).windows(video)
    assert only.indices == [0, 5, 10, 3] and (only.start, only.end) == (0, Fraction(6, 5))


def test_no_frame_is_decoded_twice_in_a_row_and_few_are_held():
    video = Numbered(400)
    list(sliding(Dense(64, 1), video, num_windows=30)("any"))
    assert max(map(len, video.asked)) <= 16
    asked = [index for some in video.asked for index in some]
    assert len(asked) == len(set(asked)) and set(asked) == set(range(400))


def test_what_is_refused():
    with pytest.raises(ValueError, match="num_windows=0"):
        sliding(Segments(2), Numbered(5), num_windows=0)
    with pytest.raises(ValueError, match="seconds=0"):
        sliding(Segments(2), Numbered(5), seconds=Fraction(0))
    with pytest.raises(DecodeError):
        list(ClipsOverTime(EvalClips(Segments(2), EvalTransform(8)))(b"no video"))


def test_real_frames_are_those_of_the_run(tmp_path):
    """Over the whole of a video, one window is the clip that validation takes."""
    frames = torch.randint(0, 256, (12, 32, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "it.mp4"
    path.write_bytes(encode_mp4(frames.numpy(), intra_only=True))
    clips = EvalClips(Segments(4), EvalTransform(16, 24))
    (wanted,) = clips(path)
    (got,) = ClipsOverTime(clips, seconds=Fraction(9))(path)
    assert torch.equal(got.pixels, wanted.pixels) and got.clip.indices == wanted.clip.indices


TICKS = [*range(50), *range(50, 100, 10)]  # tenths of a second: 5 s of 10 frames a second, then 5 s of one


@pytest.fixture(scope="module")
def slowing(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "it.mkv"
    return painted.write_video(path, len(TICKS), times=TICKS, time_base=Fraction(1, 10))


def test_windows_of_a_video_of_variable_rate_hold_what_is_shown_in_them(slowing):
    with open_video(slowing) as video:
        begins, duration = [*video.timestamps, video.duration], video.duration
        windows = sliding(Segments(4), None, num_windows=6, seconds=Fraction(1)).windows(video)
    assert [float(window.start) for window in windows] == pytest.approx([n * float(duration - 1) / 5 for n in range(6)])
    assert windows[0].start == 0 and windows[-1].end == duration
    for window in windows:
        assert window.end - window.start == 1
        for index in window.indices:
            assert begins[index] < window.end and begins[index + 1] > window.start
    assert windows[0].indices == [1, 3, 6, 8] and set(windows[-1].indices) <= {53, 54}
    with open_video(slowing) as video:
        short = sliding(Segments(2), None, num_windows=201, seconds=Fraction(1, 10)).windows(video)
    shown = [max(n for n in range(len(TICKS)) if begins[n] <= window.start) for window in short]
    inside = [n for n in range(201) if begins[shown[n] + 1] >= short[n].end]  # a frame is longer than these windows
    assert len(inside) > 60 and all(set(short[n].indices) == {shown[n]} for n in inside)


def test_dense_clips_of_a_video_of_variable_rate_tell_the_seconds_of_their_frames(slowing):
    with open_video(slowing) as video:
        begins = [*video.timestamps, video.duration]
        windows = sliding(Dense(3, 2), None, num_windows=8).windows(video)
        twice = sliding(Dense(3, 2), None, num_windows=1000).windows(video)
    assert (windows[0].start, windows[-1].end) == (0, begins[-1])
    for window in windows:
        first = window.indices[0]
        assert window.indices == [first, first + 2, first + 4]
        assert (window.start, window.end) == (begins[first], begins[first + 6])
    starts = [float(window.start) for window in windows]
    assert starts == pytest.approx([n * float(begins[49]) / 7 for n in range(8)], abs=0.051)
    assert len(twice) == 50, "each place once"


def test_the_clock_of_frames_is_that_of_the_file(slowing):
    with open_video(slowing) as video:
        clock = video.clock
        assert [clock.begin(number) for number in range(video.num_frames)] == video.timestamps
        assert clock.duration == video.duration
        assert [clock.shown_at(Fraction(time)) for time in (-1, 0, "0.19", "6.5", 99)] == [0, 0, 1, 51, 54]
