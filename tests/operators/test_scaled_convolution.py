"""A convolution of scaled frames has the results and gradients of scaling first, whatever its geometry."""

import pytest
import torch
from torch.nn import functional as F

from kinema.operators.scaled_convolution import scaled_convolution


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def gradients(function, *inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    out = function(*inputs)
    return out, *torch.autograd.grad(out, inputs, drawn(*out.shape))


@pytest.mark.parametrize(
    ("weight", "stride", "padding", "groups"),
    [
        ((4, 1, 7, 7), (1, 1), (3, 3), 4),
        ((4, 1, 3, 3), (2, 2), (1, 1), 4),
        ((4, 1, 3, 3), (1, 1), (0, 0), 4),
        ((4, 2, 3, 3), (1, 1), (1, 1), 4),
        ((4, 1, 5, 3), (1, 1), (2, 1), 4),
        ((8, 1, 3, 3), (1, 1), (1, 1), 4),
        ((4, 1, 2, 2), (1, 1), (1, 1), 4),
    ],
)
def test_scaled_convolutions_have_the_gradients_of_plain_ones(weight, stride, padding, groups):
    channels = weight[1] * groups
    x, factor = (drawn(*shape) for shape in ((2, channels, 3, 8, 9), (2, channels, 3)))
    kernel = drawn(*weight)
    geometry = None, stride, padding, (1, 1), groups

    def plain(x, factor, kernel):
        frames = (x * factor[..., None, None]).transpose(1, 2).flatten(0, 1)
        return F.conv2d(frames, kernel, *geometry)

    def own(x, factor, kernel):
        return scaled_convolution(x, factor, kernel, *geometry)

    for ours, wanted in zip(gradients(own, x, factor, kernel), gradients(plain, x, factor, kernel), strict=True):
        torch.testing.assert_close(ours, wanted)
