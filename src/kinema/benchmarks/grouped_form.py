"""The yardstick of the benchmarks: TAdaConv as its authors' code computes it. Nothing but `kinema bench` uses it.

A kernel is built for every frame of every clip, and one convolution with clips x frames times as many groups applies
them all; the router pools the features twice; aggregation is a pooling, two norms and an addition. The result is the
same, so what the benchmark compares is the cost alone.
"""

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.routing import describe
from kinema.operators.tada_layer import TAdaLayer, calibrate
from kinema.operators.tadaconv import TAdaConv2d


def has_grouped_form(network: nn.Module) -> bool:
    """Whether any 2-D convolution of the network is calibrated by a router."""
    return any(map(_is_calibrated, network.modules()))


def _is_calibrated(module: nn.Module) -> bool:
    return isinstance(module, TAdaLayer) and isinstance(module.conv, TAdaConv2d) and module.router is not None


def in_grouped_form(network: nn.Module) -> nn.Module:
    """A copy of a network, every calibrated 2-D convolution and aggregation in the authors' form.

    Raises:
        ValueError: If the network has none.
    """
    if not has_grouped_form(network):
        raise ValueError("the network has no calibrated 2-D convolution, so it has no grouped form")
    network = copy.deepcopy(network)
    for module in network.modules():
        if _is_calibrated(module):
            module.__class__ = _GroupedLayer
        elif type(module) is TemporalAggregation and module.norm_pool is not None and module.pooling == "avg":
            module.__class__ = _LiteralAggregation
    return network


def one_layer(channels: int, kernel_size: int = 3) -> dict[str, nn.Module]:
    """One layer with its router, in the grouped form and in kinema's, and its convolution alone."""
    conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
    layer = calibrate(conv)
    grouped = in_grouped_form(nn.ModuleList([layer]))[0]  # type: ignore[index]
    return {"grouped": grouped, "kinema": layer, "plain": calibrate(conv, routing="none")}


class _GroupedLayer(TAdaLayer):
    def forward(self, x: Tensor) -> Tensor:
        assert self.router is not None
        factors = self.router(describe(x) + 0 * x.mean(dim=(2, 3, 4))[:, :, None])  # the second pooling
        factors = self._completed(factors)
        conv: Any = self.conv
        batch, _, frames, height, width = x.shape
        weight = conv.weight.expand(batch, frames, *conv.weight.shape[2:])
        if factors.cin is not None and conv.groups == 1:
            weight = weight * factors.cin.transpose(1, 2)[:, :, None, :, None, None]
        if factors.cout is not None:
            weight = weight * factors.cout.transpose(1, 2)[:, :, :, None, None, None]
        bias = conv.bias
        if bias is not None:
            bias = bias.expand(batch, frames, -1)
            if factors.bias is not None:
                bias = bias * factors.bias.transpose(1, 2)
            bias = bias.reshape(-1)
        y = F.conv2d(
            x.transpose(1, 2).reshape(1, -1, height, width),
            weight.reshape(-1, *weight.shape[3:]),
            bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups * batch * frames,
        )
        return y.view(batch, frames, conv.out_channels, *y.shape[2:]).transpose(1, 2)


class _LiteralAggregation(TemporalAggregation):
    def forward(self, x: Tensor) -> Tensor:
        assert self.norm_pool is not None
        pooled = F.avg_pool3d(x, (self.kernel, 1, 1), 1, (self.kernel // 2, 0, 0))
        return self._as_volume(self.norm, x) + self._as_volume(self.norm_pool, pooled)

    @staticmethod
    def _as_volume(norm: Any, x: Tensor) -> Tensor:
        training, running = norm.training, (norm.running_mean, norm.running_var)
        return F.batch_norm(x, *running, norm.weight, norm.bias, training, norm.momentum, norm.eps)
