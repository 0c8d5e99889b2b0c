"""Image networks of timm turned into video networks."""

import pytest
import timm
import torch
from torch import nn

import kinema
from kinema.models.temporalize import TemporalizedNetwork
from kinema.operators.nonlocal_block import NonLocalBlock

SMALL = {
    "resnet10t": {},
    "mobilenetv2_050": {},
    "convnext_atto": {},
    "tf_efficientnet_lite0": {},  # pads as TensorFlow does, in a convolution of its own kind
    "resnetv2_18": {},
}


def frame_wise(model, clip):
    return torch.stack([model(clip[:, :, t]) for t in range(clip.shape[2])], dim=1).mean(dim=1)


@pytest.fixture
def clip():
    return torch.randn(2, 3, 4, 64, 64)


def built(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5, **options).eval()


@pytest.mark.parametrize("name", SMALL)
def test_calibration_starts_as_the_image_network(name, clip):
    model = built(name)
    expected = frame_wise(model, clip)
    network = kinema.temporalize(model, "tada").eval()
    torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)
    assert network.forward_features(clip).shape == (2, model.num_features) or name == "mobilenetv2_050"


@pytest.mark.parametrize("operator", ["tada", "tsm"])
@pytest.mark.parametrize("name", SMALL)
def test_frames_see_each_other(name, operator, clip):
    network = kinema.temporalize(built(name), operator).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    features = network.forward_features(clip)
    assert (features - network.forward_features(clip[:, :, [1, 3, 0, 2]])).abs().max() > 1e-6


def test_weights_are_kept(clip):
    model = built("resnet10t")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = kinema.temporalize(model, "tsm")
    after = {name.replace(".conv.", ".") if ".conv." in name else name for name in network.model.state_dict()}
    assert set(before) == after


def test_where_chooses(clip):
    network = kinema.temporalize(built("resnet10t"), where=lambda name, conv: name.startswith("layer3"))
    assert network.places == ("layer3.0.conv1", "layer3.0.conv2")


def test_any_operator_will_do(clip):
    network = kinema.temporalize(
        built("resnet10t"), NonLocalBlock, where=lambda name, conv: name == "layer3.0.conv1", affinity="dot_product"
    )
    assert network(clip).shape == (2, 5)


def test_options_reach_the_operator():
    network = kinema.temporalize(built("resnet10t"), "tada", routing="attention", head_dim=4, ratio=2)
    assert network.model.get_submodule("layer1.0.conv1").mixer.operator.router.num_heads == 8


def test_a_new_classifier(clip):
    network = kinema.temporalize(built("resnet10t"), "tsm")
    network.reset_classifier(7)
    assert network(clip).shape == (2, 7)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "vit_tiny_patch16_dinov3_qkvb"])
def test_a_transformer_takes_tada_blocks(name):
    """With one class token, with registers, with none; positions learnt or rotary."""
    model = built(name)
    clip = torch.randn(2, 3, 3, *model.pretrained_cfg["input_size"][1:])
    expected = frame_wise(model, clip)
    network = kinema.temporalize(model, "tada").eval()
    assert len(network.places) == len(model.blocks)
    torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)
    for block in network.model.blocks:
        nn.init.normal_(block.mixer.operator.expand.weight)
    features = network.forward_features(clip)
    assert (features - network.forward_features(clip[:, :, [1, 0, 2]])).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: built("resnet10t"), {"operator": "tam"}, "operator='tam' is unknown"),
        (lambda: built("resnet10t"), {"where": lambda name, conv: False}, "that 'where' accepts"),
        (lambda: nn.Sequential(nn.Linear(3, 3)), {}, "no convolution at all"),
        (lambda: built("vit_tiny_patch16_224"), {"operator": "tsm"}, "no convolution over more than one pixel"),
        (lambda: built("resnet10t"), {"operator": "tsm", "fraction": 1 / 64}, "moves no channel"),
    ],
)
def test_what_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        kinema.temporalize(model(), **arguments)


class ReadsWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return torch.conv2d(self.stem(x), self.conv.weight, self.conv.bias).mean(dim=(2, 3))


class CutsWindows(ReadsWeights):
    def forward(self, x):
        x = self.stem(x)
        return (
            self.conv(x.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1))
            .mean(dim=(2, 3))
            .unflatten(0, (-1, 2))
            .sum(1)
        )


def test_a_convolution_that_is_never_called_is_found():
    with pytest.raises(ValueError, match="reads the weights of conv without calling it"):
        kinema.temporalize(ReadsWeights())


def test_frames_cut_into_windows_are_found():
    with pytest.raises(ValueError, match="cuts frames into windows before conv"):
        kinema.temporalize(CutsWindows())


def test_the_network_stays_in_the_mode_it_was_in():
    assert isinstance(network := kinema.temporalize(built("resnet10t").train()), TemporalizedNetwork)
    assert network.training and network.model.layer1.training
