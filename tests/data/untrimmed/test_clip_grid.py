"""Clips on a grid over a video: where they lie, and that each frame passes by once."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from kinema.data.decoding import open_video
from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.transforms import EvalTransform
from kinema.data.untrimmed.clip_grid import BLOCK_FRAMES, ClipGrid, clips_on

from painted import numbers_in, write_video


class Pictures:
    """An opened video of a constant rate: frame n is of value n; notes what is asked for."""

    def __init__(self, num_frames, fps=25):
        self.num_frames, self.fps, self.asked = num_frames, Fraction(fps), []
        self.clock = FrameClock.constant(num_frames, self.fps)

    def decode(self, indices):
        self.asked += list(indices)
        return torch.tensor(list(indices), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)


def literal(num_frames, grid):
    """Frames and middles by counting, from the definition, in fractions of a frame."""
    half = Fraction(1, 2)
    cells = [k for k in range(num_frames + 1) if k == 0 or (k + half) * grid.stride < num_frames]
    clips, middles = [], []
    for k in cells:
        middle = (k + half) * grid.stride
        if len(cells) == 1:
            middle = min(middle, num_frames * half)
        clip = []
        for i in range(grid.clip_frames):
            center = middle - grid.span * half + (i + half) * grid.frame_interval
            number = (center - half).__floor__()  # frame n has its middle at n + 1/2
            clip.append(min(max(number, 0), num_frames - 1))
        clips.append(clip)
        middles.append(middle)
    return clips, middles


@pytest.mark.parametrize("num_frames", [1, 2, 3, 7, 8, 40, 61])
@pytest.mark.parametrize(("frames", "interval", "stride"), [(8, 1, 8), (8, 4, 4), (5, 3, 1), (4, 2, 7), (1, 1, 1)])
def test_places_are_those_of_the_definition(num_frames, frames, interval, stride):
    grid = ClipGrid(frames, interval, stride)
    places = grid.over(Pictures(num_frames))
    clips, middles = literal(num_frames, grid)
    assert places.frames.tolist() == clips and len(places) == len(clips)
    np.testing.assert_allclose(places.centers, [float(m) / 25 for m in middles])
    half = grid.span / 2
    np.testing.assert_allclose(places.starts, [max(float(m) - half, 0) / 25 for m in middles])
    np.testing.assert_allclose(places.ends, [min(float(m) + half, num_frames) / 25 for m in middles])
    assert places.duration == num_frames / 25 and places.fps == 25


def test_a_video_played_backwards_has_the_same_clips_backwards():
    for frames, interval, stride in [(8, 3, 4), (8, 1, 8), (8, 5, 2), (5, 1, 1)]:
        found = ClipGrid(frames, interval, stride).over(Pictures(64))
        assert (63 - found.frames[::-1, ::-1] == found.frames).all()
        np.testing.assert_allclose(found.duration - found.centers[::-1], found.centers)


def test_times_follow_the_frames_of_a_video_of_uneven_rate(tmp_path):
    times = [0, 1, 2, 3, 10, 11, 12, 13, 30, 31]
    path = write_video(tmp_path / "video.mkv", 10, times=times, time_base=Fraction(1, 10))
    with open_video(path) as video:
        places = ClipGrid(2, 1, 2).over(video)
        edges = [*times, 10 * float(video.duration)]
    assert places.frames.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    np.testing.assert_allclose(places.starts, [edges[i] / 10 for i in (0, 2, 4, 6, 8)])
    np.testing.assert_allclose(places.centers, [edges[i] / 10 for i in (1, 3, 5, 7, 9)])
    np.testing.assert_allclose(places.ends, [edges[i] / 10 for i in (2, 4, 6, 8, 10)])


@pytest.mark.parametrize("rate", [10, 12.5, 24, 25, 30, 50])
def test_at_another_rate_each_frame_is_what_is_shown_then(rate, tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 40, rate=25)) as video:
        places = ClipGrid(3, 2, 4, target_fps=rate).over(video)
        times, duration = video.timestamps, video.duration
    exact = Fraction(str(rate))
    shown = [max(n for n in range(40) if times[n] <= g / exact) for g in range(int(duration * exact))]
    clips, middles = literal(len(shown), ClipGrid(3, 2, 4))
    assert places.frames.tolist() == [[shown[g] for g in clip] for clip in clips]
    np.testing.assert_allclose(places.centers, [float(m / exact) for m in middles])
    assert places.fps == rate and places.duration == float(duration)


def test_uneven_frames_at_another_rate(tmp_path):
    times = [0, 1, 2, 3, 10, 11, 12, 13, 30, 31]
    with open_video(write_video(tmp_path / "v.mkv", 10, times=times, time_base=Fraction(1, 10))) as video:
        places = ClipGrid(1, 1, 1, target_fps=10).over(video)
    shown = [max(n for n in range(10) if times[n] <= g) for g in range(len(places))]
    assert places.frames[:, 0].tolist() == shown and len(shown) >= 31


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clip_frames": 0}, "clip_frames=0"),
        ({"frame_interval": 0}, "frame_interval=0"),
        ({"stride": 0}, "stride=0"),
        ({"target_fps": 0.0}, "target_fps=0"),
        ({"target_fps": float("inf")}, "target_fps=inf"),
    ],
)
def test_numbers_out_of_range(changes, words):
    with pytest.raises(ValueError, match=words):
        ClipGrid(**{"clip_frames": 8, **changes})


@pytest.mark.parametrize(("frames", "interval", "stride"), [(8, 1, 2), (4, 3, 8), (3, 1, 10), (16, 1, 5)])
def test_clips_are_those_decoded_one_by_one(frames, interval, stride, tmp_path):
    transform = EvalTransform(32, 40, 3)
    with open_video(write_video(tmp_path / "video.mp4", 50, options={"g": "12", "bf": "2"})) as video:
        places = ClipGrid(frames, interval, stride).over(video)
        found = list(clips_on(video, places, transform))
        assert len(found) == len(places)
        for clip, numbers in zip(found, places.frames.tolist(), strict=True):
            alone = torch.stack(transform(video.decode(numbers))).transpose(1, 2)
            assert clip.shape == (3, 3, frames, 32, 32) and clip.is_contiguous()
            assert torch.equal(clip, alone)


def test_they_show_what_their_numbers_say(tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 30)) as video:
        places = ClipGrid(4, 2, 3).over(video)
        for clip, numbers in zip(clips_on(video, places, lambda block: [block]), places.frames.tolist(), strict=True):
            assert numbers_in(clip[0].transpose(0, 1)) == numbers


@pytest.mark.parametrize(("frames", "interval", "stride"), [(8, 2, 4), (4, 1, 16), (2, 1, 1)])
def test_each_frame_is_decoded_and_transformed_once_and_none_that_no_clip_has(frames, interval, stride):
    video, seen = Pictures(200), []

    def transform(block):
        seen.extend(block[:, 0, 0, 0].tolist())
        return [block]

    places = ClipGrid(frames, interval, stride).over(video)
    list(clips_on(video, places, transform))
    assert video.asked == seen == sorted({n for clip in places.frames.tolist() for n in clip})


def test_memory_holds_a_clip_and_a_block_however_long_the_video():
    """Frames that are no longer needed are let go, and none is decoded before it is needed."""
    video, grid = Pictures(250), ClipGrid(8, 2, 4)
    places = grid.over(video)
    clips = clips_on(video, places, lambda block: [block])
    for numbers, clip in zip(places.frames, clips, strict=True):
        assert clip[0, 0, :, 0, 0].tolist() == numbers.tolist()
        assert not video.asked or video.asked[-1] <= numbers[-1] + 2 * BLOCK_FRAMES
        if clips.gi_frame is not None:
            held = clips.gi_frame.f_locals["kept"]
            assert len(held) <= grid.span + BLOCK_FRAMES and min(held) >= numbers[0]
