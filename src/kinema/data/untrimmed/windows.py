"""Windows of a fixed number of bins over the features of a video.

A boundary-matching network sees T bins at a time. Either the whole video is stretched to T bins (Lin et al. 2019, section 4.1,
arXiv:1907.09702, on ActivityNet), or windows of fixed length slide over it, each beginning half a window behind the last (the
authors of TAdaConv on EPIC-KITCHENS-100: T = 200 bins of 4 / 15 s, every 100 bins).
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from kinema.data.untrimmed.feature_files import FeatureError

Placing = Literal["time", "rows"]

_REST_S = 0.2  # a window that would see less of the video is left out


class Clips(Protocol):
    """Where the clips of a video lie: a `FeatureFile`, or the `FeatureFacts` of one that is not read.

    Attributes:
        video: Name of the video.
        starts, centers, ends: Seconds of each clip, in order.
        duration: Length of the video in seconds.
        fps: Frames per second the clips were cut at.
        stride: Frames from one clip to the next.
    """

    @property
    def video(self) -> str: ...
    @property
    def starts(self) -> Float[Tensor, " N"]: ...
    @property
    def centers(self) -> Float[Tensor, " N"]: ...
    @property
    def ends(self) -> Float[Tensor, " N"]: ...
    @property
    def duration(self) -> float: ...
    @property
    def fps(self) -> float: ...
    @property
    def stride(self) -> float: ...


@dataclass(frozen=True)
class Window:
    """A stretch of a video.

    Args:
        start: Second at which it begins.
        bin_s: Seconds of one bin.
        num_bins: T.
    """

    start: float
    bin_s: float
    num_bins: int

    @property
    def length(self) -> float:
        """Seconds of the window."""
        return self.bin_s * self.num_bins

    @property
    def end(self) -> float:
        """Second at which it ends; behind the end of the video where the last window is not full."""
        return self.start + self.length


@dataclass(frozen=True)
class Windows:
    """How a video is cut into windows.

    Args:
        num_bins: Bins T of a window.
        max_bins: Bins D of the longest proposal.
        bin_s: Seconds of one bin; None stretches each whole video to T bins.
        hop_bins: Bins from one window to the next; `max_bins` when None. With no more than T - D every proposal lies
            wholly in at least one window.
        placing: What a bin shows. `time`: the clips whose middles lie around the middle of the bin, interpolated linearly by
            time; before the first clip that one, and zeros behind the end of the video. `rows`, as in the code of TAdaConv's
            authors: the clips that have their middle in the window, filled up with zeros to as many as a full window has,
            and stretched so that the first and the last fall on the first and last bin. Where clips are short, as theirs,
            the two agree to half a bin; where they are long, the first clip of a video stands late, and `rows` shifts
            the first window by so much, or distorts the whole video.

    Raises:
        ValueError: If D is not from 1 to T, or the hop leaves a gap between windows.
    """

    num_bins: int = 100
    max_bins: int = 100
    bin_s: float | None = None
    hop_bins: int | None = None
    placing: Placing = "time"

    def __post_init__(self) -> None:
        if not 1 <= self.max_bins <= self.num_bins:
            raise ValueError(
                f"max_bins={self.max_bins} is the longest proposal in a window of num_bins={self.num_bins}; give 1 to "
                f"{self.num_bins}"
            )
        if self.bin_s is not None and not self.bin_s > 0:
            raise ValueError(f"bin_s={self.bin_s} is no length in seconds; give one above 0, or none for whole videos")
        if not 1 <= self.hop <= self.num_bins:
            raise ValueError(
                f"hop_bins={self.hop} leaves gaps between windows of {self.num_bins} bins; give at most that"
            )

    @property
    def hop(self) -> int:
        """Bins from one window to the next."""
        return self.max_bins if self.hop_bins is None else self.hop_bins

    def of(self, duration: float) -> list[Window]:
        """The windows of a video of this many seconds: every hop, unless less than 0.2 s of the video are left in it."""
        if self.bin_s is None:
            return [Window(0.0, duration / self.num_bins, self.num_bins)]
        hop_s = self.hop * self.bin_s
        count = max(math.ceil(duration / hop_s - 1e-9), 1)
        starts = [number * hop_s for number in range(count)]
        if len(starts) > 1 and duration - starts[-1] < _REST_S:
            starts.pop()
        return [Window(start, self.bin_s, self.num_bins) for start in starts]

    def seen(self, clips: Clips) -> list[Window]:
        """The windows of a video that show something of it; `rows` makes out which clips these are.

        With `time` a window shows something where a clip overlaps with it, if only by its edge; with `rows` where one has its
        middle in it.
        """
        return [window for window in self.of(clips.duration) if self.rows(clips, window) is not None]

    def rows(self, clips: Clips, window: Window) -> slice | None:
        """Which clips a window is made of; None where it shows none."""
        if self.placing == "time":
            if not bool(((clips.starts < window.end) & (clips.ends > window.start)).any()):
                return None
            lower, upper, _ = _neighbours(clips.centers, window)
            return slice(int(lower[0]), int(upper[-1]) + 1)
        middles = ((clips.centers >= window.start) & (clips.centers < window.end)).nonzero()[:, 0].tolist()
        if not middles:
            return None
        if self.bin_s is None:
            return slice(0, len(clips.centers))
        return slice(middles[0], min(middles[-1] + 1, middles[0] + _full(clips, window)))

    def sample(self, rows: Float[Tensor, "N D"], clips: Clips, window: Window) -> Float[Tensor, "D T"] | None:
        """What a window sees of a video: one column per bin.

        Args:
            rows: One row per clip: `file.features`, or class scores.
            clips: The feature file the rows are of.
            window: One of `of(file.duration)`.

        Returns:
            The columns; None where the window shows no clip.

        Raises:
            FeatureError: If there is not one row per clip.
        """
        if len(rows) != len(clips.centers):
            raise FeatureError(f"{clips.video}: {len(rows)} rows were given for {len(clips.centers)} clips")
        picked = self.rows(clips, window)
        return None if picked is None else self.place(rows[picked], clips, window)

    def place(self, picked: Float[Tensor, "M D"], clips: Clips, window: Window) -> Float[Tensor, "D T"]:
        """As `sample`, from the rows of `rows(clips, window)` alone, so that others need not be read."""
        return (
            _by_rows(picked, clips, window, self.bin_s is None)
            if self.placing == "rows"
            else _by_time(picked, clips, window)
        )


def _neighbours(centers: Float[Tensor, " N"], window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """The clips before and behind the middle of each bin, and the middle; before the first clip and behind the last these."""
    middles = window.start + torch.arange(window.num_bins, dtype=torch.float64) * window.bin_s + window.bin_s / 2
    middles = middles.clamp(centers[0], centers[-1])
    last = len(centers) - 1
    upper = torch.searchsorted(centers.contiguous(), middles).clamp(min=min(1, last), max=last)
    return (upper - 1).clamp(min=0), upper, middles


def _by_time(picked: Float[Tensor, "M D"], clips: Clips, window: Window) -> Float[Tensor, "D T"]:
    lower, upper, middles = _neighbours(clips.centers, window)
    gap = clips.centers[upper] - clips.centers[lower]
    share = torch.where(gap > 0, (middles - clips.centers[lower]) / gap.clamp(min=1e-12), 0.0)
    share = share.to(picked.dtype)[:, None]
    first = lower[0]
    columns = picked[lower - first] * (1 - share) + picked[upper - first] * share
    begins = window.start + torch.arange(window.num_bins, dtype=torch.float64) * window.bin_s
    return (columns * (begins < clips.duration)[:, None]).T


def _full(clips: Clips, window: Window) -> int:
    """Clips of a full window."""
    return max(round(window.length * clips.fps / clips.stride), 1)


def _by_rows(picked: Float[Tensor, "M D"], clips: Clips, window: Window, whole: bool) -> Float[Tensor, "D T"]:
    if not whole:
        picked = F.pad(picked, (0, 0, 0, _full(clips, window) - len(picked)))
    if len(picked) == window.num_bins:
        return picked.T
    return F.interpolate(picked.T[None], size=window.num_bins, mode="linear", align_corners=True)[0]


def inside(segments: Float[Tensor, "G 2"], window: Window) -> Bool[Tensor, " G"]:
    """Which segments, in seconds, lie in a window with more than 99.9 % of their length."""
    start, end = segments[:, 0], segments[:, 1]
    shared = (end.clamp(max=window.end) - start.clamp(min=window.start)).clamp(min=0)
    return shared / (end - start) > 0.999


def in_bins(segments: Float[Tensor, "G 2"], window: Window) -> Float[Tensor, "G 2"]:
    """Segments in seconds as bins from the start of a window, cut at its edges."""
    return ((segments - window.start) / window.bin_s).clamp(0, window.num_bins)
