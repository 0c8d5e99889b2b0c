"""The yardstick of attention: softmax of all scores, formed in memory. Nothing but `kinema bench` uses it."""

import copy
from typing import Any

from torch import Tensor, nn

from kinema.operators.multihead import Attention


def has_attention(network: nn.Module) -> bool:
    """Whether any part of the network is kinema's attention."""
    return any(isinstance(module, Attention) for module in network.modules())


def with_explicit_attention(network: nn.Module) -> nn.Module:
    """A copy of a network that forms the scores of every query and key, as the authors' codes do.

    Raises:
        ValueError: If the network has no attention.
    """
    if not has_attention(network):
        raise ValueError("the network has no attention, so it has no explicit form of it")
    network = copy.deepcopy(network)
    for module in network.modules():
        if type(module) is Attention:
            module.__class__ = _ExplicitAttention
    return network


class _ExplicitAttention(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, keep: Any = None) -> Tensor:
        return self.weights(q, k, mask) @ v
