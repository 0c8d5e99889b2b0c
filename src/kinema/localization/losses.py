"""The losses of a boundary-matching network (Lin et al. 2019, section 3.4, arXiv:1907.09702).

Constants are those of the authors of TAdaConv, whose numbers the tests hold: eps is 1e-6, and the ratio of all to positive is
not clamped (mmaction2 has 1e-5 and [1.05, 21]).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from kinema.localization.labels import Targets
from kinema.localization.network import BoundaryMaps

_EPS = 1e-6


class Losses(NamedTuple):
    """What training minimises, and its parts before they are weighted.

    Attributes:
        total: The weighted sum.
        boundary: Of starts and ends.
        regression: Of the overlap that is regressed.
        classification: Of the overlap that is classified.
        offsets: Of the offsets of proposals; 0 without that head.
        classes: Of the classes of proposals; 0 without that head.
    """

    total: Tensor
    boundary: Tensor
    regression: Tensor
    classification: Tensor
    offsets: Tensor
    classes: Tensor


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts, and from where on an overlap is one.

    Args:
        boundary: Weight of starts and ends.
        regression: Weight of the regressed overlap.
        classification: Weight of the classified overlap.
        offsets: Weight of the offsets of proposals, where there is that head.
        classes: Weight of the classes of proposals, where there is that head.
        positive_iou: Overlap above which a proposal is positive to the classified one.
        high_iou: Overlap above which a proposal is high to the regressed one, and has offsets and a class.
        low_iou: Overlap up to which it is low.
    """

    boundary: float = 1.0
    regression: float = 10.0
    classification: float = 1.0
    offsets: float = 1.0
    classes: float = 1.0
    positive_iou: float = 0.9
    high_iou: float = 0.7
    low_iou: float = 0.3


def localization_losses(
    maps: BoundaryMaps,
    targets: Targets,
    *,
    weights: LossWeights | None = None,
    offsets: Float[Tensor, "B 2 D T"] | None = None,
    labels: tuple[Int[Tensor, "B D T"], ...] = (),
    generator: torch.Generator | None = None,
) -> Losses:
    """All losses of a batch of windows.

    Args:
        maps: What the network says.
        targets: What it should say, stacked over the batch.
        weights: How much each part counts.
        offsets: What the offsets of a proposal should be, where the network has that head.
        labels: Class of each proposal, one map per task, where it has that head.
        generator: Of the draws that subsample proposals, on the CPU.

    Raises:
        ValueError: If the network has a head without targets for it.
    """
    weights = weights or LossWeights()
    maps = _in_single(maps)
    boundary = boundary_loss(maps.start, targets.start) + boundary_loss(maps.end, targets.end)
    regressed, classified = maps.confidence.unbind(1)
    regression = regression_loss(
        regressed,
        targets.iou,
        targets.valid,
        high_iou=weights.high_iou,
        low_iou=weights.low_iou,
        generator=generator,
    )
    classification = classification_loss(classified, targets.iou, targets.valid, positive_iou=weights.positive_iou)
    chosen = (targets.iou > weights.high_iou) & targets.valid
    zero = boundary.new_zeros(())
    of_offsets, of_classes = zero, zero
    if maps.offsets is not None:
        if offsets is None:
            raise ValueError("the network has a head for offsets, and no offsets were given to learn")
        of_offsets = offset_loss(maps.offsets, offsets, chosen)
    if maps.classes:
        if len(labels) != len(maps.classes):
            raise ValueError(f"the network has {len(maps.classes)} class heads, and labels of {len(labels)} were given")
        parts = [class_loss(logits, label, chosen) for logits, label in zip(maps.classes, labels, strict=True)]
        of_classes = torch.stack(parts).mean()
    total = (
        weights.boundary * boundary
        + weights.regression * regression
        + weights.classification * classification
        + weights.offsets * of_offsets
        + weights.classes * of_classes
    )
    return Losses(total, boundary, regression, classification, of_offsets, of_classes)


def boundary_loss(probability: Float[Tensor, "B T"], target: Float[Tensor, "B T"]) -> Tensor:
    """Weighted cross entropy of bins, positive where the target is above 0.5; positives and negatives count as much."""
    positive = target > 0.5
    return _balanced(probability, positive, torch.ones_like(positive))


