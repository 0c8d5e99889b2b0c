"""A depthwise convolution and its own gradients are those of conv3d, for every size of kernel and of clip."""

import pytest
import torch
from torch.nn import functional as F

from kinema.operators import depthwise
from kinema.operators.depthwise import DepthwiseConv3d, _Depthwise, depthwise_weight_gradient

SHAPES = [(2, 3, 4, 6, 5), (1, 2, 1, 3, 9), (2, 2, 3, 2, 2), (1, 1, 9, 1, 1)]


def drawn(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype)


def gradients(function, *inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    out = function(*inputs)
    return out, *torch.autograd.grad(out, inputs, drawn(*out.shape, dtype=out.dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
def test_result_and_gradients_are_those_of_conv3d(size, shape):
    channels = shape[1]
    inputs = drawn(*shape), drawn(channels, 1, size, size, size), drawn(channels)

    def plain(x, weight, bias):
        return F.conv3d(x, weight, bias, padding=size // 2, groups=channels)

    for own, wanted in zip(gradients(_Depthwise.apply, *inputs), gradients(plain, *inputs), strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("size", [(1, 7, 7), (3, 1, 5), (5, 3, 1), (1, 1, 1)])
def test_kernels_may_be_longer_one_way(size):
    x, gradient = drawn(2, 3, 4, 6, 5), drawn(2, 3, 4, 6, 5)
    weight = drawn(3, 1, *size).requires_grad_()
    F.conv3d(x, weight, padding=[side // 2 for side in size], groups=3).backward(gradient)
    torch.testing.assert_close(depthwise_weight_gradient(x, gradient, size), weight.grad)


def test_numerical_gradient():
    inputs = drawn(2, 2, 3, 4, 3), drawn(2, 1, 3, 3, 3), drawn(2)
    assert torch.autograd.gradcheck(_Depthwise.apply, [tensor.requires_grad_() for tensor in inputs])


@pytest.mark.parametrize("asked", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_not_asked_for_are_not_given(asked):
    inputs = [
        tensor.requires_grad_(wanted)
        for tensor, wanted in zip((drawn(1, 2, 3, 4, 4), drawn(2, 1, 3, 3, 3), drawn(2)), asked, strict=True)
    ]
    _Depthwise.apply(*inputs).sum().backward()
    assert [tensor.grad is not None for tensor in inputs] == list(asked)


def test_the_module_computes_what_conv3d_does_in_single_precision_too():
    torch.manual_seed(0)
    module, x = DepthwiseConv3d(4, 5), drawn(2, 4, 6, 8, 8, dtype=torch.float32)
    plain = torch.nn.Conv3d(4, 4, 5, padding=2, groups=4)
    plain.load_state_dict(module.state_dict())
    module(x).square().sum().backward()
    plain(x).square().sum().backward()
    torch.testing.assert_close(module.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(module.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-3)


def test_its_own_gradients_serve_on_a_cpu_in_single_precision_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(depthwise._Depthwise, "apply", lambda *inputs: calls.append(inputs) or inputs[0])
    module, x = DepthwiseConv3d(2, 3), torch.ones(1, 2, 2, 4, 4)
    module(x)
    assert len(calls) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(x)
    module.double()(x.double())
    assert len(calls) == 1
