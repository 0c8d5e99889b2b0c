"""The operations of RandAugment on a clip of bytes, each with the strength that a level from 0 to 10 means.

Ranges and order are those of timm's and PySlowFast's RandAugment, which follow Cubuk et al. 2020 (arXiv:1909.13719, section
3). The operations on colours are torchvision's, which work on each frame by its own statistics, as PySlowFast does; they
differ from PIL's by rounding. What moves pixels is `kinema.data.augmentation.warp`. `posterize` at level 10 keeps no bit, which
is black; PIL once gave that too and now refuses it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torchvision.transforms.v2 import functional as F

from kinema.data.augmentation.warp import Frames, Interpolation, warp

_STRONGEST = 10.0  # the level at which an operation has the strength stated here
_ROTATION, _SHEAR, _TRANSLATION = 30.0, 0.3, 0.45  # degrees, tangent, share of the side


@dataclass(frozen=True)
class Strength:
    """How an operation is applied.

    Args:
        level: In [0, 10], 10 being the strongest of the paper's ranges.
        sign: +1 or -1, the direction of what has one.
        increasing: A higher level changes more in every operation. Otherwise, as in the first code, a higher level keeps more
            bits in `posterize`, inverts less in `solarize`, and a level of 5 changes no colour.
        interpolation: Of what moves pixels.
    """

    level: float
    sign: int = 1
    increasing: bool = True
    interpolation: Interpolation = "bicubic"

    @property
    def share(self) -> float:
        """Of the strongest."""
        return self.level / _STRONGEST

    @property
    def bits(self) -> int:
        """That `posterize` keeps."""
        kept = int(self.share * 4)
        return 4 - kept if self.increasing else kept

    @property
    def threshold(self) -> int:
        """From which on `solarize` inverts."""
        value = min(256, int(self.share * 256))
        return 256 - value if self.increasing else value

    @property
    def factor(self) -> float:
        """Of an enhancement, 1 changing nothing: increasing levels lead away from it, others from 0.1 to 1.9."""
        return max(0.1, 1 + self.sign * 0.9 * self.share) if self.increasing else 0.1 + 1.8 * self.share


Operation = Callable[[Frames, Strength], Frames]


def rotate(frames: Frames, degrees: float, interpolation: Interpolation) -> Frames:
    """Turn about the centre, counter-clockwise."""
    height, width = frames.shape[-2:]
    x, y = width / 2, height / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y)
    return warp(frames, matrix, interpolation)


def solarize(frames: Frames, threshold: int) -> Frames:
    """Invert what is not below the threshold."""
    return frames if threshold > 255 else F.solarize(frames, threshold)


def solarize_add(frames: Frames, amount: int) -> Frames:
    """Lighten what is darker than half."""
    return frames + (frames < 128).to(torch.uint8) * amount  # at most 127 + 128, so bytes do not overflow


def _moved(frames: Frames, how: Strength, x_by_y: float = 0, x: float = 0, y_by_x: float = 0, y: float = 0) -> Frames:
    """Shear and shift, each of them to the strength and direction given."""
    amount = how.sign * how.share
    return warp(frames, (1, amount * x_by_y, amount * x, amount * y_by_x, 1, amount * y), how.interpolation)


OPERATIONS: dict[str, Operation] = {
    # These two are many times faster in one order of memory: 2.5 ms against 19 for a clip of 16 x 224 x 224, and 7 against 66.
    "auto_contrast": lambda frames, how: F.autocontrast(frames.contiguous()),
    "equalize": lambda frames, how: F.equalize(frames),
    "invert": lambda frames, how: F.invert(frames),
    "rotate": lambda frames, how: rotate(frames, how.sign * how.share * _ROTATION, how.interpolation),
    "posterize": lambda frames, how: F.posterize(frames, how.bits),
    "solarize": lambda frames, how: solarize(frames, how.threshold),
    "solarize_add": lambda frames, how: solarize_add(frames, min(128, int(how.share * 110))),
    "color": lambda frames, how: F.adjust_saturation(frames, how.factor),
    "contrast": lambda frames, how: F.adjust_contrast(frames, how.factor),
    "brightness": lambda frames, how: F.adjust_brightness(frames, how.factor),
    "sharpness": lambda frames, how: F.adjust_sharpness(
        frames.contiguous(memory_format=torch.channels_last), how.factor
    ),
    "shear_x": lambda frames, how: _moved(frames, how, x_by_y=_SHEAR),
    "shear_y": lambda frames, how: _moved(frames, how, y_by_x=_SHEAR),
    "translate_x": lambda frames, how: _moved(frames, how, x=_TRANSLATION * frames.shape[-1]),
    "translate_y": lambda frames, how: _moved(frames, how, y=_TRANSLATION * frames.shape[-2]),
}
