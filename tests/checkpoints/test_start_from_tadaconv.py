"""Starting other networks from weights of TAdaConv's authors: the same as from kinema's own names for them."""

import pytest
import torch

import kinema
from kinema.backbones.resnet import resnet
from kinema.checkpoints.tadaconv import to_theirs
from kinema.models.calibration import calibration_filling
from kinema.models.network import ClipNetwork, SegmentNetwork
from kinema.operators.shift import TemporalShift

LAYERS = (1, 1, 1, 1)


def drawn(network):
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor)
    return network


def small(**options):
    return ClipNetwork(resnet(LAYERS, stem_pool=False, **options), 5)


def tada2d():
    return drawn(small(**calibration_filling(8)))


def attentive(stages=(1, 2, 3, 4)):
    """Its routers have heads, whose rows the authors interleave."""
    return drawn(small(**calibration_filling(8, routing="attention", routing_head_dim=4, calibrated_stages=stages)))


def named(name, **options):
    return lambda: drawn(kinema.create_model(name, 5, **options))


STARTS = {
    "TAda2D to a plain ResNet": (tada2d, small),
    "TAda2D to TSM": (tada2d, lambda: SegmentNetwork(resnet(LAYERS, mixer=TemporalShift), 7)),
    "TAda2D to TSM, in place": (
        tada2d,
        lambda: SegmentNetwork(resnet(LAYERS, mixer=TemporalShift, placement="in_place"), 7),
    ),
    "TAda2D to R3D": (tada2d, named("r3d_nano", depths=LAYERS, width=64)),
    "TAda2D to SlowFast": (tada2d, named("slowfast_nano", depths=LAYERS, width=64)),
    "R(2+1)D without its calibration": (named("r2plus1d_nano", tada="2d+1d"), named("r2plus1d_nano")),
    "R3D of other channels": (named("r3d_nano"), named("r3d_nano", in_channels=5)),
    "SlowOnly to SlowFast": (named("slowonly_nano"), named("slowfast_nano")),
    "SlowFast of other channels": (named("slowfast_nano"), named("slowfast_nano", in_channels=1)),
    "TAdaConvNeXtV2 to the first": (named("tadaconvnextv2_nano"), named("tadaconvnext_nano")),
    "TAdaConvNeXt of other channels": (named("tadaconvnext_nano"), named("tadaconvnext_nano", in_channels=6)),
    "TAdaFormer for larger frames": (named("tadaformer_nano"), named("tadaformer_nano", image_size=96)),
    "TAdaFormer of other channels": (named("tadaformer_nano"), named("tadaformer_nano", in_channels=6)),
    "TAdaFormer with other blocks": (named("tadaformer_nano", double=True), named("tadaformer_nano", enhanced=True)),
    "TAda2D with heads to one with fewer calibrated stages": (attentive, lambda: attentive((3, 4))),
}


@pytest.mark.parametrize("which", STARTS)
def test_their_names_start_a_network_as_ours_do(which):
    source, target = (build() for build in STARTS[which])
    initial = {name: value.clone() for name, value in target.state_dict().items()}
    ours = kinema.init_from(target, source.state_dict())
    wanted = {name: value.clone() for name, value in target.state_dict().items()}
    target.load_state_dict(initial)
    theirs = kinema.init_from(target, to_theirs(source))
    assert all(torch.equal(value, wanted[name]) for name, value in target.state_dict().items())
    assert theirs.loaded == ours.loaded and theirs.initial.keys() == ours.initial.keys()
    assert theirs.inflated.keys() == ours.inflated.keys() and len(theirs.refused) == len(ours.refused)
    assert theirs.source.startswith("TAdaConv's authors' code: ")


def test_every_convolution_of_tada2d_has_a_place_in_tsm():
    source, target = (build() for build in STARTS["TAda2D to TSM"])
    report = kinema.init_from(target, to_theirs(source))
    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight"]
    kernel = source.state_dict()["backbone.trunk.layer2.0.conv2.operator.conv.weight"]
    assert torch.equal(target.state_dict()["backbone.trunk.layer2.0.conv2.weight"], kernel.flatten(0, 2))


def test_positions_and_channels_are_adapted():
    source, target = named("tadaformer_nano")(), named("tadaformer_nano", image_size=96, in_channels=6)()
    report = kinema.init_from(target, to_theirs(source))
    stem = "backbone.trunk.patch_embed.proj.operator.weight"
    assert report.inflated == {
        "backbone.trunk.pos_embed": "backbone.positional_embedding resized from 8 x 8 to 12 x 12 patches",
        stem: "mean of backbone.conv1.weight over 3 channels, repeated 6 times",
    }
    mean = source.state_dict()[stem].mean(dim=1, keepdim=True)
    torch.testing.assert_close(target.state_dict()[stem], mean.expand(-1, 6, -1, -1, -1))


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "message"),
    [
        ("tadaformer_nano", {"depth": 2}, {"depth": 4}, r"transformer of 2 blocks, .*; the model is .* of 4 blocks"),
        (
            "tadaconvnextv2_nano",
            {},
            {"depths": (1, 1, 6, 1)},
            r"ConvNeXt of \(1, 1, 2, 1\) blocks.*5 temporal aggregations.*; the model is ConvNeXt of \(1, 1, 6, 1\)",
        ),
    ],
)
def test_another_depth_is_refused(name, theirs, ours, message):
    with pytest.raises(ValueError, match=rf"the checkpoint \(TAdaConv's authors' code\) holds .*{message}"):
        kinema.init_from(named(name, **ours)(), to_theirs(named(name, **theirs)()))


def test_a_max_pool_is_told_from_stride_in_the_first_stage():
    """No tensor tells them apart; the authors have no max pool."""
    theirs = to_theirs(drawn(small()))
    model = ClipNetwork(resnet(LAYERS), 5)
    with pytest.raises(
        ValueError, match=r"stride 2 in its first stage where the model has a max pool.*stem_pool=False"
    ):
        kinema.load_checkpoint(model, theirs)
    assert len(kinema.init_from(model, theirs).loaded) == len(model.state_dict())
    assert not kinema.load_checkpoint(small(), theirs).refused


def test_a_network_with_a_max_pool_has_no_counterpart_to_write(tmp_path):
    from kinema.checkpoints.write import write_official

    with pytest.raises(ValueError, match="ResNets have no max pool there"):
        write_official(ClipNetwork(resnet(LAYERS), 5), tmp_path / "a.pyth")
    assert "frame-wise a ResNet" in write_official(small(), tmp_path / "b.pyth")
