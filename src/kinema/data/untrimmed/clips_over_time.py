"""Clips that slide over a video, for scores over time; decoded a few frames at a time, however long the video is."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.data.clips import EvalClips, View, opened
from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.frame_cache import OpenedVideo
from kinema.data.published_sampling import PublishedIntervals
from kinema.data.sampling import Clip, Dense, draw_clips

_AT_ONCE = 16
"""Frames of full size that are held at a time; 16 of 1920 x 1080 are 100 MB."""
_SECONDS = Fraction(2)


@dataclass(frozen=True)
class ClipsOverTime:
    """Windows at even distances over a whole video, of each one clip, its central crop.

    Windows of dense sampling have the frames of the clips of the run; where the rate of a video varies, so does their length in
    seconds. A clip of segment sampling spreads over all it is given, in
    training the whole video, so `seconds` says how long its windows are: short ones tell more exactly when, and look less
    like what the network was trained on.

    Args:
        clips: How the run cuts clips.
        num_windows: How many, evenly in seconds. The first starts with the video and the last ends with it; a video as short
            as a window has one. Of dense clips there are fewer where a video has fewer places for them.
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
        clock = video.clock
        spans = self._dense_spans(video, clock)
        if spans is None:
            spans = self._even_spans(video, clock)
        return [self._clip(video, span, number) for number, span in enumerate(spans)]

    def _even_spans(self, video: OpenedVideo, clock: FrameClock) -> list["_Span"]:
        """Windows of equal seconds: the frames that have their middle in one; where none has, the one that is shown."""
        shortest = clock.duration / video.num_frames
        length = min(max(self.seconds or min(_SECONDS, clock.duration / 2), shortest), clock.duration)
        spans = []
        for start in self._starts(clock.duration - length):
            first, stop = video.frame_at(start), min(video.frame_at(start + length), video.num_frames)
            if first >= stop:
                first = clock.shown_at(start + length / 2)
                stop = first + 1
            spans.append(_Span(first, stop, start, start + length))
        return spans

    def _dense_spans(self, video: OpenedVideo, clock: FrameClock) -> list["_Span"] | None:
        """Windows of as many frames as a dense clip, each from where its first frame begins to where its last one ends."""
        frames = self._clip_frames(video)
        if frames is None:
            return None
        frames = min(ceil(frames), video.num_frames)
        last = video.num_frames - frames
        # Where few frames are free, or frames are long, several windows would be the same.
        firsts = dict.fromkeys(min(video.frame_at(start), last) for start in self._starts(clock.begin(last)))
        return [_Span(first, first + frames, clock.begin(first), clock.begin(first + frames)) for first in firsts]

    def _starts(self, free: Fraction) -> list[Fraction]:
        """Seconds at which windows begin that leave so much of a video free."""
        count = self.num_windows if free > 0 else 1
        return [free * Fraction(number, count - 1) if count > 1 else free / 2 for number in range(count)]

    def _clip(self, video: OpenedVideo, span: "_Span", number: int) -> Clip:
        (clip,) = draw_clips(
            self.clips.scheme,
            range(span.first, span.stop),
            fps=video.fps,
            kind="constant_clips_per_video",
            rng=random.Random(0),
        )
        return replace(clip, start=span.start, end=span.end, index=number)

    def learnt_s(self, source: str | Path | bytes) -> Fraction | None:
        """Seconds of a clip as the network learnt it, at the rate of this video; None where clips spread over whole videos.

        Raises:
            DecodeError: If the video cannot be opened.
        """
        with opened(source, self.clips.decoder, self.clips.cache) as video:
            frames = self._clip_frames(video)
            return None if frames is None else frames / video.fps

    def _clip_frames(self, video: OpenedVideo) -> Fraction | None:
        """Frames of this video that a dense clip covers; None of segment sampling."""
        scheme = self.clips.scheme
        if isinstance(scheme, Dense):
            return Fraction(scheme.at(video.fps).window_frames(video.num_frames))
        return scheme.window(video.num_frames, video.fps) if isinstance(scheme, PublishedIntervals) else None


class _Span(NamedTuple):
    """Frames `first` to `stop` - 1, and from which to which second they stand for."""

    first: int
    stop: int
    start: Fraction
    end: Fraction
