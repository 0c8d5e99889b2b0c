"""Clips on an even grid over a whole video, each frame of which is decoded and transformed once.

Neighbouring clips share most of their frames. A clip at a time, every frame would be decoded once for each clip that it is
in, and the frames before it again for each clip; here frames pass by once, and those that a later clip still needs are kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from kinema.data.decoding.interface import VideoReader
from kinema.data.frame_cache import OpenedVideo
from kinema.data.published_sampling import PublishedIntervals, PublishedScheme
from kinema.data.sampling import Dense, FrameScheme

BLOCK_FRAMES = 16
"""Frames that are decoded and transformed together: enough that calls cost nothing, few beside the frames of a clip."""


def frames_apart(scheme: FrameScheme | PublishedScheme) -> Fraction | None:
    """How many frames lie from one frame of a run's clips to the next, at the rate its stride is meant at.

    Returns:
        None of segment sampling, which spreads a clip over a whole video, however long.
    """
    if isinstance(scheme, Dense):
        return Fraction(scheme.stride_frames)
    if isinstance(scheme, PublishedIntervals):  # the last frame of a clip is the last of its window
        frames, stride = scheme.num_frames, scheme.stride_frames
        return Fraction(frames * stride - 1, frames - 1) if frames > 1 else Fraction(stride)
    return None


@dataclass(frozen=True)
class GridClips:
    """The clips of one video.

    Args:
        frames: Numbers of the frames of each clip, rising; a number repeated at either end of the video.
        starts: Second at which each clip begins, not before the video.
        centers: Second of the middle of each clip.
        ends: Second at which each clip ends, not behind the video.
        duration: Length of the video in seconds.
        fps: Frames per second the clips were cut at.
    """

    frames: NDArray[np.int64]
    starts: NDArray[np.float64]
    centers: NDArray[np.float64]
    ends: NDArray[np.float64]
    duration: float
    fps: float

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class ClipGrid:
    """Where the clips of a video lie.

    The video is cut into cells of `stride` frames, and around the middle of every cell lies a clip of T frames,
    `frame_interval` apart, so clip k covers frames

        k stride + (stride - span) / 2  to  k stride + (stride + span) / 2,    span = T frame_interval,

    and its frames lie in the middle of their intervals, rounded down. Clips at either end reach out of the video and repeat
    its first or last frame; so the whole video has features, also one shorter than a clip (TAdaConv's code for
    EPIC-KITCHENS-100 has them from the seventh frame on, too). A last cell of which no more than half is left has no clip,
    unless it is the only one.

    Args:
        clip_frames: T, at least 1.
        frame_interval: Frames from one frame of a clip to the next, at least 1.
        stride: Frames from one clip to the next, at least 1.
        target_fps: Frames per second at which these numbers are meant: frame g of that rate is what is shown at second
            g / target_fps. The frames of each video as they are when None.

    Raises:
        ValueError: If a number is out of range.
    """

    clip_frames: int
    frame_interval: int = 1
    stride: int = 8
    target_fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("clip_frames", "frame_interval", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} was given; it must be at least 1")
        if self.target_fps is not None and not 0 < self.target_fps < float("inf"):
            raise ValueError(f"target_fps={self.target_fps} was given; it must be above 0, or left out")

    @property
    def span(self) -> int:
        """Frames that a clip covers."""
        return self.clip_frames * self.frame_interval

    def over(self, video: OpenedVideo) -> GridClips:
        """Place the clips on a video."""
        edges, source = self._clock(video)
        count = len(source)
        number = max(1, -(-(2 * count - self.stride) // (2 * self.stride)))
        middles = np.arange(number, dtype=np.float64) * self.stride + self.stride / 2
        if number == 1:
            middles[0] = min(middles[0], count / 2)
        # In halves of frames, so that nothing is rounded twice.
        first = (2 * middles - (self.clip_frames - 1) * self.frame_interval - 1).astype(np.int64) // 2
        grid = first[:, None] + np.arange(self.clip_frames) * self.frame_interval

        def seconds(place: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.interp(place, np.arange(count + 1), edges)

        return GridClips(
            frames=source[grid.clip(0, count - 1)],
            starts=seconds(middles - self.span / 2),
            centers=seconds(middles),
            ends=seconds(middles + self.span / 2),
            duration=float(edges[-1]),
            fps=float(video.fps if self.target_fps is None else self.target_fps),
        )

    def _clock(self, video: OpenedVideo) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Seconds at which each frame begins, and at last the end; and which frame of the video each of them is."""
        clock = video.clock
        ticks, tick, duration = clock.ticks[:-1], clock.tick, clock.duration
        if self.target_fps is None:
            return np.append(ticks * float(tick), float(duration)), np.arange(len(ticks))
        rate = Fraction(str(self.target_fps)).limit_denominator(1001)
        count = max(1, int(duration * rate))
        grid = np.arange(count)
        # Frame g begins at g / rate seconds and shows the last frame that begins no later; integers compare exactly.
        begun = ticks * (tick.numerator * rate.numerator)
        source = np.searchsorted(begun, grid * (tick.denominator * rate.denominator), side="right") - 1
        return np.append(grid / float(rate), float(duration)), source


def clips_on(
    video: OpenedVideo,
    places: GridClips,
    transform: Callable[[UInt8[Tensor, "T C H W"]], list[UInt8[Tensor, "T C H W"]]],
) -> Iterator[UInt8[Tensor, "V C T H W"]]:
    """Decode a video once from its beginning to its end, and give clip after clip.

    Args:
        video: The opened video.
        places: Its clips.
        transform: From frames to the V crops of each; frame by frame, such as `EvalTransform`.

    Raises:
        DecodeError: If a frame cannot be decoded exactly.
    """
    wanted = np.unique(places.frames)
    blocks = _blocks(video, wanted.tolist())
    kept: dict[int, Tensor] = {}  # (V, C, H, W) by number, in order
    arrived = 0
    for clip in places.frames:
        numbers = clip.tolist()
        for old in [number for number in kept if number < numbers[0]]:
            del kept[old]
        while numbers[-1] not in kept:
            crops = torch.stack(transform(next(blocks)), dim=1)
            kept |= zip(wanted[arrived : arrived + len(crops)].tolist(), crops, strict=True)
            arrived += len(crops)
        yield torch.stack([kept[number] for number in numbers], dim=2)


def _blocks(video: OpenedVideo, numbers: list[int]) -> Iterator[UInt8[Tensor, "T C H W"]]:
    if isinstance(video, VideoReader):
        yield from video.decode_on(numbers, block_frames=BLOCK_FRAMES)
        return
    for first in range(0, len(numbers), BLOCK_FRAMES):
        yield video.decode(numbers[first : first + BLOCK_FRAMES])
