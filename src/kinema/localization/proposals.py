"""Proposals of a whole video from the maps of its windows (Lin et al. 2019, section 3.5, arXiv:1907.09702)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.data.untrimmed.windows import Window
from kinema.localization.network import BoundaryMaps
from kinema.localization.sampling import valid_cells


@dataclass(frozen=True)
class VideoMaps:
    """The maps of a whole video of L bins.

    Args:
        start: Probability that something begins at a bin.
        end: Probability that something ends at a bin.
        confidence: Of each proposal, regressed and classified overlap.
        valid: Which proposals a window has seen as a whole, and end within the video.
        bin_s: Seconds of one bin.
        duration: Seconds of the video.
        offsets: Of each proposal, where its start and end truly are, as shares of its length; None without that head.
        classes: Class probabilities of each proposal, one map per task; empty without that head.
    """

    start: Float[Tensor, " L"]
    end: Float[Tensor, " L"]
    confidence: Float[Tensor, "2 D L"]
    valid: Bool[Tensor, "D L"]
    bin_s: float
    duration: float
    offsets: Float[Tensor, "2 D L"] | None = None
    classes: tuple[Float[Tensor, "K D L"], ...] = ()


@dataclass(frozen=True)
class Proposals:
    """P proposals of one video.

    Args:
        first: First bin of each.
        length: Bins of each.
        start: Second at which each begins.
        end: Second at which each ends.
        regressed, classified: Its overlap with what happens, as the two channels say it.
        start_score, end_score: Probability of its boundaries.
    """

    first: Int[np.ndarray, " P"]
    length: Int[np.ndarray, " P"]
    start: Float[np.ndarray, " P"]
    end: Float[np.ndarray, " P"]
    regressed: Float[np.ndarray, " P"]
    classified: Float[np.ndarray, " P"]
    start_score: Float[np.ndarray, " P"]
    end_score: Float[np.ndarray, " P"]

    def __len__(self) -> int:
        return len(self.first)

    def score(self, *, regression_power: float = 1.0, classification_power: float = 1.2) -> Float[np.ndarray, " P"]:
        """classified ^ 1.2 * regressed, as in TAdaConv's runs; the probabilities of the boundaries do not count there."""
        return self.classified**classification_power * self.regressed**regression_power


def join_windows(windows: Sequence[Window], maps: BoundaryMaps, *, duration: float) -> VideoMaps:
    """The maps of a video from those of its windows: where windows overlap, their mean.

    A cell is averaged over the windows in which its proposal lies wholly; that of a proposal which none holds is not valid.
    A bin belongs to the video if it begins within it. Of classes, probabilities are averaged.

    Args:
        windows: Windows of one video, all of bins of the same length.
        maps: Theirs, in the same order.
        duration: Seconds of the video.
    """
    bin_s, num_bins = windows[0].bin_s, windows[0].num_bins
    offsets = [round(window.start / bin_s) for window in windows]
    length = max(offsets) + num_bins
    total = min(length, max(math.ceil(duration / bin_s - 1e-6), 1))
    max_bins = maps.confidence.shape[2]
    cells = valid_cells(num_bins, max_bins)
    parts = [maps.confidence, *([] if maps.offsets is None else [maps.offsets])]
    parts += [logits.double().softmax(1) for logits in maps.classes]
    over_bins = torch.stack([maps.start, maps.end], 1).double().cpu()
    over_cells = torch.cat([part.double().cpu() for part in parts], 1)
    bins, bin_count = torch.zeros(2, length, dtype=torch.float64), torch.zeros(length, dtype=torch.float64)
    summed = torch.zeros(over_cells.shape[1], max_bins, length, dtype=torch.float64)
    cell_count = torch.zeros(max_bins, length, dtype=torch.float64)
    for number, offset in enumerate(offsets):
        place = slice(offset, offset + num_bins)
        bins[:, place] += over_bins[number]
        bin_count[place] += 1
        summed[:, :, place] += over_cells[number] * cells
        cell_count[:, place] += cells
    bins, summed = (bins / bin_count.clamp(min=1))[:, :total], (summed / cell_count.clamp(min=1))[:, :, :total]
    valid = (cell_count[:, :total] > 0) & valid_cells(total, max_bins)
    confidence, *others = summed.split([part.shape[1] for part in parts])
    moved = others.pop(0) if maps.offsets is not None else None
    return VideoMaps(bins[0], bins[1], confidence, valid, bin_s, duration, moved, tuple(others))


def find_proposals(maps: VideoMaps, *, threshold: float = 0.5, reach_end: bool = True) -> Proposals:
    """Every pair of a likely start and a likely end that no more than D bins lie between.

    A start is likely at the first bin, at a local maximum, and above `threshold` times the maximum; an end likewise, but at
    the last bin. The proposal from bin s to e = s + d + 1, where its end is looked up, has cell (d, s).

    Args:
        maps: Of the video.
        threshold: Share of the largest probability above which a bin is likely.
        reach_end: Whether proposals may end where the video ends. The published code looks their end up behind the last
            bin and so never makes one; here the last bin speaks for it.
    """
    bins = len(maps.start)
    starts = likely(maps.start, threshold)
    starts[0] = True
    ends = torch.zeros(bins + 1, dtype=torch.bool)
    ends[:bins] = likely(maps.end, threshold)
    ends[bins - 1] = True
    ends[bins] = reach_end
    end_score = torch.cat([maps.end, maps.end[-1:]])
    last = torch.arange(bins)[None] + torch.arange(len(maps.valid))[:, None] + 1
    inside = last <= bins
    last = last.clamp(max=bins)
    d, s = (maps.valid & inside & starts[None] & ends[last]).nonzero(as_tuple=True)
    e = s + d + 1
    first, final = s.numpy(), e.numpy()
    return Proposals(
        first,
        final - first,
        np.minimum(first * maps.bin_s, maps.duration),
        np.minimum(final * maps.bin_s, maps.duration),
        maps.confidence[0, d, s].numpy(),
        maps.confidence[1, d, s].numpy(),
        maps.start[s].numpy(),
        end_score[e].numpy(),
    )


def likely(probability: Float[Tensor, " L"], threshold: float) -> Bool[Tensor, " L"]:
    """Bins above both neighbours, or above a share of the maximum."""
    found = probability > threshold * probability.max()
    if len(probability) > 2:
        middle = probability[1:-1]
        found[1:-1] |= (middle > probability[:-2]) & (middle > probability[2:])
    return found
