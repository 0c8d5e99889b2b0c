"""Temporal aggregation against pooling, two norms and an addition, written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinema.operators.aggregation import TemporalAggregation


def built(*, own=True, norm=nn.BatchNorm2d, **options):
    layer = TemporalAggregation(norm(4), norm(4) if own else None, **options)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return layer.double()


def literal(layer, x):
    """Frame by frame, from the definition."""
    before, behind = (layer.kernel - 1, 0) if layer.causal else (layer.kernel // 2, layer.kernel // 2)
    frames = x.shape[2]
    pooled = torch.zeros_like(x)
    for t in range(frames):
        around = x[:, :, max(t - before, 0) : t + behind + 1]
        if "avg" in layer.pooling:
            pooled[:, :, t] += around.sum(2) / layer.kernel
        if "max" in layer.pooling:
            pooled[:, :, t] += around.amax(2)

    def apply(norm, clip):
        return F.batch_norm(
            clip, norm.running_mean.clone(), norm.running_var.clone(), norm.weight, norm.bias, norm.training, 0.1, 1e-5
        )

    if layer.norm_pool is None:
        return apply(layer.norm, x + pooled)
    return apply(layer.norm, x) + apply(layer.norm_pool, pooled)


@pytest.mark.parametrize("layout", ["clip", "frames", "channels last"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": 5},
        {"kernel": 1},
        {"pooling": "max"},
        {"pooling": "avg+max"},
        {"own": False},
        {"own": False, "pooling": "max", "kernel": 5},
        {"causal": True},
        {"causal": True, "kernel": 4},
        {"causal": True, "kernel": 4, "pooling": "avg+max"},
        {"causal": True, "own": False},
    ],
)
def test_equals_pooling_and_norms(options, frames, training, layout):
    layer = built(**options).train(training)
    x = torch.randn(2, 4, frames, 6, 5, dtype=torch.float64)
    if layout == "frames":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "channels last":
        x = x.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    x.requires_grad_()
    expected = literal(layer, x)
    direction = torch.randn_like(expected)
    inputs = [x, *layer.parameters()]
    wanted = torch.autograd.grad(expected, inputs, direction)
    got = layer(x)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(torch.autograd.grad(got, inputs, direction), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kernel", [2, 5])
def test_the_quick_causal_form_is_the_slow_one(kernel, training):
    """Frames contiguous in memory take the banded map, others do not; both must see the past alone."""
    layer = built(causal=True, kernel=kernel).train(training)
    x = torch.randn(2, 6, 4, 3, 3, dtype=torch.float64)
    quick, slow = x.transpose(1, 2), x.transpose(1, 2).contiguous()
    torch.testing.assert_close(layer(quick), layer(slow))
    if not training:
        later = torch.cat([x[:, :4], torch.randn_like(x[:, 4:])], dim=1).transpose(1, 2)
        assert torch.equal(layer(later)[:, :, :4], layer(quick)[:, :, :4])


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_running_statistics_move_as_in_batch_norm(momentum, quick):
    layer = built(norm=lambda channels: nn.BatchNorm2d(channels, momentum=momentum)).train()
    own, pooled = (nn.BatchNorm3d(4, momentum=momentum).double() for _ in range(2))
    own.load_state_dict(layer.norm.state_dict())
    pooled.load_state_dict(layer.norm_pool.state_dict())
    for _ in range(3):
        x = torch.randn(2, 4, 5, 6, 5, dtype=torch.float64)
        layer(x.transpose(1, 2).contiguous().transpose(1, 2) if quick else x)
        own(x)
        pooled(F.avg_pool3d(x, (3, 1, 1), 1, (1, 0, 0)))
    for ours, theirs in ((layer.norm, own), (layer.norm_pool, pooled)):
        for name, wanted in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], wanted)


def test_at_first_it_is_the_norm_alone():
    norm = nn.BatchNorm2d(4).eval()
    layer = TemporalAggregation(norm, nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 4, 5, 3, 3)
    torch.testing.assert_close(layer(x), torch.stack([norm(x[:, :, t]) for t in range(5)], dim=2))


def test_large_means_do_not_spoil_the_variance():
    """Features far from zero: a variance as mean of squares less square of mean would lose its digits."""
    layer = TemporalAggregation(nn.BatchNorm2d(4), nn.BatchNorm2d(4)).train()
    nn.init.ones_(layer.norm_pool.weight)
    x = torch.randn(2, 4, 4, 9, 9) + 30 * torch.arange(4)[:, None, None]
    x = x.transpose(1, 2)
    torch.testing.assert_close(layer(x), layer.double()(x.double()).float(), rtol=1e-3, atol=2e-3)


def test_one_pixel_of_one_frame_has_no_variance():
    with pytest.raises(ValueError, match="more than 1 value"):
        built().train()(torch.randn(1, 4, 1, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 2}, "kernel=2 frames have no centre"),
        ({"kernel": 0, "causal": True}, "kernel=0 frames have no centre"),
        ({"pooling": "mean"}, "pooling='mean' is unknown; give one of"),
    ],
)
def test_what_cannot_be_built(options, message):
    with pytest.raises(ValueError, match=message):
        TemporalAggregation(nn.BatchNorm2d(4), nn.BatchNorm2d(4), **options)


def test_around_a_frame_it_cannot_run_on_a_stream():
    with pytest.raises(ValueError, match=r"pools the next one too.*build it with causal=True"):
        built().init_state(torch.zeros(1, 4, 3, 3))


@pytest.mark.parametrize("options", [{}, {"pooling": "avg+max"}, {"own": False}, {"kernel": 1}])
def test_norms_in_other_precision_take_steps_too(options):
    layer = built(causal=True, **options).eval().bfloat16()
    x = torch.randn(1, 4, 3, 2, 2).bfloat16()
    state = layer.init_state(x[:, :, 0])
    for t in range(3):
        y, state = layer.step(x[:, :, t], state)
        torch.testing.assert_close(y, layer(x)[:, :, t], rtol=0.05, atol=0.05)


def test_a_watched_norm_is_called_in_steps():
    """A hook that waits for a norm, as of pictures or of a profile, must see every step."""
    layer, seen = built(causal=True).eval(), []
    layer.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    layer.step(x, layer.init_state(x))
    assert len(seen) == 1


@pytest.mark.parametrize("norm", ["norm", "norm_pool"])
@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_whoever_watches_the_gradients_of_a_norm_sees_them(norm, kind):
    layer, seen = built().train(), []
    getattr(layer.get_submodule(norm), kind)(lambda *arguments: seen.append(norm))
    x = torch.randn(2, 5, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    layer(x.transpose(1, 2)).sum().backward()
    assert seen == [norm]


def test_what_stands_behind_may_work_in_place():
    """ReLU in a ResNet overwrites what it gets."""
    layer = built().train()
    x = torch.randn(2, 5, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    layer(x.transpose(1, 2)).transpose(1, 2).flatten(0, 1).relu_().sum().backward()
    assert x.grad is not None


def test_statistics_move_once_where_digits_would_be_lost():
    """The quick form finds out after its first pass; the slow one must not count the batch again."""
    layer = TemporalAggregation(nn.BatchNorm2d(2), nn.BatchNorm2d(2)).train()
    x = torch.randn(1, 4, 2, 5, 5) + 1e3
    layer(x.transpose(1, 2))
    assert layer.norm.num_batches_tracked == 1
    expected = 0.9 + 0.1 * x.double().transpose(0, 2).flatten(1).var(dim=1)
    torch.testing.assert_close(layer.norm.running_var.double(), expected, rtol=1e-4, atol=0)
