"""What changes the colours and pixels of a training clip beside its crop and its flip."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kinema.data.augmentation.rand_augment import RandAugment
from kinema.data.augmentation.random_erasing import Filling, RandomErasing
from kinema.data.augmentation.warp import Frames, Interpolation


@dataclass(frozen=True)
class Augmentation:
    """Options of the augmentation of a training clip: in this order, each drawn once for all frames.

    Args:
        rand_augment: Such as "rand-m7-n4-mstd0.5-inc1", see `RandAugment.parse`; none when None.
        interpolation: Of the operations of RandAugment that move pixels. The papers have bicubic; bilinear is faster.
        before_crop: RandAugment sees the whole frame, as in PySlowFast and UniFormer, and not the crop, as in TAdaConv. It
            costs as many times more as the frame is larger.
        color_jitter: How far brightness, contrast, saturation and hue may go, such as [0.4, 0.4, 0.4, 0.1]; hue at most 0.5.
        grayscale: Probability that a clip loses its colours.
        erase: Probability that a box is painted over, the same in all frames.
        erase_filling: What with: `noise`, one `color`, or `gray`.
    """

    rand_augment: str | None = None
    interpolation: Interpolation = "bicubic"
    before_crop: bool = False
    color_jitter: tuple[float, float, float, float] | None = None
    grayscale: float = 0.0
    erase: float = 0.0
    erase_filling: Filling = "noise"
    _random: RandAugment | None = field(init=False, repr=False, compare=False)
    _jitter: Callable[[Tensor], Tensor] | None = field(init=False, repr=False, compare=False)
    _erase: RandomErasing | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.grayscale <= 1:
            raise ValueError(f"grayscale is a probability in [0, 1], got {self.grayscale}")
        if self.before_crop and self.rand_augment is None:
            raise ValueError(
                "before_crop=True was given without rand_augment, which it is about; name one, or remove it"
            )
        random = None if self.rand_augment is None else RandAugment.parse(self.rand_augment, self.interpolation)
        object.__setattr__(self, "_random", random)
        jitter = None if self.color_jitter is None else v2.ColorJitter(*self.color_jitter)
        object.__setattr__(self, "_jitter", jitter)
        object.__setattr__(
            self, "_erase", RandomErasing(self.erase, filling=self.erase_filling) if self.erase else None
        )

    def whole(self, frames: Frames) -> Frames:
        """What is done before the clip is cut."""
        return self._random(frames) if self._random is not None and self.before_crop else frames

    def __call__(self, frames: Frames) -> Frames:
        """What is done with the clip when it is cut and flipped. Draws from torch's generator."""
        if self._random is not None and not self.before_crop:
            frames = self._random(frames)
        if self._jitter is not None:
            frames = self._jitter(frames)
        if self.grayscale and torch.rand(()) < self.grayscale:
            frames = F.rgb_to_grayscale(frames, num_output_channels=3)
        return frames if self._erase is None else self._erase(frames)
