"""A convolution of scaled frames that keeps only the frames: conv(a * x; W) without a * x staying in memory."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Pair = tuple[int, int]


def scaled_convolution(
    frames: Float[Tensor, "N I H W"],
    factor: Float[Tensor, "N I"],
    weight: Float[Tensor, "O G kh kw"],
    bias: Float[Tensor, "O"] | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Float[Tensor, "N O h w"]:
    """conv2d(factor * frames), the factor one number per frame and channel.

    Left to autograd, the scaled frames would be kept for the weight's gradient beside the frames themselves for the
    factor's. Here they are made again in the backward pass, one multiplication per number, so a calibrated convolution
    keeps no more than a plain one.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return F.conv2d(_scaled(frames, factor), weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled(frames.device.type):  # which would see nothing of what happens within
        return F.conv2d(_scaled(frames, factor), weight, bias, stride, padding, dilation, groups)
    return _ScaledConvolution.apply(frames, factor, weight, bias, stride, padding, dilation, groups)


def _scaled(frames: Tensor, factor: Tensor) -> Tensor:
    return frames * factor[:, :, None, None]


class _ScaledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        factor: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(frames, factor, weight)
        ctx.bias_size = None if bias is None else list(bias.shape)
        ctx.geometry = stride, padding, dilation, groups
        return F.conv2d(_scaled(frames, factor), weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        frames, factor, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        to_frames, to_factor, to_weight, to_bias = ctx.needs_input_grad[:4]
        through, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradients[0],
            _scaled(frames, factor),
            weight,
            ctx.bias_size,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [to_frames or to_factor, to_weight, to_bias],
        )
        of_factor = (through * frames).sum(dim=(2, 3)) if to_factor else None
        of_frames = through.mul_(factor[:, :, None, None]) if to_frames else None
        return of_frames, of_factor, of_weight, of_bias, None, None, None, None