def classification_loss(
    probability: Float[Tensor, "B D T"],
    iou: Float[Tensor, "B D T"],
    valid: Bool[Tensor, "B D T"],
    *,
    positive_iou: float = 0.9,
) -> Tensor:
    """Weighted cross entropy of the proposals within the window, positive where they overlap enough."""
    positive = (iou > positive_iou) & valid
    return _balanced(probability, positive, valid)


def regression_loss(
    predicted: Float[Tensor, "B D T"],
    iou: Float[Tensor, "B D T"],
    valid: Bool[Tensor, "B D T"],
    *,
    high_iou: float = 0.7,
    low_iou: float = 0.3,
    generator: torch.Generator | None = None,
    draws: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Half the mean squared error over all high proposals and about as many of middle and of low overlap, drawn at random.

    Low are those of overlap above 0 up to `low_iou`; those without overlap do not count. Where there are no more middle or
    low ones than high ones, all of them count. The published code then counts every cell of the map, also those that leave
    the window, because its threshold for the draws becomes negative: on the reference data it has 0.2205 where this has
    0.0563.

    Args:
        predicted: Overlap as the network says it.
        iou: Overlap as it is.
        valid: Which proposals end within the window.
        high_iou, low_iou: Bounds of the three kinds.
        generator: Of the draws, on the CPU; PyTorch's own when None.
        draws: Numbers in [0, 1) by cell for the middle and the low ones, in place of the generator's.
    """
    high = (iou > high_iou) & valid
    middle = (iou > low_iou) & (iou <= high_iou) & valid
    low = (iou > 0) & (iou <= low_iou) & valid
    if draws is None:
        first, second = torch.rand((2, *iou.shape), generator=generator, dtype=torch.float64).to(iou.device)
        draws = first, second
    wanted = high.sum()
    chosen = high | _subset(middle, wanted, draws[0]) | _subset(low, wanted, draws[1])
    error = ((predicted - iou.to(predicted.dtype)) ** 2 * chosen).sum()
    return 0.5 * error / chosen.sum().clamp(min=1)


def offset_loss(predicted: Float[Tensor, "B 2 D T"], target: Float[Tensor, "B 2 D T"], chosen: Tensor) -> Tensor:
    """Smooth L1 of the offsets of chosen proposals; ours, as no loss of this head is published."""
    error = F.smooth_l1_loss(predicted, target.to(predicted.dtype), reduction="none").mean(1)
    return (error * chosen).sum() / chosen.sum().clamp(min=1)


def class_loss(logits: Float[Tensor, "B K D T"], label: Int[Tensor, "B D T"], chosen: Tensor) -> Tensor:
    """Cross entropy of the classes of chosen proposals; ours, as no loss of this head is published."""
    error = F.cross_entropy(logits, label.clamp(min=0), reduction="none")
    return (error * chosen).sum() / chosen.sum().clamp(min=1)


def _balanced(probability: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """Cross entropy over what is counted, in which positives and negatives weigh half each.

    With r = counted / positives, positives have the weight r / 2 and negatives r / (r - 1) / 2. Without a positive r is
    the number that is counted, and without a negative the weight of those is left out, which would be infinite.
    """
    counted, positive = counted.to(probability.dtype), positive.to(probability.dtype)
    entries = counted.sum().clamp(min=1)
    ratio = entries / positive.sum().clamp(min=1)
    negative_weight = torch.where(ratio > 1, 0.5 * ratio / (ratio - 1).clamp(min=1e-12), torch.zeros_like(ratio))
    gain = 0.5 * ratio * positive * torch.log(probability + _EPS)
    gain = gain + negative_weight * (counted - positive) * torch.log(1 - probability + _EPS)
    return -gain.sum() / entries


def _in_single(maps: BoundaryMaps) -> BoundaryMaps:
    """Maps in half precision in single: 1 - p + eps would be rounded to 0 there, and its logarithm infinite."""
    if maps.confidence.dtype not in (torch.float16, torch.bfloat16):
        return maps
    offsets = None if maps.offsets is None else maps.offsets.float()
    classes = tuple(logits.float() for logits in maps.classes)
    return BoundaryMaps(maps.start.float(), maps.end.float(), maps.confidence.float(), offsets, classes)


def _subset(cells: Tensor, wanted: Tensor, draws: Tensor) -> Tensor:
    """About `wanted` of the cells: each is kept with the probability wanted / cells."""
    share = wanted.to(draws.dtype) / cells.sum().clamp(min=1)
    return cells & (draws > 1 - share)
