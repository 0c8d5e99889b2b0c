"""A convolution, its router, and what lies between them."""

import pytest
import torch
from torch import nn

from kinema.operators.feature_calibration import FeatureCalibration
from kinema.operators.routing import ROUTINGS, build_routing, describe
from kinema.operators.tada_layer import TAdaLayer, calibrate
from kinema.operators.tadaconv import CALIBRATION_DIMS, Calibration, TAdaConv2d, TAdaConv3d


@pytest.fixture
def clip():
    return torch.randn(2, 8, 4, 6, 5)


def moved(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


@pytest.mark.parametrize("calibration", CALIBRATION_DIMS)
@pytest.mark.parametrize("routing", ROUTINGS)
def test_it_starts_as_the_convolution(routing, calibration, clip):
    plain = nn.Conv2d(8, 6, 3, padding=1)
    layer = calibrate(
        plain, routing=routing, calibration=calibration, calibrate_bias=True, num_frames=4, ratio=2, head_dim=2
    ).eval()
    expected = torch.stack([plain(clip[:, :, t]) for t in range(4)], dim=2)
    torch.testing.assert_close(layer(clip), expected, rtol=1e-4, atol=1e-5)


def test_the_router_reads_what_the_convolution_reads(clip):
    layer = moved(calibrate(nn.Conv2d(8, 6, 3, stride=2, padding=1), ratio=2))
    factors = layer.router(describe(clip))
    assert torch.equal(layer(clip), layer.conv(clip, factors))
    assert layer(clip).shape == (2, 6, 4, 3, 3)


@pytest.mark.parametrize(("fraction", "calibrated"), [(1 / 64, 1), (1 / 4, 2), (0.5, 4), (1.0, 8)])
def test_a_fraction_of_the_channels(fraction, calibrated, clip):
    """The leading channels are calibrated, at least one; the others pass as they are."""
    layer = moved(calibrate(nn.Conv2d(8, 6, 1, bias=False), fraction=fraction, ratio=2))
    assert layer.router.widths == {"cin": calibrated}
    factors = layer.router(describe(clip)).cin
    whole = torch.cat([factors, torch.ones(2, 8 - calibrated, 4)], dim=1)
    torch.testing.assert_close(layer(clip), layer.conv(clip * whole[..., None, None]))


def test_taps_are_not_counted_by_the_fraction():
    assert calibrate(nn.Conv2d(8, 6, 3), calibration="kernel", fraction=0.5).router.widths == {"kernel": 9}


def test_the_bias_is_calibrated_where_there_is_one():
    assert "bias" not in calibrate(nn.Conv2d(8, 6, 3, bias=False), calibrate_bias=True).router.widths
    assert calibrate(nn.Conv2d(8, 6, 3), calibrate_bias=True).router.widths["bias"] == 6
    assert calibrate(nn.Conv2d(8, 6, 3), calibrate_bias=True, routing="causal").router.widths["bias"] == 1


def test_dimensions_follow_the_convolution():
    assert isinstance(calibrate(nn.Conv2d(8, 6, 3)).conv, TAdaConv2d)
    assert isinstance(calibrate(nn.Conv3d(8, 6, 3, padding=1)).conv, TAdaConv3d)


def test_dtype_and_device_follow_the_convolution():
    layer = calibrate(nn.Conv2d(8, 6, 3).double())
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float64}
    assert {p.device.type for p in calibrate(nn.Conv2d(8, 6, 3, device="meta")).parameters()} == {"meta"}


def test_features_scaled_in_front_equal_the_kernel_scaled(clip):
    """The operator for convolutions that cannot be replaced computes what TAdaConv2d does."""
    router = moved(build_routing("local_global", 8, {"cin": 8}, ratio=2))
    mixer = FeatureCalibration(8, ratio=2).eval()
    mixer.router.load_state_dict(router.state_dict())
    plain = nn.Conv2d(8, 6, 3, padding=1)
    expected = TAdaLayer(TAdaConv2d.from_conv(plain), router)(clip)
    scaled = mixer(clip)
    torch.testing.assert_close(
        torch.stack([plain(scaled[:, :, t]) for t in range(4)], dim=2), expected, rtol=1e-4, atol=1e-4
    )


def test_features_start_as_they_are(clip):
    assert torch.equal(FeatureCalibration(8).eval()(clip), clip)


@pytest.mark.parametrize("routing", ["local", "local_global"])
def test_only_a_causal_layer_streams(routing, clip):
    with pytest.raises(ValueError, match="needs the whole clip"):
        calibrate(nn.Conv2d(8, 6, 3), routing=routing).init_state(clip[:, :, 0])
    with pytest.raises(ValueError, match="needs the whole clip"):
        calibrate(nn.Conv3d(8, 6, 3, padding=1), routing="causal").init_state(clip[:, :, 0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: calibrate(nn.Conv2d(8, 6, 3), fraction=0), "fraction=0 is no share"),
        (lambda: calibrate(nn.Conv2d(8, 6, 3), fraction=1.5), "fraction=1.5 is no share"),
        (lambda: FeatureCalibration(8, routing="none"), "calibrates nothing"),
        (lambda: FeatureCalibration(8, fraction=0), "no share of the channels"),
        (
            lambda: TAdaConv2d(8, 6, 3)(torch.randn(1, 8, 2, 5, 5), Calibration(cout=torch.ones(1, 6, 2))),
            "calibrates 'cin'",
        ),
    ],
)
def test_what_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
