"""A convolution over time against its equation; the shift is one of its kernels."""

import pytest
import torch
from torch import nn

from kinema.operators.shift import TemporalShift
from kinema.operators.temporal_conv import TemporalConv


def literal(module, x):
    """The sum of the equation, number by number over frames and taps."""
    weight = module.weight
    if module.groups > 1:
        weight = torch.diag_embed(weight[:, 0].T).movedim(0, -1)
    first = module.kernel_size - 1 if module.causal else module.kernel_size // 2
    y = torch.zeros_like(x)
    for frame in range(x.shape[2]):
        for tap in range(module.kernel_size):
            if 0 <= frame + tap - first < x.shape[2]:
                y[:, :, frame] += torch.einsum("cd,bdhw->bchw", weight[..., tap], x[:, :, frame + tap - first])
    return y


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"kernel_size": 5}, {"kernel_size": 2, "causal": True}])
@pytest.mark.parametrize("depthwise", [True, False])
def test_it_is_the_sum_of_its_equation(depthwise, options, frames):
    torch.manual_seed(0)
    module = TemporalConv(4, depthwise=depthwise, **options).double()
    nn.init.normal_(module.weight)
    x = torch.randn(2, 4, frames, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(module(x), literal(module, x))


@pytest.mark.parametrize("causal", [False, True])
def test_the_shift_is_one_of_its_kernels(causal):
    """A quarter of 8 channels: when two-way, one reads the next frame and one the frame before."""
    shift, module = TemporalShift(8, fraction=1 / 4, causal=causal), TemporalConv(8, depthwise=True)
    x = torch.randn(1, 8, 5, 2, 2)
    shifted = shift(x)
    with torch.no_grad():
        for channel in range(8):
            for tap, moved in enumerate((x.roll(1, 2), x, x.roll(-1, 2))):
                if torch.equal(shifted[:, channel, 1:-1], moved[:, channel, 1:-1]):
                    module.weight[channel, 0] = torch.eye(3)[tap]
    assert not torch.equal(module.weight[:, 0, 1], torch.ones(8))
    torch.testing.assert_close(module(x), shifted)


def test_what_is_refused():
    with pytest.raises(ValueError, match="kernel_size=4 has no centre"):
        TemporalConv(4, kernel_size=4)
    with pytest.raises(ValueError, match="causal=True"):
        TemporalConv(4).init_state(torch.zeros(1, 4, 2, 2))
