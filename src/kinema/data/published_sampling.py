"""Which frames the papers' own code takes, each with its own rounding; `kinema.data.sampling` holds our arithmetic.

All of it is computed exactly, in fractions. The original code works in 32-bit floats, which differ where a product falls
on a whole number by chance.
"""

import random
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Literal

Code = Literal["tsm", "tada", "timesformer", "uniformer"]

CODES: tuple[Code, ...] = ("tsm", "tada", "timesformer", "uniformer")


@dataclass(frozen=True)
class PublishedSegments:
    """One frame from each of T segments of a video of n frames; k of K clips counts from 0.

    ===========  =======================================  ==========================================================
    code         training                                 test
    ===========  =======================================  ==========================================================
    tsm          i d + randint(d), d = n // T; frame 0    floor((i + 1/2) n / T); the second of two clips
                 T times where n < T                      floor(i n / T)
    tada         round(U[i, i + 1) n / T)                 round((i + 1/2) n / T); of K > 1 clips
                                                          round((i + (k + 1) / K) n / T), so the last takes the ends
    timesformer  a frame of a_i .. a_{i+1}, both included (a_i + a_{i+1}) // 2, the same for every clip
    uniformer    as timesformer                           a_i + floor((n - 1) / T (k + 1) / (K + 1))
    ===========  =======================================  ==========================================================

    with a_i = round(i (n - 1) / T), halves to the even number. What falls beyond the video is its last frame. TSM's code
    knows one and two clips (Lin, Gan and Han 2019, arXiv:1811.08383; the two are its `twice_sample`); TAda's is that of
    Something-Something and TAdaFormer (Huang et al. 2023, arXiv:2308.05787, `segment_based`); TimeSformer's (Bertasius et
    al. 2021, arXiv:2102.05095) and UniFormer's (Li et al. 2022, arXiv:2201.04676) are those of Something-Something.

    Args:
        num_frames: T.
        code: Whose arithmetic.
    """

    num_frames: int
    code: Code

    def __post_init__(self) -> None:
        _check_code(self.code)

    def window(self, video_frames: int, fps: Fraction) -> Fraction:
        """Length of a clip, in frames of this video."""
        return Fraction(video_frames)

    def place(self, video_frames: int, fps: Fraction, clip: int | None, num_clips: int, rng: random.Random) -> Fraction:
        """Where a clip begins, in frames.

        Args:
            video_frames: Frames in the video.
            fps: Frames per second of the video.
            clip: Which of the `num_clips` clips of a test, from 0; None for training, which draws.
            num_clips: Clips of a test.
            rng: Source of randomness.

        Raises:
            ValueError: If the code knows no such clip.
        """
        if self.code == "tsm" and clip is not None and num_clips > 2:
            raise ValueError(
                f"TSM's segments give one or two clips of a video, {num_clips} were asked for; use num_clips <= 2, dense "
                "sampling, or rounding 'kinema'"
            )
        return Fraction(0)

    def indices(
        self, start: Fraction, video_frames: int, fps: Fraction, clip: int | None, num_clips: int, rng: random.Random
    ) -> list[int]:
        """The T frames of the clip that begins at `start`; the rest as for `place`."""
        frames = [self._frame(i, video_frames, clip, num_clips, rng) for i in range(self.num_frames)]
        return [min(frame, video_frames - 1) for frame in frames]

    def _frame(self, i: int, n: int, clip: int | None, num_clips: int, rng: random.Random) -> int:
        if self.code == "tsm":
            if clip is None:
                segment = n // self.num_frames
                return i * segment + rng.randrange(segment) if segment else 0
            return floor((i + (Fraction(1, 2) if clip == 0 else 0)) * Fraction(n, self.num_frames))
        if self.code == "tada":
            if clip is None:
                where = Fraction(rng.random())
            else:
                where = Fraction(1, 2) if num_clips == 1 else Fraction(clip + 1, num_clips)
            return round((i + where) * Fraction(n, self.num_frames))
        segment = Fraction(n - 1, self.num_frames)
        first, last = round(i * segment), round((i + 1) * segment)
        if clip is None:
            return rng.randint(first, last)
        if self.code == "timesformer":
            return (first + last) // 2
        return first + floor(segment * Fraction(clip + 1, num_clips + 1))


@dataclass(frozen=True)
class PublishedIntervals:
    """T frames spread over a window of T s frames, both ends included; k of K clips counts from 0.

    With the window w = T s fps / target_fps and f = max(n - w, 0) frames that are free, the clip begins at a random place
    of [0, f] in training, and in test at

    ===========  =========================
    code         begin of clip k of K
    ===========  =========================
    tada         f k / K; f / 2 where K = 1
    timesformer  f k / K, so at frame 0 where K = 1 (the paper says the middle)
    uniformer    k floor(f / (K - 1)); floor(f / 2) where K = 1
    ===========  =========================

    and its frames are floor(begin + i (w - 1) / (T - 1)), those beyond the video being its last. So frames lie
    (T s - 1) / (T - 1) apart and not s: "8 x 8" is 9 frames apart, "16 x 5" 5.27. UniFormer's code knows no target rate.

    TSM's clips are exact strides that loop, which is `kinema.data.sampling.Dense`.

    Args:
        num_frames: T.
        stride_frames: s, at the target rate.
        code: Whose arithmetic: tada, timesformer or uniformer.
        target_fps: Frames per second at which the stride is meant (30; 60 for EPIC-Kitchens); that of each video when None.
    """

    num_frames: int
    stride_frames: int
    code: Code
    target_fps: float | None = None

    def __post_init__(self) -> None:
        _check_code(self.code)
        if self.code == "tsm":
            raise ValueError("TSM's dense clips are exact strides that loop; use Dense")
        if self.target_fps is not None and not self.target_fps > 0:
            raise ValueError(f"target_fps must be above 0, got {self.target_fps}")

    def window(self, video_frames: int, fps: Fraction) -> Fraction:
        """Length of a clip, in frames of this video."""
        scale = 1 if self.target_fps is None else fps / Fraction(self.target_fps)
        return self.num_frames * self.stride_frames * Fraction(scale)

    def place(self, video_frames: int, fps: Fraction, clip: int | None, num_clips: int, rng: random.Random) -> Fraction:
        """Where a clip begins, in frames; the arguments are those of `PublishedSegments.place`."""
        free = max(video_frames - self.window(video_frames, fps), Fraction(0))
        if clip is None:
            return free * Fraction(rng.random())
        if self.code == "uniformer":
            return Fraction(floor(free / 2) if num_clips == 1 else clip * floor(free / (num_clips - 1)))
        if num_clips == 1 and self.code == "tada":
            return free / 2
        return free * Fraction(clip, num_clips)

    def indices(
        self, start: Fraction, video_frames: int, fps: Fraction, clip: int | None, num_clips: int, rng: random.Random
    ) -> list[int]:
        """The T frames of the clip that begins at `start`; the rest as for `place`."""
        last = self.window(video_frames, fps) - 1
        steps = [last * Fraction(i, max(self.num_frames - 1, 1)) for i in range(self.num_frames)]
        return [min(max(floor(start + step), 0), video_frames - 1) for step in steps]


PublishedScheme = PublishedSegments | PublishedIntervals


def _check_code(code: str) -> None:
    if code not in CODES:
        raise ValueError(f"unknown code '{code}'; use one of {', '.join(CODES)}")
