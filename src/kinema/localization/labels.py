"""What a boundary-matching network should say of a window (Lin et al. 2019, section 3.4, arXiv:1907.09702)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.localization.sampling import valid_cells

_BOUNDARY_BINS = 3.0  # width of the region around a boundary, in bins


class Targets(NamedTuple):
    """What the maps of a window should be.

    Attributes:
        start: How much of each bin lies in the region around a start, in [0, 1].
        end: Likewise for ends.
        iou: Largest overlap (intersection over union) of each proposal with a segment; 0 where there is none.
        segment: Which segment that is, by its place in the list; -1 where nothing happens in the window.
        valid: Which proposals end within the window.
    """

    start: Float[Tensor, " T"]
    end: Float[Tensor, " T"]
    iou: Float[Tensor, "D T"]
    segment: Int[Tensor, "D T"]
    valid: Bool[Tensor, "D T"]


def window_targets(segments: Float[Tensor, "G 2"], num_bins: int, max_bins: int) -> Targets:
    """The targets of a window in which these segments lie.

    In bins, proposal (d, s) reaches from s to s + d + 1. Around each boundary b lies the region [b - 1.5, b + 1.5]; bin i
    is labelled with the share of [i - 0.5, i + 1.5] that lies in a region, the largest over all segments.

    That stretch is two bins wide, where the paper's is one: so it is in the authors' code and in TAdaConv's, and their
    published weights were trained with it.

    Args:
        segments: Start and end of each, in bins from the start of the window; several or none.
        num_bins: T.
        max_bins: D.

    Shape:
        Proposals that leave the window have targets like all others; losses mask them.
    """
    segments = segments.double().reshape(-1, 2)
    valid = valid_cells(num_bins, max_bins).to(segments.device)
    bins = torch.arange(num_bins, dtype=torch.float64, device=segments.device)
    if not len(segments):
        empty = bins.new_zeros(max_bins, num_bins)
        return Targets(bins * 0, bins * 0, empty, torch.full_like(empty, -1, dtype=torch.int64), valid)
    first = bins.expand(max_bins, num_bins)
    last = first + torch.arange(1, max_bins + 1, device=segments.device)[:, None]
    begin, end = segments[:, 0, None, None], segments[:, 1, None, None]
    shared = (torch.minimum(last, end) - torch.maximum(first, begin)).clamp(min=0)
    iou, segment = (shared / (last - first + end - begin - shared)).max(0)
    return Targets(_near(segments[:, 0], bins), _near(segments[:, 1], bins), iou, segment, valid)


def stack_targets(targets: Sequence[Targets]) -> Targets:
    """The targets of a batch of windows."""
    return Targets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def proposal_offsets(segments: Float[Tensor, "G 2"], targets: Targets) -> Float[Tensor, "2 D T"]:
    """How far the segment that a proposal overlaps with most starts and ends behind it, as shares of the proposal's length.

    Zero where nothing happens in the window.
    """
    num_lengths, num_bins = targets.iou.shape
    if not len(segments):
        return targets.iou.new_zeros(2, num_lengths, num_bins)
    first = torch.arange(num_bins, dtype=torch.float64).expand(num_lengths, num_bins)
    length = torch.arange(1, num_lengths + 1, dtype=torch.float64)[:, None]
    own = torch.stack([first, first + length])
    return (segments.double()[targets.segment].permute(2, 0, 1) - own) / length


def proposal_labels(labels: Int[Tensor, "G tasks"], targets: Targets) -> tuple[Int[Tensor, "D T"], ...]:
    """For each task, the class of the segment that a proposal overlaps with most; -1 where nothing happens."""
    if not len(labels):
        return tuple(torch.full_like(targets.segment, -1) for _ in range(labels.shape[1]))
    return tuple(labels[targets.segment].permute(2, 0, 1))


def _near(boundaries: Float[Tensor, " G"], bins: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    low, high = boundaries[:, None] - _BOUNDARY_BINS / 2, boundaries[:, None] + _BOUNDARY_BINS / 2
    shared = torch.minimum(bins + 1.5, high) - torch.maximum(bins - 0.5, low)
    return (shared.clamp(min=0) / 2).amax(0)
