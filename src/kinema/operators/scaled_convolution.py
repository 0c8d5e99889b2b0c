"""A convolution of scaled frames that keeps only the frames: conv(a * x; W) without a * x staying in memory."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kinema.shapes import fold_time, unfold_time

Pair = tuple[int, int]


def scaled_convolution(
    x: Float[Tensor, "B I T H W"],
    factor: Float[Tensor, "B I T"],
    weight: Float[Tensor, "O G kh kw"],
    bias: Float[Tensor, "O"] | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Float[Tensor, "BT O h w"]:
    """conv2d(factor * frames) of all frames, the factor one number per frame and channel.

    Left to autograd, the scaled frames would be kept for the weight's gradient beside the frames themselves for the
    factor's. Here they are made again in the backward pass, one multiplication per number, so a calibrated convolution
    keeps no more than a plain one. Scaling and folding are one pass: a clip that lies in memory channel by channel is not
    copied first.
    """
    geometry = stride, padding, dilation, groups
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # a compiler fuses by itself
        return F.conv2d(fold_time(x * factor[..., None, None]), weight, bias, *geometry)
    if not torch.is_grad_enabled():
        return F.conv2d(_scaled(x, factor), weight, bias, *geometry)
    if torch.is_autocast_enabled(x.device.type):  # which would see nothing of what happens within a custom function
        return F.conv2d(fold_time(x * factor[..., None, None]), weight, bias, *geometry)
    return _ScaledConvolution.apply(x, factor, weight, bias, *geometry)


def _scaled(x: Float[Tensor, "B I T H W"], factor: Float[Tensor, "B I T"]) -> Float[Tensor, "BT I H W"]:
    frames, by_frame = x.transpose(1, 2), factor.transpose(1, 2)[..., None, None]
    if x.stride(1) == 1:  # channels innermost: stay so
        return (frames * by_frame).flatten(0, 1)
    return torch.mul(frames, by_frame, out=torch.empty(frames.shape, dtype=x.dtype, device=x.device)).flatten(0, 1)


class _ScaledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        factor: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(x, factor, weight)
        ctx.bias_size = None if bias is None else list(bias.shape)
        ctx.geometry = stride, padding, dilation, groups
        return F.conv2d(_scaled(x, factor), weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        x, factor, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        to_x, to_factor, to_weight, to_bias = ctx.needs_input_grad[:4]
        through, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradients[0],
            _scaled(x, factor),
            weight,
            ctx.bias_size,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [to_x or to_factor, to_weight, to_bias],
        )
        of_x = of_factor = None
        if through is not None:
            through = unfold_time(through, x.shape[2])
            of_factor = (through * x).sum(dim=(3, 4)) if to_factor else None
            of_x = through.mul_(factor[..., None, None]) if to_x else None
        return of_x, of_factor, of_weight, of_bias, None, None, None, None
