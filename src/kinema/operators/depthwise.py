"""Depthwise convolutions, each channel by itself, whose gradients on a CPU take about as long as they do."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_PIECE = 3
"""Rows and columns of a kernel whose gradient PyTorch's library for CPUs computes fast; larger kernels are put together."""


class DepthwiseConv3d(nn.Conv3d):
    """y_c = x_c * w_c + b_c, one kernel of odd size for each channel, zeros outside the clip.

    It is `nn.Conv3d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)`, with the same parameters and the same
    result. Only the gradients are computed in another way, on a CPU in single precision: that of x as the convolution with
    the mirrored kernel that it is, that of w from pieces of 3 x 3 (`depthwise_weight_gradient`). Channels are made
    innermost in memory first. Under autocast, and in a program that is traced, compiled or exported, PyTorch's own serve.

    Args:
        dim: Size of C.
        kernel_size: Frames, rows and columns of a kernel, odd.

    Shape:
        (B, C, T, H, W) to the same.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        # Compilers first: a size that is looked at becomes a condition of the program.
        compiled = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if compiled or not own_gradient_serves(input) or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return _Depthwise.apply(input.contiguous(memory_format=torch.channels_last_3d), self.weight, self.bias)


def own_gradient_serves(x: Tensor) -> bool:
    """Whether the gradients of this file are faster than PyTorch's: on a CPU, in single precision."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def depthwise_weight_gradient(
    x: Float[Tensor, "B C T H W"], gradient: Float[Tensor, "B C T H W"], size: tuple[int, int, int]
) -> Float[Tensor, "C 1 kt kh kw"]:
    """The gradient of the kernels of a depthwise convolution that keeps the size of its maps.

        w'_c[i, j, k] = sum over b, t, y, z of x_c[b, t + i - r_t, y + j - r_h, z + k - r_w] gradient_c[b, t, y, z]

    with zeros outside the clip. Each frame of the kernel is one of a convolution of pictures, against the clip moved in
    time; its rows and columns are cut into pieces of at most 3 x 3, each against pictures moved in space, where numbers
    that two pieces share are computed twice.

    Args:
        x: What was convolved.
        gradient: Of the result.
        size: Frames, rows and columns of a kernel, odd.
    """
    frames, rows, columns = size
    channels, length = x.shape[1:3]
    height, width = x.shape[3:]
    padded = F.pad(x.movedim(1, -1), (0, 0, columns // 2, columns // 2, rows // 2, rows // 2)).movedim(-1, 1)
    gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
    kernel = x.new_zeros(channels, 1, frames, rows, columns)
    piece_rows, piece_columns = min(rows, _PIECE), min(columns, _PIECE)
    pattern = x.new_empty(channels, 1, piece_rows, piece_columns)  # only its shape is looked at
    for row in _starts(rows):
        for column in _starts(columns):
            moved = padded[..., row : row + height + piece_rows - 1, column : column + width + piece_columns - 1]
            moved = moved.contiguous(memory_format=torch.channels_last_3d)
            for frame in range(max(0, frames // 2 + 1 - length), min(frames, frames // 2 + length)):
                later = frame - frames // 2
                seen = moved[:, :, max(later, 0) : length + min(later, 0)]
                said = gradient[:, :, max(-later, 0) : length + min(-later, 0)]
                kernel[:, :, frame, row : row + piece_rows, column : column + piece_columns] = _of_pictures(
                    seen, said, pattern
                )
    return kernel


def _starts(size: int) -> list[int]:
    """Where pieces begin, so that they cover all; the last two may overlap."""
    starts = list(range(0, max(size - _PIECE, 0) + 1, _PIECE))
    return starts if starts[-1] + _PIECE >= size else [*starts, size - _PIECE]


def _of_pictures(x: Tensor, gradient: Tensor, pattern: Tensor) -> Tensor:
    pictures, said = (clip.transpose(1, 2).flatten(0, 1) for clip in (x, gradient))
    channels, mask = pattern.shape[0], [False, True, False]
    one, none = [1, 1], [0, 0]
    backward = torch.ops.aten.convolution_backward
    return backward(said, pictures, pattern, None, one, none, one, False, none, channels, mask)[1]


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _same_size(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        to_x, to_weight, to_bias = ctx.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        frames, rows, columns = weight.shape[2:]
        return (
            _same_size(gradient, weight.flip(2, 3, 4), None) if to_x else None,
            depthwise_weight_gradient(x, gradient, (frames, rows, columns)) if to_weight else None,
            gradient.sum(dim=(0, 2, 3, 4)) if to_bias else None,
        )


def _same_size(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    padding = [size // 2 for size in weight.shape[2:]]
    return F.conv3d(x, weight, bias, padding=padding, groups=weight.shape[0])
