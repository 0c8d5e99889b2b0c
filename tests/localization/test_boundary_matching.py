"""Boundary matching against a literal loop over proposals, samples and points."""

import math

import pytest
import torch
from torch.nn import functional as F

from kinema.localization.sampling import BoundaryMatching, valid_cells

SIZES = [(7, 5, 3, 2, 0.5), (6, 6, 4, 3, 0.0), (9, 4, 2, 1, 1.0), (5, 1, 1, 1, 0.5)]


def literal(num_bins, max_bins, num_samples, num_points, context):
    """M[n, d, s, t], one point after the other."""
    matrix = torch.zeros(num_samples, max_bins, num_bins, num_bins, dtype=torch.float64)
    count = num_samples * num_points
    for d in range(max_bins):
        for s in range(num_bins - d):
            low, high = s - context * (d + 1), s + d + context * (d + 1)
            for k in range(count):
                point = low + (high - low) * (k / (count - 1) if count > 1 else 0)
                if -1 < point < 0:
                    point = 0.0  # less than a bin before the window: the first bin
                below = math.floor(point)
                for t, weight in ((below, 1 - (point - below)), (below + 1, point - below)):
                    if below >= 0 and t < num_bins:
                        matrix[k // num_points, d, s, t] += weight / num_points
    return matrix


@pytest.mark.parametrize("sizes", SIZES)
def test_samples_are_those_of_a_loop(sizes):
    num_bins, max_bins, num_samples, num_points, context = sizes
    layer = BoundaryMatching(
        num_bins, max_bins, num_samples=num_samples, num_points=num_points, context=context
    ).double()
    x = torch.randn(2, 3, num_bins, dtype=torch.float64)
    wanted = torch.einsum("ndst,bct->bcnds", literal(*sizes), x)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_collapsing_is_the_convolution_over_samples_and_so_is_its_gradient(sizes):
    num_bins, max_bins, num_samples, num_points, context = sizes
    layer = BoundaryMatching(
        num_bins, max_bins, num_samples=num_samples, num_points=num_points, context=context
    ).double()
    x = torch.randn(2, 3, num_bins, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, num_samples, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64)
    samples = torch.einsum("ndst,bct->bcnds", literal(*sizes), x)
    wanted = F.conv3d(samples, weight[..., None, None], bias)[:, :, 0]
    got = layer.collapse(x, weight, bias)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)
    direction = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(got, (x, weight), direction),
        torch.autograd.grad(wanted, (x, weight), direction),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    outside = ~valid_cells(num_bins, max_bins)
    assert torch.equal(got[:, :, outside], bias[:, None].expand(2, 4, int(outside.sum())))


def test_samples_have_a_gradient_too():
    layer = BoundaryMatching(4, 3, num_samples=2).double()
    x = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x).sum(2), x)


def test_a_window_is_seen_as_late_as_a_proposal_ends():
    valid = valid_cells(5, 3)
    assert [(d, s) for d in range(3) for s in range(5) if not valid[d, s]] == [(1, 4), (2, 3), (2, 4)]


def test_weights_are_no_parameters_in_no_state_dict_and_few():
    layer = BoundaryMatching(100, 100)
    assert not layer.state_dict() and not list(layer.parameters())
    dense = 4 * 100 * 32 * 100 * 100
    assert sum(buffer.nbytes for buffer in layer.buffers()) < dense / 10


def test_half_precision_sums_in_single():
    layer = BoundaryMatching(30, 30)
    x, weight = torch.rand(1, 4, 30), torch.rand(3, 4, 32)
    exact, half = layer.collapse(x, weight), layer.collapse(x.bfloat16(), weight.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.03, atol=0.03)


def test_what_does_not_fit_is_refused():
    layer = BoundaryMatching(6, 3, num_samples=2)
    with pytest.raises(ValueError, match=r"\(batch, channels, 6\) expected"):
        layer(torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match=r"\(outputs, 2, 2\) was expected"):
        layer.collapse(torch.zeros(1, 2, 6), torch.zeros(3, 2, 4))
    with pytest.raises(ValueError, match="from 1 to num_bins=6"):
        BoundaryMatching(6, 7)
    with pytest.raises(ValueError, match="num_samples=0"):
        BoundaryMatching(6, 3, num_samples=0)
