"""Resize a clip so that its short side has a random length."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F


class ShortSideJitter:
    """Resize all frames to one short side, drawn from `smallest` to `largest` pixels, both included.

    Every whole number is equally likely (VGG's scale jitter; TAda2D draws from 224 to 340, TimeSformer from 256 to 320), or
    every whole number's reciprocal is about equally likely when `inverse`: then small sides come more often, as
    SlowFast's code and TimeSformer on Something-Something have it. SlowFast rounds a real number, which makes the two ends
    half as likely as the others.

    Args:
        smallest: Pixels.
        largest: Pixels.
        inverse: Draw the reciprocal of the side.
    """

    def __init__(self, smallest: int, largest: int, *, inverse: bool = False) -> None:
        if not 0 < smallest <= largest:
            raise ValueError(
                f"a short side from {smallest} to {largest} pixels is no range; use 0 < smallest <= largest"
            )
        self.smallest, self.largest, self.inverse = smallest, largest, inverse

    def __call__(self, frames: UInt8[Tensor, "T C H W"]) -> UInt8[Tensor, "T C h w"]:
        """Draw from torch's generator and resize."""
        return F.resize(frames, [self.draw()], antialias=True)

    def draw(self) -> int:
        """A short side in pixels."""
        if not self.inverse:
            return int(torch.randint(self.smallest, self.largest + 1, ()))
        share = float(torch.rand(()))
        return round(1 / (1 / self.largest + share * (1 / self.smallest - 1 / self.largest)))
