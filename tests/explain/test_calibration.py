"""Calibration factors as the routers give them, and their variation by hand."""

import pytest
import torch
from torch import nn

import kinema
from kinema.explain.calibration import Factors, calibration_factors, variation
from kinema.operators.routing import describe
from kinema.operators.tada_layer import TAdaLayer

CLIP = (2, 3, 4, 32, 32)


def built(name="tada2d_nano", *, uneven=True, **options):
    torch.manual_seed(0)
    network = kinema.create_model(name, 5, CLIP[2], **options)
    for layer, parameter in network.named_parameters():
        if uneven and ".router.to_" in layer:
            nn.init.normal_(parameter, std=0.5)
    return network


def clip():
    return torch.randn(CLIP, generator=torch.Generator().manual_seed(0))


def test_every_calibrated_convolution_has_its_factors_in_the_order_of_execution():
    network = built()
    factors = calibration_factors(network, clip())
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, TAdaLayer)}
    assert [each.layer for each in factors] == list(layers) and len(factors) == 10
    for each in factors:
        conv = layers[each.layer].conv
        assert each.factor == "cin" and each.values.shape == (2, conv.in_channels, 4)
        assert not each.values.requires_grad


def test_the_factors_are_those_that_the_convolution_is_given():
    network = built().eval()
    factors = calibration_factors(network, clip())
    wanted = factors[3]
    layer = network.get_submodule(wanted.layer)
    seen = []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(clip())
    assert torch.allclose(layer.router(describe(seen[0])).cin, wanted.values, atol=1e-6)
    assert wanted.values.std() > 0.01


def test_a_fresh_network_varies_nowhere():
    summary = variation(calibration_factors(built(uneven=False), clip()))
    assert all((each.mean, each.over_time, each.over_channels, each.time_share) == (1, 0, 0, 0) for each in summary)


def test_several_factors_of_a_layer():
    factors = calibration_factors(built("tadaformer_nano", image_size=32), clip())
    assert [each.factor for each in factors[:2]] == ["cout", "bias"]
    assert factors[0].layer == factors[1].layer
    assert factors[0].values.shape[2] == 2, "its stem halves the frames"


def test_temporalized_networks():
    import timm

    network = kinema.temporalize(timm.create_model("resnet10t", num_classes=5), "tada", num_frames=4)
    factors = calibration_factors(network, clip())
    assert len(factors) == len(network.places)


def test_variation_by_hand():
    time, channel = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0.0, 4.0])
    values = 1 + time[None, None] + channel[None, :, None] + torch.tensor([0.0, 10.0])[:, None, None]
    (summary,) = variation([Factors("layer", "cin", values)])
    assert summary.mean == pytest.approx(1 + 1.5 + 2 + 5)
    assert summary.over_time == pytest.approx(1.25**0.5)  # variance of 0, 1, 2, 3
    assert summary.over_channels == pytest.approx(2)  # of 0 and 4; that clips differ by 10 is no variation within one
    assert summary.time_share == pytest.approx(1.25 / 5.25)


def test_both_parts_make_the_variance_within_a_clip():
    values = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (summary,) = variation([Factors("layer", "cin", values)])
    whole = values.flatten(1).var(dim=1, correction=0).mean()
    assert summary.over_time**2 + summary.over_channels**2 == pytest.approx(float(whole))


def test_the_network_is_left_as_it_was():
    network = built().train()
    network.head.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (calibration_factors(network, clip()) for _ in range(2))
    assert torch.equal(first[-1].values, second[-1].values)
    assert network.training and not network.head.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("options", [{"routing": "none", "aggregation": "none"}, {"routing": "none"}])
def test_nothing_calibrated_is_told(options):
    with pytest.raises(ValueError, match="no convolution of this ClipNetwork is calibrated"):
        calibration_factors(built(**options), clip())
