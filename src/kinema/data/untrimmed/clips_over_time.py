"""Clips that slide over a video, for scores over time; decoded a few frames at a time, however long the video is."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.data.clips import EvalClips, View, opened
from kinema.data.frame_cache import OpenedVideo
from kinema.data.published_sampling import PublishedIntervals
from kinema.data.sampling import Clip, Dense, draw_clips

_AT_ONCE = 16
"""Frames of full size that are held at a time; 16 of 1920 x 1080 are 100 MB."""
_SECONDS = Fraction(2)


@dataclass(frozen=True)
class ClipsOverTime:
    """Windows at even distances over a whole video, of each one clip, its central crop.

    Windows of dense sampling are as long as the clips of the run. A clip of segment sampling spreads over all it is given, in
    training the whole video, so `seconds` says how long its windows are: short ones tell more exactly when, and look less
    like what the network was trained on.

    Args:
        clips: How the run cuts clips.
        num_windows: How many. The first starts with the video and the last ends with it; a video as short as a window has one.
        seconds: Length of a window of segment sampling; 2 seconds, at most half of the video, when None.

    Raises:
        ValueError: If there would be no window, or `seconds` is no length or given for clips that have one.
    """

    clips: EvalClips
    num_windows: int = 16
    seconds: Fraction | None = None

    def __post_init__(self) -> None:
        if self.num_windows < 1:
            raise ValueError(f"num_windows={self.num_windows} leaves nothing to score; give at least 1")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds={float(self.seconds):g} is no length of a window; give a number above 0")
        if self.seconds is not None and isinstance(self.clips.scheme, Dense | PublishedIntervals):
            raise ValueError(
                f"seconds={float(self.seconds):g} was given for clips of {self.clips.scheme}, whose stride says how long they "
                "are; leave it out"
            )

    def __call__(self, source: str | Path | bytes) -> Iterator[View]:
        """The windows in order of time, decoded as they are asked for.

        Raises:
            DecodeError: If a wanted frame cannot be decoded exactly.
        """
        transform = replace(self.clips.transform, num_crops=1)
        with opened(source, self.clips.decoder, self.clips.cache) as video:
            frames: dict[int, UInt8[Tensor, "C h w"]] = {}
            for clip in self.windows(video):
                frames = {index: frames[index] for index in clip.indices if index in frames}
                missing = sorted(set(clip.indices) - set(frames))
                for first in range(0, len(missing), _AT_ONCE):
                    some = missing[first : first + _AT_ONCE]
                    (cut,) = transform(video.decode(some))
                    frames |= dict(zip(some, cut, strict=True))
                yield View(torch.stack([frames[index] for index in clip.indices], dim=1), clip)

    def windows(self, video: OpenedVideo) -> Sequence[Clip]:
        """Which frames each window takes."""
        length = self._length(video)
        free = max(video.num_frames / video.fps - length, Fraction(0))
        count = self.num_windows if free else 1
        starts = [free * Fraction(number, count - 1) if count > 1 else free / 2 for number in range(count)]
        found = []
        for number, start in enumerate(starts):
            (clip,) = draw_clips(
                self.clips.scheme,
                video_frames=video.num_frames,
                fps=video.fps,
                frame_at=video.frame_at,
                kind="constant_clips_per_video",
                rng=random.Random(0),
                start=start,
                end=start + length,
            )
            found.append(replace(clip, start=start, end=start + length, index=number))
        return found

    def learnt_s(self, source: str | Path | bytes) -> Fraction | None:
        """Seconds of a clip as the network learnt it, at the rate of this video; None where clips spread over whole videos.

        Raises:
            DecodeError: If the video cannot be opened.
        """
        scheme = self.clips.scheme
        if not isinstance(scheme, Dense | PublishedIntervals):
            return None
        with opened(source, self.clips.decoder, self.clips.cache) as video:
            if isinstance(scheme, Dense):
                return Fraction(scheme.at(video.fps).window_frames(video.num_frames)) / video.fps
            return scheme.window(video.num_frames, video.fps) / video.fps

    def _length(self, video: OpenedVideo) -> Fraction:
        """Seconds of a window."""
        duration = video.num_frames / video.fps
        scheme = self.clips.scheme
        if isinstance(scheme, Dense):
            return min(Fraction(scheme.at(video.fps).window_frames(video.num_frames)) / video.fps, duration)
        if isinstance(scheme, PublishedIntervals):
            return min(scheme.window(video.num_frames, video.fps) / video.fps, duration)
        return min(max(self.seconds or min(_SECONDS, duration / 2), 1 / video.fps), duration)
