"""Depthwise 3-D convolutions in the forms that PyTorch offers, beside kinema's. Nothing but `kinema bench` uses it."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.depthwise import DepthwiseConv3d


def depthwise_forms(channels: int, kernel_size: int) -> dict[str, nn.Module]:
    """One layer with one set of weights in four forms, the first of them PyTorch's on channels as they come.

    Args:
        channels: Channels of the feature maps.
        kernel_size: Frames, rows and columns of the kernels, odd.

    Returns:
        `conv3d`; `channels_last`, the same with channels made innermost in memory; `conv2d`, the sum over the kernel's frames
        of 2-D convolutions, which is the same sum in another order; and `kinema`.
    """
    ours = DepthwiseConv3d(channels, kernel_size)
    forms: dict[str, nn.Module] = {}
    for name, form in (("conv3d", _AsItComes), ("channels_last", _ChannelsLast), ("conv2d", _Conv2ds)):
        forms[name] = copy.deepcopy(ours)
        forms[name].__class__ = form
    return {**forms, "kinema": ours}


class _AsItComes(DepthwiseConv3d):
    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return nn.Conv3d.forward(self, input)


class _ChannelsLast(DepthwiseConv3d):
    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return nn.Conv3d.forward(self, input.contiguous(memory_format=torch.channels_last_3d))


class _Conv2ds(DepthwiseConv3d):
    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        length, middle = input.shape[2], self.kernel_size[0] // 2
        frames = input.contiguous(memory_format=torch.channels_last_3d).transpose(1, 2)
        out = self._convolved(frames, middle, self.bias)
        for later in range(1, min(middle, length - 1) + 1):
            out[:, later:] += self._convolved(frames[:, :-later], middle - later, None)
            out[:, :-later] += self._convolved(frames[:, later:], middle + later, None)
        return out.transpose(1, 2)

    def _convolved(self, frames: Tensor, index: int, bias: Tensor | None) -> Tensor:
        kernel = self.weight[:, :, index].contiguous(memory_format=torch.channels_last)
        pictures, padding = frames.flatten(0, 1), self.kernel_size[1] // 2
        return F.conv2d(pictures, kernel, bias, padding=padding, groups=self.groups).unflatten(0, frames.shape[:2])
