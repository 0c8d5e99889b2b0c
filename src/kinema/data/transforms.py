"""What happens to the pixels of a clip before the network: torchvision v2, the same draw for all frames.

Clips stay uint8 up to the device; `Normalisation` is applied there, by the LightningModule, so that workers copy a
quarter of the bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TrainCrop = Literal["random_resized", "random", "center"]
Frames = UInt8[Tensor, "T C H W"]


@dataclass(frozen=True)
class Normalisation:
    """How pixel values become what a network was trained on: (x / 255 - mean) / std, channels RGB unless `bgr`."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False


class Normalise(nn.Module):
    """Turn a uint8 clip (B, C, T, H, W) into floats by a `Normalisation`, on the device it lies on."""

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.bgr = normalisation.bgr
        scale = torch.tensor(normalisation.std) * 255
        shift = torch.tensor(normalisation.mean) / torch.tensor(normalisation.std)
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.reshape(1, -1, 1, 1, 1), persistent=False)

    def forward(self, clip: UInt8[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        if self.bgr:
            clip = clip.flip(1)
        return clip / self.scale - self.shift


@dataclass(frozen=True)
class TrainTransform:
    """Random crop and flip of a training clip.

    Args:
        size: Side of the square clip, in pixels.
        crop: `random_resized` cuts an area share of `scale` with an aspect ratio of `ratio` and resizes it; `random`
            and `center` resize the short side to `resize` and cut a square of `size`.
        resize: Short side in pixels before cutting; `size` when None.
        scale: Smallest and largest share of the area, for `random_resized`.
        ratio: Smallest and largest width over height, for `random_resized`.
        flip: Probability of mirroring left and right. Classes that name a side must be in `flip_pairs`.
        flip_pairs: Classes that swap when mirrored, as pairs of ids.
    """

    size: int
    crop: TrainCrop = "random_resized"
    resize: int | None = None
    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    flip_pairs: tuple[tuple[int, int], ...] = ()
    _cut: Callable[[Tensor], Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        short = self.resize or self.size
        if short < self.size:
            raise ValueError(f"resize {short} is below size {self.size}; the crop would not fit, use resize >= size")
        if self.crop == "random_resized":
            cut = v2.RandomResizedCrop(self.size, scale=self.scale, ratio=self.ratio, antialias=True)
        elif self.crop in ("random", "center"):
            final = v2.RandomCrop(self.size) if self.crop == "random" else v2.CenterCrop(self.size)
            cut = v2.Compose([v2.Resize(short, antialias=True), final])
        else:
            raise ValueError(f"unknown crop '{self.crop}'; use random_resized, random or center")
        object.__setattr__(self, "_cut", cut)

    def __call__(self, frames: Frames, label: int) -> tuple[Frames, int]:
        """Transform the frames and, where a flip changes what is seen, the label. Draws from torch's generator."""
        frames = self._cut(frames)
        if self.flip and torch.rand(()) < self.flip:
            frames = F.horizontal_flip(frames)
            swap = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
            label = swap.get(label, label)
        return frames, label


@dataclass(frozen=True)
class EvalTransform:
    """The crops of a test clip: 1 in the centre, or 3 along its longer side (left, centre, right; top to bottom).

    Args:
        size: Side of the square crop, in pixels.
        resize: Short side in pixels before cutting; `size` when None.
        num_crops: 1 or 3.
    """

    size: int
    resize: int | None = None
    num_crops: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        if (self.resize or self.size) < self.size:
            raise ValueError(f"resize {self.resize} is below size {self.size}; the crop would not fit")
        if self.num_crops not in (1, 3):
            raise ValueError(f"num_crops must be 1 or 3, got {self.num_crops}")

    def __call__(self, frames: Frames) -> list[Frames]:
        frames = F.resize(frames, [self.resize or self.size], antialias=True)
        if self.num_crops == 1:
            return [F.center_crop(frames, [self.size, self.size])]
        height, width = frames.shape[-2:]
        top, left = (height - self.size) // 2, (width - self.size) // 2
        if width >= height:
            corners = [(top, 0), (top, left), (top, width - self.size)]
        else:
            corners = [(0, left), (top, left), (height - self.size, left)]
        return [F.crop(frames, y, x, self.size, self.size) for y, x in corners]
