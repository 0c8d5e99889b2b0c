"""A linear layer and the convolution that it is give the same, whichever of them computes."""

import pytest
import torch
from torch.nn import functional as F

from kinema.operators import token_linear
from kinema.operators.token_linear import TokenLinear, linear_on_tokens


@pytest.mark.parametrize("shape", [(70, 12), (2, 40, 12), (2, 3, 5, 7, 12), (1, 12), (0, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_linear_layer(shape, bias):
    torch.manual_seed(0)
    layer, x = TokenLinear(12, 5, bias=bias), torch.randn(shape)
    wanted = F.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), wanted)
        torch.testing.assert_close(layer(x.mT.contiguous().mT) if x.ndim > 1 else layer(x), wanted)
    torch.testing.assert_close(layer(x), wanted)


def test_the_convolution_serves_where_no_gradient_is_wanted(monkeypatch):
    calls, convolve = [], F.conv2d
    monkeypatch.setattr(token_linear.F, "conv2d", lambda *args: calls.append(args) or convolve(*args))
    weight = torch.randn(5, 12)
    with torch.no_grad():
        linear_on_tokens(torch.randn(100, 12), weight, None)
        assert len(calls) == 1
        linear_on_tokens(torch.randn(10, 12), weight, None)
        linear_on_tokens(torch.randn(100, 12, dtype=torch.float64), weight.double(), None)
    linear_on_tokens(torch.randn(100, 12), weight, None)
    assert len(calls) == 1
