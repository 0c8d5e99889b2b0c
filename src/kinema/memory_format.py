"""How tensors of a network lie in memory: channels innermost is what a CPU and a tensor core read fastest."""

import torch
from torch import nn


def to_channels_last(network: nn.Module) -> None:
    """Keep kernels over pixels, and those over frames and pixels, with channels innermost in memory, in place.

    `nn.Module.to(memory_format=torch.channels_last)` knows the first alone, and fails on a network with both.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim in formats:
            tensor.data = tensor.data.contiguous(memory_format=formats[tensor.ndim])
