"""Windows of a fixed number of bins over the features of a video.

A boundary-matching network sees T bins at a time. Either the whole video is stretched to T bins (Lin et al. 2019, section 4.1,
arXiv:1907.09702, on ActivityNet), or windows of fixed length slide over it, each beginning half a window behind the last (the
authors of TAdaConv on EPIC-KITCHENS-100: T = 200 bins of 4 / 15 s, every 100 bins).
"""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from kinema.data.feature_files import FeatureError, FeatureFile

_REST_S = 0.2  # a window that would see less of the video is left out


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

    Raises:
        ValueError: If D is not from 1 to T, or the hop leaves a gap between windows.
    """

    num_bins: int = 100
    max_bins: int = 100
    bin_s: float | None = None
    hop_bins: int | None = None

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

    def sample(self, rows: Float[Tensor, "N D"], file: FeatureFile, window: Window) -> Float[Tensor, "D T"] | None:
        """What a window sees of a video: one column per bin.

        Rows whose clips have their middle in the window are filled up with zeros to as many as a full window has, and
        interpolated linearly to T columns, the first and the last row falling on the first and last column
        (align_corners). Of a whole video all rows are taken and none is filled up.

        Args:
            rows: One row per clip: `file.features`, or class scores.
            file: The feature file the rows are of.
            window: One of `of(file.duration)`.

        Returns:
            The columns; None where no clip has its middle in the window.

        Raises:
            FeatureError: If there is not one row per clip.
        """
        if len(rows) != len(file):
            raise FeatureError(f"{file.video}: {len(rows)} rows were given for {len(file)} clips")
        if self.bin_s is not None:
            spacing = file.stride / file.fps
            full = max(round(window.length / spacing), 1)
            inside = (file.centers >= window.start) & (file.centers < window.end)
            rows = rows[inside.to(rows.device)][:full]
            if not len(rows):
                return None
            rows = F.pad(rows, (0, 0, 0, full - len(rows)))
        columns = rows.T[None]
        if columns.shape[-1] == window.num_bins:
            return columns[0]
        return F.interpolate(columns, size=window.num_bins, mode="linear", align_corners=True)[0]


def covered(windows: list[Window], centers: Float[Tensor, " N"]) -> list[Window]:
    """The windows in which a clip has its middle."""
    return [window for window in windows if bool(((centers >= window.start) & (centers < window.end)).any())]


def inside(segments: Float[Tensor, "G 2"], window: Window) -> Bool[Tensor, " G"]:
    """Which segments, in seconds, lie in a window with more than 99.9 % of their length."""
    start, end = segments[:, 0], segments[:, 1]
    shared = (end.clamp(max=window.end) - start.clamp(min=window.start)).clamp(min=0)
    return shared / (end - start) > 0.999


def in_bins(segments: Float[Tensor, "G 2"], window: Window) -> Float[Tensor, "G 2"]:
    """Segments in seconds as bins from the start of a window, cut at its edges."""
    return ((segments - window.start) / window.bin_s).clamp(0, window.num_bins)
