"""Paint over a random box of a clip, the same box in all frames (random erasing of a cube)."""

import math
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

Filling = Literal["noise", "color", "gray"]
_TRIES = 100  # draws of a box until one fits into the frame


class RandomErasing:
    """With some probability paint a box over a clip, at the same place in every frame.

    The box has a share of the frame's area that is uniform in `area`, and a height over width whose logarithm is uniform
    in `ratio` (Zhong et al. 2020, arXiv:1708.04896, algorithm 1; the same box for all frames as in PySlowFast, whose
    default is `noise`, new in every frame). Boxes that do not fit are drawn again.

    The original paints after normalisation, unbounded normal noise; here pixels are bytes, so noise is normal with `mean`
    and `std` of the pixel values and clipped to 0 .. 255, which cuts about 3 % of the values.

    Args:
        probability: That a clip is painted on.
        filling: `noise` of its own for every pixel, one random `color`, or the `gray` of the mean.
        area: Smallest and largest share of the frame.
        ratio: Smallest and largest height over width.
        mean: Of the noise, as share of 255.
        std: Of the noise, as share of 255.
    """

    def __init__(
        self,
        probability: float = 0.25,
        *,
        filling: Filling = "noise",
        area: tuple[float, float] = (0.02, 1 / 3),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
        mean: float = 0.45,
        std: float = 0.225,
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"a probability lies in [0, 1], got {probability}")
        if filling not in ("noise", "color", "gray"):
            raise ValueError(f"unknown filling '{filling}'; use noise, color or gray")
        self.probability, self.filling = probability, filling
        self.area, self.ratio, self.mean, self.std = area, ratio, mean, std

    def __call__(self, frames: UInt8[Tensor, "T C H W"]) -> UInt8[Tensor, "T C H W"]:
        """Draw from torch's generator and paint; the clip given is left as it is."""
        if torch.rand(()) >= self.probability:
            return frames
        box = self._box(*frames.shape[-2:])
        if box is None:
            return frames
        top, left, height, width = box
        frames = frames.clone()
        frames[..., top : top + height, left : left + width] = self._paint(
            (frames.shape[0], frames.shape[1], height, width)
        )
        return frames

    def _box(self, height: int, width: int) -> tuple[int, int, int, int] | None:
        for _ in range(_TRIES):
            pixels = height * width * _uniform(*self.area)
            ratio = math.exp(_uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            high, wide = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < high < height and 0 < wide < width:
                top, left = int(torch.randint(height - high + 1, ())), int(torch.randint(width - wide + 1, ()))
                return top, left, high, wide
        return None

    def _paint(self, shape: tuple[int, int, int, int]) -> Tensor:
        if self.filling == "gray":
            values = torch.full((1, 1, 1, 1), self.mean)
        else:
            drawn = torch.randn(shape if self.filling == "noise" else (1, shape[1], 1, 1))
            values = self.mean + self.std * drawn
        return (values * 255).round_().clamp_(0, 255).to(torch.uint8)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
