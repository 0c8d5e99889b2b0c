"""What happens to the pixels of a clip before the network: torchvision v2, the same draw for all frames.

Clips stay uint8 up to the device; `Normalisation` is applied there, by the LightningModule, so that workers copy a
quarter of the bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kinema.data.augmentation.multi_scale_crop import MultiScaleCrop
from kinema.data.augmentation.options import Augmentation
from kinema.data.augmentation.short_side_jitter import ShortSideJitter
from kinema.data.decoding.report import DecodeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TrainCrop = Literal["random_resized", "random", "center", "multi_scale"]
NumCrops = Literal[1, 3, 5, 10]
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
        self.normalisation = normalisation
        self.bgr = normalisation.bgr
        scale = torch.tensor(normalisation.std) * 255
        shift = torch.tensor(normalisation.mean) / torch.tensor(normalisation.std)
        self.register_buffer("scale", scale.reshape(1, -1, 1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.reshape(1, -1, 1, 1, 1), persistent=False)

    def forward(self, clip: UInt8[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        if self.bgr:
            clip = clip.flip(1)
        return clip / self.scale - self.shift


_MOST_NARROW = 32
"""Times the short side: a frame then takes 18 times the memory of one of 16 to 9. Nothing a camera gives is near it."""


def _need_resizable(frames: Frames, short_side: int) -> None:
    """Refuse frames that would grow without bound: of 4 x 4096 pixels, a short side of 256 makes 256 x 262144."""
    height, width = frames.shape[-2:]
    short, long = sorted((height, width))
    if long > _MOST_NARROW * short:
        raise DecodeError(
            f"its frames of {width} x {height} pixels are more than {_MOST_NARROW} times as long as wide, and with a short "
            f"side of {short_side} the long one would have {long * short_side // short}; cut the video, or leave it out"
        )


@dataclass(frozen=True)
class TrainTransform:
    """Random crop, flip and augmentation of a training clip, the same draws for all frames.

    Args:
        size: Side of the square clip, in pixels.
        crop: `random_resized` cuts an area share of `scale` with an aspect ratio of `ratio` and resizes it; `random`
            and `center` resize the short side to `resize` and cut a square of `size`; `multi_scale` cuts TSM's boxes out of
            the frame as it is (see `MultiScaleCrop`), or resized to `resize`.
        resize: Short side in pixels before cutting; `size` when None.
        jitter: Smallest and largest short side in pixels, drawn for each clip in place of `resize`, for `random`.
        jitter_inverse: Draw the reciprocal of the short side, see `ShortSideJitter`.
        scale: Smallest and largest share of the area, for `random_resized`.
        ratio: Smallest and largest width over height, for `random_resized`.
        flip: Probability of mirroring left and right. Classes that name a side must be in `flip_pairs`.
        flip_pairs: Classes that swap when mirrored, as pairs of ids.
        augment: What else changes the pixels.
    """

    size: int
    crop: TrainCrop = "random_resized"
    resize: int | None = None
    jitter: tuple[int, int] | None = None
    jitter_inverse: bool = False
    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    flip_pairs: tuple[tuple[int, int], ...] = ()
    augment: Augmentation = field(default_factory=Augmentation)
    _cut: Callable[[Tensor], Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        short = self.resize or self.size
        if short < self.size:
            raise ValueError(f"resize {short} is below size {self.size}; the crop would not fit, use resize >= size")
        if self.jitter is not None and self.crop != "random":
            raise ValueError(
                f"jitter={list(self.jitter)} is for the crop 'random', not '{self.crop}'; leave one of them out"
            )
        if self.jitter is not None and self.jitter[0] < self.size:
            raise ValueError(f"jitter={list(self.jitter)} goes below size {self.size}; the crop would not fit")
        if self.jitter is None and self.jitter_inverse:
            raise ValueError(
                "jitter_inverse was given without jitter, the range of the short side; give it, or remove this"
            )
        if self.crop == "random_resized":
            cut = v2.RandomResizedCrop(self.size, scale=self.scale, ratio=self.ratio, antialias=True)
        elif self.crop in ("random", "center"):
            final = v2.RandomCrop(self.size) if self.crop == "random" else v2.CenterCrop(self.size)
            resize = v2.Resize(short, antialias=True)
            if self.jitter is not None:
                resize = ShortSideJitter(*self.jitter, inverse=self.jitter_inverse)
            cut = v2.Compose([resize, final])
        elif self.crop == "multi_scale":
            boxes = MultiScaleCrop(self.size)
            cut = boxes if self.resize is None else v2.Compose([v2.Resize(self.resize, antialias=True), boxes])
        else:
            raise ValueError(f"unknown crop '{self.crop}'; use one of {', '.join(get_args(TrainCrop))}")
        object.__setattr__(self, "_cut", cut)

    def __call__(self, frames: Frames, label: int) -> tuple[Frames, int]:
        """Transform the frames and, where a flip changes what is seen, the label. Draws from torch's generator.

        Raises:
            DecodeError: If frames are too narrow to be resized.
        """
        if self.crop in ("random", "center") or (self.crop == "multi_scale" and self.resize is not None):
            _need_resizable(frames, self.jitter[1] if self.jitter else self.resize or self.size)
        frames = self._cut(self.augment.whole(frames))
        if self.flip and torch.rand(()) < self.flip:
            frames = F.horizontal_flip(frames)
            swap = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
            label = swap.get(label, label)
        return self.augment(frames), label


@dataclass(frozen=True)
class EvalTransform:
    """The crops of a test clip.

    1 lies in the centre, 3 along the longer side (left, centre, right; or top to bottom), 5 in the four corners and the
    centre; 10 are those five and their mirror images.

    Args:
        size: Side of the square crop, in pixels.
        resize: Short side in pixels before cutting; `size` when None.
        num_crops: 1, 3, 5 or 10.
    """

    size: int
    resize: int | None = None
    num_crops: NumCrops = 1

    def __post_init__(self) -> None:
        if (self.resize or self.size) < self.size:
            raise ValueError(f"resize {self.resize} is below size {self.size}; the crop would not fit")
        if self.num_crops not in (1, 3, 5, 10):
            raise ValueError(f"num_crops must be 1, 3, 5 or 10, got {self.num_crops}")

    def __call__(self, frames: Frames) -> list[Frames]:
        """Cut the crops.

        Raises:
            DecodeError: If frames are too narrow to be resized.
        """
        _need_resizable(frames, self.resize or self.size)
        frames = F.resize(frames, [self.resize or self.size], antialias=True)
        if self.num_crops == 1:
            return [F.center_crop(frames, [self.size, self.size])]
        if self.num_crops >= 5:
            five = list(F.five_crop(frames, [self.size, self.size]))
            return five if self.num_crops == 5 else [*five, *(F.horizontal_flip(crop) for crop in five)]
        height, width = frames.shape[-2:]
        top, left = (height - self.size) // 2, (width - self.size) // 2
        if width >= height:
            corners = [(top, 0), (top, left), (top, width - self.size)]
        else:
            corners = [(0, left), (top, left), (height - self.size, left)]
        return [F.crop(frames, y, x, self.size, self.size) for y, x in corners]
