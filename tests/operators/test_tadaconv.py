"""Calibrated convolutions against a literal form: a kernel of its own for every frame, built and applied one by one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinema.operators.tadaconv import CALIBRATION_DIMS, Calibration, TAdaConv2d, TAdaConv3d

B, T, H, W = 2, 4, 7, 6


def literal(conv, x, factors):
    """Every output frame by a convolution with its own calibrated kernel; a 3-D one over the frame's window."""
    three = isinstance(conv, TAdaConv3d)
    reach = conv.kernel_size[0] // 2 if three else 0
    padded = F.pad(x, (0, 0, 0, 0, reach, reach))
    weight = conv.weight[0, 0].reshape(conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size)
    clips = []
    for b in range(x.shape[0]):
        frames = []
        for t in range(x.shape[2]):
            kernel = weight.clone()
            if factors.cout is not None:
                kernel = kernel * factors.cout[b, :, t].reshape(-1, *[1] * (kernel.ndim - 1))
            if factors.cin is not None:
                per_group = factors.cin[b, :, t].reshape(conv.groups, 1, -1)
                per_out = per_group.expand(-1, conv.out_channels // conv.groups, -1).flatten(0, 1)
                kernel = kernel * per_out.reshape(*kernel.shape[:2], *[1] * (kernel.ndim - 2))
            if factors.kernel is not None:
                kernel = kernel * factors.kernel[b, :, t].reshape(1, 1, *conv.kernel_size)
            bias = conv.bias
            if bias is not None:
                bias = bias[0, 0] * (1 if factors.bias is None else factors.bias[b, :, t])
            window = padded[b : b + 1, :, t : t + 2 * reach + 1]
            if three:
                y = F.conv3d(
                    window, kernel, bias, (1, *conv.stride), (0, *conv.padding), (1, *conv.dilation), conv.groups
                )[:, :, 0]
            else:
                y = F.conv2d(window[:, :, 0], kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
            frames.append(y)
        clips.append(torch.stack(frames, dim=2))
    return torch.cat(clips)


def drawn_factors(conv, bias=True):
    widths = dict(conv.widths)
    if bias and conv.bias is not None:
        widths["bias"] = conv.out_channels
    return Calibration(
        **{name: torch.randn(B, width, T, dtype=torch.float64, requires_grad=True) for name, width in widths.items()}
    )


def agree(conv, factors):
    """Outputs and every gradient of the fast form equal those of the literal one."""
    nn.init.normal_(conv.weight)
    if conv.bias is not None:
        nn.init.normal_(conv.bias)
    conv = conv.double()
    x = torch.randn(B, conv.in_channels, T, H, W, dtype=torch.float64, requires_grad=True)
    inputs = [x, *conv.parameters(), *(factor for factor in factors if factor is not None)]
    fast, slow = conv(x, factors), literal(conv, x, factors)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(slow)
    for got, wanted in zip(
        torch.autograd.grad(fast, inputs, direction), torch.autograd.grad(slow, inputs, direction), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


SHAPES = {
    "3 x 3": {"kernel_size": 3, "padding": 1},
    "3 x 3 stride 2": {"kernel_size": 3, "padding": 1, "stride": 2},
    "1 x 1": {"kernel_size": 1},
    "1 x 1 stride 2": {"kernel_size": 1, "stride": 2},
    "3 x 5 dilated": {"kernel_size": (3, 5), "padding": (2, 4), "dilation": 2},
    "1 x 3 unpadded, stride (2, 1)": {"kernel_size": (1, 3), "stride": (2, 1)},
    "two groups": {"kernel_size": 3, "padding": 1, "groups": 2},
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("calibration", CALIBRATION_DIMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_two_dimensions_equal_a_kernel_per_frame(shape, calibration, bias):
    conv = TAdaConv2d(4, 6, calibration=calibration, bias=bias, **SHAPES[shape])
    agree(conv, drawn_factors(conv))


@pytest.mark.parametrize("calibration", CALIBRATION_DIMS)
def test_depthwise(calibration):
    conv = TAdaConv2d(6, 6, 3, padding=1, groups=6, calibration=calibration)
    agree(conv, drawn_factors(conv))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("calibration", CALIBRATION_DIMS)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 1, 1)},
        {"kernel_size": (1, 3, 3), "padding": 1, "stride": 2},
        {"kernel_size": (5, 2, 3), "padding": (0, 2), "dilation": (1, 2), "groups": 2},
    ],
)
def test_three_dimensions_equal_a_kernel_per_frame(options, calibration, bias):
    conv = TAdaConv3d(4, 6, calibration=calibration, bias=bias, **options)
    agree(conv, drawn_factors(conv))


@pytest.mark.parametrize("build", [TAdaConv2d, TAdaConv3d])
@pytest.mark.parametrize("calibration", CALIBRATION_DIMS)
def test_a_bias_without_factors_stays_as_it_is(build, calibration):
    conv = build(4, 6, 3, padding=1, calibration=calibration)
    agree(conv, drawn_factors(conv, bias=False))


@pytest.mark.parametrize("build", [TAdaConv2d, TAdaConv3d])
def test_one_factor_for_the_whole_bias(build):
    conv = build(4, 6, 3, padding=1, calibration="cin")
    factors = drawn_factors(conv)
    agree(conv, factors._replace(bias=torch.randn(B, 1, T, dtype=torch.float64, requires_grad=True)))


@pytest.mark.parametrize("build", [TAdaConv2d, TAdaConv3d])
@pytest.mark.parametrize("calibration", ["cin", "cout"])
def test_factors_may_come_as_one_tensor(build, calibration):
    conv = build(4, 6, 3, padding=1, calibration=calibration)
    nn.init.normal_(conv.bias)
    x, factors = torch.randn(B, 4, T, H, W), drawn_factors(conv)
    factors = Calibration(*(None if factor is None else factor.float() for factor in factors))
    one = getattr(factors, calibration)
    expected = conv(x, factors)
    assert torch.equal(conv(x, one, factors.bias), expected)
    assert torch.equal(conv(x, one[..., None, None], factors.bias), expected)


@pytest.mark.parametrize("build", [TAdaConv2d, TAdaConv3d])
def test_without_factors_it_is_the_convolution_it_was_made_from(build):
    plain = nn.Conv2d(4, 6, (3, 5), 2, (1, 2)) if build is TAdaConv2d else nn.Conv3d(4, 6, 3, (1, 2, 2), 1)
    conv = build.from_conv(plain)
    x = torch.randn(B, 4, T, H, W)
    if build is TAdaConv2d:
        expected = torch.stack([plain(x[:, :, t]) for t in range(T)], dim=2)
    else:
        expected = plain(x)
    torch.testing.assert_close(conv(x), expected)
    ones = torch.ones(B, 4, T)
    torch.testing.assert_close(conv(x, ones), expected)
    assert tuple(conv.weight.shape[:2]) == (1, 1)


def test_a_convolution_with_groups_is_calibrated_on_its_output_channels():
    assert TAdaConv2d.from_conv(nn.Conv2d(4, 4, 3, groups=4)).calibration == "cout"
    assert TAdaConv2d.from_conv(nn.Conv2d(4, 4, 3)).calibration == "cin"


def test_padding_given_as_a_word():
    assert TAdaConv2d.from_conv(nn.Conv2d(2, 2, 5, padding="same", dilation=2)).padding == (4, 4)
    assert TAdaConv2d.from_conv(nn.Conv2d(2, 2, 5, padding="valid")).padding == (0, 0)
    with pytest.raises(ValueError, match="uneven"):
        TAdaConv2d.from_conv(nn.Conv2d(2, 2, 4, padding="same"))


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips(frames):
    conv = TAdaConv3d(4, 4, 3, padding=1)
    assert conv(torch.randn(1, 4, frames, 5, 5), torch.ones(1, 4, frames)).shape == (1, 4, frames, 5, 5)


def test_a_factor_belongs_to_the_frame_that_comes_out():
    """A 3-D kernel calibrated on the input is no scale of the features: neighbours see them through their own factors."""
    conv = TAdaConv3d(3, 3, (3, 1, 1), bias=False)
    x, factors = torch.randn(1, 3, 4, 2, 2), torch.ones(1, 3, 4)
    changed = factors.clone()
    changed[:, :, 2] = 5
    moved = (conv(x, changed) != conv(x, factors)).any(dim=4).any(dim=3).any(dim=1)[0]
    assert moved.tolist() == [False, False, True, False]


def test_the_initial_kernel_is_that_of_an_ordinary_convolution():
    torch.manual_seed(0)
    ours, theirs = TAdaConv2d(64, 128, 3), nn.Conv2d(64, 128, 3)
    assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.02)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TAdaConv2d(4, 4, 3, calibration="cinn"), "calibration='cinn' is unknown; give one of cin, cout"),
        (lambda: TAdaConv2d(4, 6, 3, groups=4), "groups=4 does not divide"),
        (lambda: TAdaConv2d(4, 4, (3, 3, 3)), "one number or two"),
        (lambda: TAdaConv3d(4, 4, (2, 3, 3)), "odd in time"),
        (lambda: TAdaConv3d.from_conv(nn.Conv3d(4, 4, 3, stride=2, padding=1)), "changes the number of frames"),
        (lambda: TAdaConv3d.from_conv(nn.Conv3d(4, 4, 3)), "changes the number of frames"),
        (lambda: TAdaConv2d.from_conv(nn.Conv2d(4, 4, 3, padding_mode="reflect")), "padding_mode='reflect'"),
    ],
)
def test_what_cannot_be_built(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (torch.ones(2, 5, 4), r"shape \(2, 5, 4\), needed is \(2, 4, 4\)"),
        (torch.ones(2, 4, 3), r"shape \(2, 4, 3\), needed is \(2, 4, 4\)"),
        (torch.ones(1, 4, 4), r"needed is \(2, 4, 4\)"),
        (torch.ones(2, 4), r"shape \(2, 4\), needed is \(2, 4, 4\)"),
        (torch.ones(()), r"shape \(\), needed is \(2, 4, 4\)"),
        (torch.ones(2, 4, 2, 2), r"shape \(2, 4, 2, 2\), needed is \(2, 4, 4\) .*trailing axes of one"),
        (
            torch.ones(2, 4, 4, 5, 5),
            "give one number for each of them, or a router built for this convolution's 'widths'",
        ),
        (Calibration(cout=torch.ones(2, 6, 4)), "factors for 'cout' were given to a convolution that calibrates 'cin'"),
        (Calibration(bias=torch.ones(2, 6, 4)), "has no bias"),
    ],
)
def test_factors_of_another_shape(factors, message):
    with pytest.raises(ValueError, match=message):
        TAdaConv2d(4, 6, 3, bias=False)(torch.randn(2, 4, 4, 5, 5), factors)


def test_one_tensor_for_several_factors():
    with pytest.raises(ValueError, match="needs several"):
        TAdaConv2d(4, 6, 3, calibration="cin+cout")(torch.randn(2, 4, 4, 5, 5), torch.ones(2, 4, 4))


def test_another_number_of_channels():
    with pytest.raises(ValueError, match="expected 4 channels"):
        TAdaConv2d(4, 6, 3)(torch.randn(2, 5, 4, 5, 5))
