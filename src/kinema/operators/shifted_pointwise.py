"""A shift along time and the 1 x 1 convolution behind it, in one.

A shift moves whole groups of channels, and a 1 x 1 convolution is a sum over channels, so the sum can be taken group by
group, each at its own frames:

    y[t] = sum over groups g of W[:, g] x[t + offset(g), g]

Nothing is shifted in memory. That matters because a shift is nothing but memory: in TSM on ResNet-50 the copy of the
input costs about a tenth of a forward pass on two CPU threads, most of it the operating system handing out fresh pages,
and in training every copy is kept for the gradient of the weight. Here only the input is kept, which the network keeps
anyway.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Move(NamedTuple):
    """A group of channels, and -1, 0 or 1: frame t of the result is frame t + offset of the input."""

    channels: slice
    offset: int


def spans(offset: int, num_frames: int) -> tuple[slice, slice]:
    """Frames of the result that have a source, and their sources; the one frame left, if any, is zero."""
    if offset > 0:
        return slice(0, num_frames - 1), slice(1, num_frames)
    if offset < 0:
        return slice(1, num_frames), slice(0, num_frames - 1)
    return slice(0, num_frames), slice(0, num_frames)


def shifted_pointwise(
    frames: Float[Tensor, "B T C H W"], weight: Float[Tensor, "D C 1 1"], moves: list[Move]
) -> Float[Tensor, "B T D H W"]:
    """Convolve the shifted frames with a 1 x 1 kernel, without shifting them.

    Args:
        frames: Contiguous.
        weight: Of a convolution without bias, stride and groups.
        moves: Groups that together hold every channel once.
    """
    result = _ShiftedPointwise.apply(frames.flatten(3), weight.flatten(1), moves)
    return result.unflatten(3, frames.shape[3:])


class _ShiftedPointwise(torch.autograd.Function):
    """Clips one by one: the frames of one, less the first or last, are a batch of matrices with equal distances."""

    @staticmethod
    def forward(frames: Tensor, weight: Tensor, moves: list[Move]) -> Tensor:
        batch, num_frames, _, pixels = frames.shape
        result = frames.new_empty(batch, num_frames, weight.shape[0], pixels)
        for clip, output in zip(frames, result, strict=True):
            for number, (channels, offset) in enumerate(sorted(moves, key=_distance)):
                target, source = spans(offset, num_frames)
                _add_product(output[target], weight[:, channels], clip[source, channels], new=number == 0)
                if number == 0 and offset:
                    output[_without_source(offset)] = 0
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, list[Move]], output: Tensor) -> None:
        frames, weight, ctx.moves = inputs
        ctx.save_for_backward(frames, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        frames, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        to_frames = torch.empty_like(frames) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for channels, offset in ctx.moves:
            target, source = spans(offset, frames.shape[1])
            for number, (clip, output) in enumerate(zip(frames, gradient, strict=True)):
                if to_frames is not None:
                    part = to_frames[number][:, channels]
                    _add_product(part[source], weight[:, channels].t(), output[target], new=True)
                    if offset:
                        part[_without_source(-offset)] = 0
                if to_weight is not None:
                    to_weight[:, channels].addbmm_(output[target], clip[source, channels].mT)
        return to_frames, to_weight, None


def _distance(move: Move) -> int:
    """The group that stays first: it alone writes every frame, so that the others can add to it."""
    return abs(move.offset)


def _without_source(offset: int) -> int:
    return -1 if offset > 0 else 0


def _add_product(
    output: Float[Tensor, "T D P"], matrix: Float[Tensor, "D C"], frames: Float[Tensor, "T C P"], *, new: bool
) -> None:
    """Add the product of one matrix and each frame to `output`, or put it there if `output` holds nothing yet."""
    output.baddbmm_(matrix.expand(len(frames), -1, -1), frames, beta=0 if new else 1)
