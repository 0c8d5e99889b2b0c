"""Temporal shift (Lin, Gan and Han 2019, sections 3 and 4, arXiv:1811.08383)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.shapes import check_clip


class TemporalShift(nn.Module):
    """Move half of `fraction` of the channels one frame back from the future and half one frame on from the past.

    With F = floor(C * fraction / 2), frames counted from 0 and frames outside the clip zero:

        y[c, t] = x[c, t + 1]   for      c < F     (two-way)        y[c, t] = x[c, t - 1]   for c < F    (causal)
        y[c, t] = x[c, t - 1]   for F <= c < 2F                     y[c, t] = x[c, t]       otherwise
        y[c, t] = x[c, t]       otherwise

    Costs no multiplications and one copy of the input. The two-way layout is that of the authors' published weights
    (their `shift_div` is 2 / fraction); the causal one that of their online model: the leading channels hold the past
    and the other half of `fraction` stays in place, so fraction 1/4 moves the leading eighth. Two-way weights are
    therefore of no use to a causal network: the same channels hold the future in one and the past in the other.

    Args:
        channels: Size of C.
        fraction: Share of the channels moved in total when two-way, in (0, 1]; the paper's grid is 1/8, 1/4, 1/2, 1.
        causal: Read the past only, which makes `step` equal to `forward`.

    Shape:
        (B, C, T, H, W) to the same; any T. A clip of one frame loses the moved channels: both neighbours are zero.

    Raises:
        ValueError: If no channel would move, or `fraction` is above 1.
    """

    def __init__(self, channels: int, *, fraction: float = 1 / 4, causal: bool = False) -> None:
        super().__init__()
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction={fraction} is no share of the channels; give a number in (0, 1]")
        self.channels = channels
        self.fraction = fraction
        self.causal = causal
        self.fold = math.floor(channels * fraction / 2 + 1e-9)  # 2 / 3 of 9 channels is 6, not 5.999
        if self.fold == 0:
            raise ValueError(
                f"fraction={fraction} moves no channel of channels={channels}; "
                f"give fraction >= {2 / channels:.4g}, or leave the shift out"
            )

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.channels)
        frames = x.transpose(1, 2)  # as a backbone keeps them in memory, so that it folds the result without a copy
        if self.causal:
            past, still = frames.split([self.fold, self.channels - self.fold], dim=2)
            shifted = torch.cat([delay(past), still], dim=2)
        else:
            future, past, still = frames.split([self.fold, self.fold, self.channels - 2 * self.fold], dim=2)
            shifted = torch.cat([advance(future), delay(past), still], dim=2)
        return shifted.transpose(1, 2)

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H W"]:
        """Zeros: before the first frame there is nothing.

        Raises:
            ValueError: If the shift is two-way.
        """
        if not self.causal:
            raise ValueError(
                "a two-way shift needs the next frame, so it cannot run on a stream; build it with causal=True"
            )
        return torch.zeros_like(frame[:, : self.fold])

    def step(
        self, frame: Float[Tensor, "B C H W"], state: Float[Tensor, "B F H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B F H W"]]:
        """Put the kept channels of the last frame in front; keep those of this one, as they came in."""
        return torch.cat([state, frame[:, self.fold :]], dim=1), frame[:, : self.fold]

    def extra_repr(self) -> str:
        return f"channels={self.channels}, fraction={self.fraction}, causal={self.causal}"


def advance(frames: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T C H W"]:
    """Frame t + 1 at t; zeros at the last frame."""
    return F.pad(frames[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))


def delay(frames: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T C H W"]:
    """Frame t - 1 at t; zeros at the first frame."""
    return F.pad(frames[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
