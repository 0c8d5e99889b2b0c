"""A yardstick that computes something else measures nothing."""

import pytest
import torch
from torch import nn

import kinema
from kinema.benchmarks.grouped_form import in_grouped_form, one_layer


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"calibration": "cout"}, {"routing": "attention"}])
def test_it_computes_what_kinema_computes(options, training):
    network = kinema.create_model("tada2d_nano", 5, dropout=0.0, **options).double().train(training)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    clip = torch.randn(2, 3, 4, 64, 64, dtype=torch.float64)
    grouped = in_grouped_form(network)
    torch.testing.assert_close(grouped(clip), network(clip))


def test_one_layer():
    layers = one_layer(8)
    x = torch.randn(2, 8, 4, 5, 5)
    torch.testing.assert_close(layers["plain"](x), layers["kinema"](x))
    for name in ("grouped", "kinema"):
        nn.init.ones_(layers[name].router.to_cin.weight)
    torch.testing.assert_close(layers["grouped"](x), layers["kinema"](x), rtol=1e-4, atol=1e-4)


def test_a_plain_network_has_none():
    with pytest.raises(ValueError, match="no calibrated 2-D convolution"):
        in_grouped_form(kinema.create_model("tsn_nano"))
