"""RandAugment of a clip against torchvision's own, by processor time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from kinema.data.augmentation.rand_augment import RandAugment
from kinema.data.augmentation.warp import Interpolation

_LEVEL, _OPERATIONS = 9, 2
INTERPOLATIONS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class AugmentationRow:
    """What was measured of one contender.

    Args:
        name: Of the contender.
        cpu_ms: Median over the rounds of the processor time of a clip.
        ratio: Median over the rounds of this time relative to torchvision's in the same round, of the same interpolation; of
            bilinear for bicubic, which torchvision has not for tensors.
        ratio_low: First quartile of these ratios.
        ratio_high: Third quartile.
    """

    name: str
    cpu_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def compare_rand_augment(
    *, size: int = 224, num_frames: int = 16, rounds: int = 7, clips: int = 30
) -> list[AugmentationRow]:
    """Time both on the same clip, in turns: two operations at level 9, none left out; theirs may also draw the identity.

    Args:
        size: Side of the square frames, in pixels.
        num_frames: T.
        rounds: Rounds that count; one before them does not.
        clips: Clips of a contender in a round, each with draws of its own, the same in every round.
    """
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (num_frames, size // 8, size // 8, 3), dtype=torch.uint8)
    # As decoders and torchvision's resize leave a clip in memory: channels innermost.
    frames = frames.repeat_interleave(8, 1).repeat_interleave(8, 2).permute(0, 3, 1, 2)
    text = f"rand-m{_LEVEL}-n{_OPERATIONS}-p1-inc1"
    theirs = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}
    contenders: dict[str, Callable[[Tensor], Tensor]] = {}
    for interpolation in INTERPOLATIONS:
        contenders[f"kinema, {interpolation}"] = RandAugment.parse(text, interpolation)
    for name, mode in theirs.items():
        contenders[f"torchvision, {name}"] = v2.RandAugment(_OPERATIONS, _LEVEL, interpolation=mode, fill=[128.0] * 3)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            seconds[name].append(_seconds(contenders[name], frames, clips))
    rows = []
    for name in names:
        own, interpolation = seconds[name][1:], name.rpartition(" ")[2]
        base = seconds[f"torchvision, {interpolation if interpolation in theirs else 'bilinear'}"][1:]
        ratios = [a / b for a, b in zip(own, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        rows.append(AugmentationRow(name, 1000 * statistics.median(own), middle, low, high))
    return rows


def _seconds(augment: Callable[[Tensor], Tensor], frames: Tensor, clips: int) -> float:
    """Processor time of a clip."""
    before = time.process_time()
    for seed in range(clips):
        torch.manual_seed(seed)
        augment(frames)
    return (time.process_time() - before) / clips
