"""Which frames of a video make a clip: pure arithmetic over pytorchvideo's clip samplers.

A clip sampler says *when* (a window in seconds, exact as `Fraction`); the two schemes here say *which frames* of that
window. The number of frames T is always the one asked for, also in videos shorter than T. The arithmetic of each paper's
own code is in `kinema.data.published_sampling`; `frame_scheme` picks one by name.
"""

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Literal, Protocol, get_args

from pytorchvideo.data.clip_sampling import ClipInfo, ClipSampler, make_clip_sampler

from kinema.data.published_sampling import Code, PublishedIntervals, PublishedScheme, PublishedSegments

Sampling = Literal["segment", "dense"]
ShortVideo = Literal["loop", "repeat_last"]
Rounding = Literal["kinema", Code]
ClipKind = Literal["random", "constant_clips_per_video", "uniform"]


@dataclass(frozen=True)
class Clip:
    """One drawn clip: T frame indices, the window they come from in seconds, and its place among the video's clips."""

    indices: list[int]
    start: Fraction
    end: Fraction
    index: int


class FrameScheme(Protocol):
    """How a window of frames becomes T indices."""

    @property
    def num_frames(self) -> int:
        """T."""
        ...

    def window_frames(self, video_frames: int) -> int:
        """Length of the window the clip sampler should place, in frames."""
        ...

    def indices(
        self, first: int, window: int, video_frames: int, phase: Fraction | None, rng: random.Random
    ) -> list[int]:
        """Frames of one clip.

        Args:
            first: First frame of the window.
            window: Frames in the window.
            video_frames: Frames in the video.
            phase: Where in its segment each frame lies, in [0, 1); drawn at random when None.
            rng: Source of randomness.
        """
        ...


@dataclass(frozen=True)
class Segments:
    """Segment sampling: cut the video into T equal segments and take one frame of each (TSN, arXiv:1608.00859).

    Training takes a random frame of each segment of n // T frames, as TSM's code does, which leaves out the last
    n mod T frames. Testing takes frame floor((i + phase) * n / T); phase 1/2 is the centre of the segment, and phases
    1/2 and 0 are TSM's two-clip test. A video shorter than T repeats frames in order by the same rule, where TSM's
    code repeats frame 0 alone.
    """

    num_frames: int

    def window_frames(self, video_frames: int) -> int:
        return video_frames

    def indices(
        self, first: int, window: int, video_frames: int, phase: Fraction | None, rng: random.Random
    ) -> list[int]:
        if phase is None:
            segment = window // self.num_frames
            if segment:
                return [first + i * segment + rng.randrange(segment) for i in range(self.num_frames)]
            return [first + int((i + rng.random()) * window / self.num_frames) for i in range(self.num_frames)]
        return [first + int((i + phase) * window / self.num_frames) for i in range(self.num_frames)]


@dataclass(frozen=True)
class Dense:
    """Dense sampling: T frames, `stride_frames` apart, from a window of T * stride frames (I3D; TSM's dense mode).

    In a video shorter than the window, `loop` continues at its start (index modulo n, as TSM's code does) and
    `repeat_last` stays on its last frame (as SlowFast's code does).

    Args:
        num_frames: T.
        stride_frames: Distance of two frames.
        short_video: What follows the last frame of a short video.
        target_fps: Frames per second at which the stride is meant: a video of twice as many is cut with twice the stride.
            The rate of each video when None.
    """

    num_frames: int
    stride_frames: int | Fraction
    short_video: ShortVideo = "loop"
    target_fps: float | None = None

    def __post_init__(self) -> None:
        if self.target_fps is not None and not self.target_fps > 0:
            raise ValueError(f"target_fps must be above 0, got {self.target_fps}")

    def at(self, fps: Fraction) -> "Dense":
        """The same clip in a video of this rate, with its stride counted in that video's frames."""
        if self.target_fps is None:
            return self
        return replace(self, stride_frames=self.stride_frames * fps / Fraction(self.target_fps), target_fps=None)

    def window_frames(self, video_frames: int) -> int:
        return ceil(self.num_frames * self.stride_frames)

    def indices(
        self, first: int, window: int, video_frames: int, phase: Fraction | None, rng: random.Random
    ) -> list[int]:
        wanted = [first + int(i * self.stride_frames) for i in range(self.num_frames)]
        if self.short_video == "loop":
            return [index % video_frames for index in wanted]
        return [min(index, video_frames - 1) for index in wanted]


class SpreadClipSampler(ClipSampler):
    """K clips whose first starts with the video and whose last ends with it; a single clip lies in the middle.

    pytorchvideo 0.1.5 divides the free time by K and never reaches the end of the video; its unreleased main divides
    by K - 1. This sampler divides by K - 1 whichever is installed, and gives K clips also when there is no free time.
    """

    def __init__(self, clip_duration: Fraction, clips_per_video: int) -> None:
        super().__init__(clip_duration)
        self._clips_per_video = clips_per_video

    def __call__(self, last_clip_time: Fraction, video_duration: Fraction, annotation: dict) -> ClipInfo:
        index, last = self._current_clip_index, self._clips_per_video - 1
        free = max(video_duration - self._clip_duration, Fraction(0))
        start = free * (Fraction(index, last) if last else Fraction(1, 2))
        self._current_clip_index = index + 1
        return ClipInfo(start, start + self._clip_duration, index, 0, index == last)


