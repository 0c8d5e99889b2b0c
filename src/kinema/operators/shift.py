"""Temporal shift (Lin, Gan and Han 2019, sections 3 and 4, arXiv:1811.08383)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.shifted_pointwise import Move, shifted_pointwise, spans
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
        self.fold = math.floor(channels * fraction / 2 + 1e-9)  # 180 * 0.7 / 2 is 63, not 62.99
        if self.fold == 0:
            raise ValueError(
                f"fraction={fraction} moves no channel of channels={channels}; "
                f"give fraction >= {2 / channels:.4g}, or leave the shift out"
            )

    @property
    def moves(self) -> list[Move]:
        """Which channels come from how many frames later."""
        first, second = slice(0, self.fold), slice(self.fold, 2 * self.fold)
        if self.causal:
            return [Move(first, -1), Move(slice(self.fold, self.channels), 0)]
        still = [Move(slice(2 * self.fold, self.channels), 0)] if 2 * self.fold < self.channels else []
        return [Move(first, 1), Move(second, -1), *still]

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.channels)
        frames = x.transpose(1, 2)  # as a backbone keeps them in memory, so that it folds the result without a copy
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _concatenated(frames, self.moves).transpose(1, 2)
        return _Shift.apply(frames, self.moves).transpose(1, 2)

    def then_pointwise(
        self, x: Float[Tensor, "B C T H W"], weight: Float[Tensor, "D C 1 1"]
    ) -> Float[Tensor, "B D T H W"]:
        """The shift and the 1 x 1 convolution behind it in one, without the copy; see `shifted_pointwise`."""
        check_clip(x, channels=self.channels)
        return shifted_pointwise(x.transpose(1, 2), weight, self.moves).transpose(1, 2)

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
        """Put the kept channels of the last frame in front; keep those of this one, as they came in.

        They are copied: as a part of the frame they would hold all of its memory until the next.
        """
        return torch.cat([state, frame[:, self.fold :]], dim=1), frame[:, : self.fold].clone()

    def extra_repr(self) -> str:
        return f"channels={self.channels}, fraction={self.fraction}, causal={self.causal}"


def _concatenated(frames: Float[Tensor, "B T C H W"], moves: list[Move]) -> Float[Tensor, "B T C H W"]:
    """The shift without writing into slices, which exporters get silently wrong."""
    parts = []
    for move in moves:
        _, source = spans(move.offset, frames.shape[1])
        padding = (0, 0, 0, 0, 0, 0, max(-move.offset, 0), max(move.offset, 0))
        parts.append(F.pad(frames[:, source, move.channels], padding))
    return torch.cat(parts, dim=2)


class _Shift(torch.autograd.Function):
    """The shift by one write of every number; its gradient is the opposite shift, so nothing is kept for it."""

    @staticmethod
    def forward(frames: Tensor, moves: list[Move]) -> Tensor:
        shifted = torch.empty_like(frames)
        for channels, offset in moves:
            target, source = spans(offset, frames.shape[1])
            shifted[:, target, channels] = frames[:, source, channels]
            if offset:
                shifted[:, -1 if offset > 0 else 0, channels] = 0
        return shifted

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, list[Move]], output: Tensor) -> None:
        ctx.moves = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Shift.apply(gradients[0], [Move(channels, -offset) for channels, offset in ctx.moves]), None