def frame_scheme(
    sampling: Sampling,
    num_frames: int,
    stride_frames: int = 8,
    *,
    short_video: ShortVideo = "loop",
    rounding: Rounding = "kinema",
    target_fps: float | None = None,
) -> FrameScheme | PublishedScheme:
    """Build the scheme of a recipe.

    Args:
        sampling: `segment` takes one frame from each of T segments, `dense` takes T frames `stride_frames` apart.
        num_frames: T.
        stride_frames: Distance of the frames of dense sampling.
        short_video: What dense sampling does where a video ends before the clip.
        rounding: Whose arithmetic: ours, or that of a paper's own code.
        target_fps: Frames per second at which the stride is meant; that of each video when None.

    Raises:
        ValueError: If an option is given that the arithmetic has not.
    """
    if rounding not in get_args(Rounding):
        raise ValueError(f"unknown rounding '{rounding}'; use one of {', '.join(get_args(Rounding))}")
    if target_fps is not None and (sampling == "segment" or rounding == "uniformer"):
        raise ValueError(
            f"target_fps={target_fps} was given, but sampling '{sampling}' with rounding '{rounding}' has no rate to keep; "
            "leave it out"
        )
    if sampling == "segment":
        return Segments(num_frames) if rounding == "kinema" else PublishedSegments(num_frames, rounding)
    if rounding in ("kinema", "tsm"):
        return Dense(num_frames, stride_frames, short_video, target_fps)
    return PublishedIntervals(num_frames, stride_frames, rounding, target_fps)


def draw_clips(
    scheme: FrameScheme | PublishedScheme,
    frames: range,
    *,
    fps: Fraction,
    kind: ClipKind = "random",
    num_clips: int = 1,
    rng: random.Random,
) -> list[Clip]:
    """Draw the clips of one sample: a video, or a part of one.

    Args:
        scheme: `Segments` or `Dense`, or a published one, which places its clips itself.
        frames: Numbers of its frames in the video, one after the other.
        fps: Frames per second; windows are counted in frames, so in a video of variable rate this is its mean.
        kind: pytorchvideo's names. `random`: one clip at random, for training. `constant_clips_per_video`:
            `num_clips` spread evenly. `uniform`: windows side by side until the end of the sample.
        num_clips: For `constant_clips_per_video`.
        rng: Source of all randomness.

    Raises:
        ValueError: If the sample has no frame, or no clip is asked for.
    """
    first, count = frames.start, len(frames)
    if count < 1:
        raise ValueError("a clip needs at least 1 frame, got 0; leave this sample out of the manifest")
    if num_clips < 1:
        raise ValueError(f"num_clips must be at least 1, got {num_clips}")
    if isinstance(scheme, PublishedSegments | PublishedIntervals):
        return _published_clips(scheme, first, count, fps, kind, num_clips, rng)
    if isinstance(scheme, Dense):
        scheme = scheme.at(fps)
    window = scheme.window_frames(count)
    sampler = _sampler(kind, Fraction(window) / fps, num_clips)
    clips = []
    for info in _windows(sampler, Fraction(count) / fps, rng):
        phase = None if kind == "random" else (Fraction(1, 2) + Fraction(info.clip_index, num_clips)) % 1
        # Windows are placed on whole frames by rounding down: 0 .. n - window - 1, each equally likely in training, as TSM's
        # randint, which leaves out the last place too; and the same places as its ten evenly spaced windows in testing.
        offset = min(int(info.clip_start_sec * fps), max(count - 1, 0))
        local = scheme.indices(offset, window, count, phase, rng)
        start_sec, end_sec = (first / fps + Fraction(time) for time in (info.clip_start_sec, info.clip_end_sec))
        clips.append(Clip([first + index for index in local], start_sec, end_sec, info.clip_index))
    return clips


def _published_clips(
    scheme: PublishedScheme, first: int, count: int, fps: Fraction, kind: ClipKind, num_clips: int, rng: random.Random
) -> list[Clip]:
    if kind == "uniform":
        raise ValueError("the papers' code places a number of clips, none side by side; use rounding 'kinema' for that")
    clips = []
    for number in [None] if kind == "random" else range(num_clips):
        begin = scheme.place(count, fps, number, num_clips, rng)
        local = scheme.indices(begin, count, fps, number, num_clips, rng)
        start, end = ((first + frame) / fps for frame in (begin, begin + scheme.window(count, fps)))
        clips.append(Clip([first + index for index in local], start, end, number or 0))
    return clips


def _sampler(kind: ClipKind, duration: Fraction, num_clips: int) -> ClipSampler:
    # A new sampler for each video: pytorchvideo's samplers keep state from one video to the next.
    if kind == "constant_clips_per_video":
        return SpreadClipSampler(duration, num_clips)
    if kind in ("random", "uniform"):
        return make_clip_sampler(kind, duration)
    raise ValueError(f"unknown kind of clip sampler '{kind}'; use random, constant_clips_per_video or uniform")


def _windows(sampler: ClipSampler, duration: Fraction, rng: random.Random) -> list[ClipInfo]:
    # pytorchvideo draws from Python's global generator; lend it ours and give back what was there.
    outside = random.getstate()
    random.setstate(rng.getstate())
    try:
        infos = []
        last_end = Fraction(0)
        while True:
            info = sampler(last_end, duration, {})
            infos.append(info)
            last_end = info.clip_end_sec
            if info.is_last_clip:
                break
        rng.setstate(random.getstate())
    finally:
        random.setstate(outside)
    return infos
