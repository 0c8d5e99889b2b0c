"""R3D, R(2+1)D, SlowOnly and SlowFast: checkpoints of TAdaConv's authors, of kinema, and of image networks."""

import re

import pytest
import torch
from torch import nn

import kinema
from kinema.backbones.resnet import resnet
from kinema.checkpoints.tadaconv import describe, to_theirs

MEMBERS = {
    "R3D": ("r3d_nano", {}),
    "R3D with a stem of one frame": ("r3d_nano", {"stem_frames": 1}),
    "TAda R3D": ("r3d_nano", {"tada": "3d"}),
    "R(2+1)D": ("r2plus1d_nano", {}),
    "TAda R(2+1)D, 2d": ("r2plus1d_nano", {"tada": "2d"}),
    "TAda R(2+1)D, 2d+1d": ("r2plus1d_nano", {"tada": "2d+1d"}),
    "SlowOnly": ("slowonly_nano", {}),
    "TAda SlowOnly": ("slowonly_nano", {"tada": "2d"}),
    "SlowFast": ("slowfast_nano", {}),
    "SlowFast with fusions over 7 frames": ("slowfast_nano", {"fusion_kernel": 7}),
    "TAda SlowFast": ("slowfast_nano", {"tada": "2d"}),
    "TAda2D": ("tada2d_nano", {}),
}
DEPTH = "a ResNet of [1, 1, 2, 1] blocks"
WORDS = {
    "R3D": f"R3D on {DEPTH} (a stem over 3 frames), 5 classes",
    "R3D with a stem of one frame": f"R3D on {DEPTH}, 5 classes",
    "TAda R3D": f"R3D on {DEPTH} (a stem over 3 frames, 5 calibrated convolutions), 5 classes",
    "R(2+1)D": f"R(2+1)D on {DEPTH}, 5 classes",
    "TAda R(2+1)D, 2d": f"R(2+1)D on {DEPTH} (5 calibrated convolutions), 5 classes",
    "TAda R(2+1)D, 2d+1d": f"R(2+1)D on {DEPTH} (10 calibrated convolutions), 5 classes",
    "SlowOnly": f"SlowOnly on {DEPTH}, 5 classes",
    "TAda SlowOnly": f"SlowOnly on {DEPTH} (5 calibrated convolutions), 5 classes",
    "SlowFast": f"SlowFast on {DEPTH} (fusions over 5 frames), 5 classes",
    "SlowFast with fusions over 7 frames": f"SlowFast on {DEPTH} (fusions over 7 frames), 5 classes",
    "TAda SlowFast": f"SlowFast on {DEPTH} (fusions over 5 frames, 10 calibrated convolutions), 5 classes",
}
OURS = [member for member in MEMBERS if member in WORDS]


def member(which, seed=0, num_classes=5):
    name, options = MEMBERS[which]
    torch.manual_seed(seed)
    model = kinema.create_model(name, num_classes, **options)
    for value in model.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.05, 0.15)
    return model


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("which", OURS)
def test_there_and_back_in_the_authors_names(which):
    source, target = member(which, seed=1), member(which, seed=2)
    theirs = to_theirs(source)
    assert describe(shapes(theirs)) == WORDS[which]
    report = kinema.load_checkpoint(target, theirs)
    assert not report.initial and not report.refused
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("which", "names"),
    [
        (
            "R3D",
            {"backbone.conv1.a.weight": (8, 3, 3, 7, 7), "backbone.conv2.res_1.conv_branch.b.weight": (8, 8, 3, 3, 3)},
        ),
        (
            "TAda R(2+1)D, 2d+1d",
            {
                "backbone.conv3.res_1.conv_branch.b1.weight": (1, 1, 16, 16, 3, 3),
                "backbone.conv3.res_1.conv_branch.b1_rf.a.weight": (4, 16, 3, 1, 1),
                "backbone.conv3.res_1.conv_branch.b1_rf.bn.weight": (4,),
                "backbone.conv3.res_1.conv_branch.b1_bn.weight": (16,),
                "backbone.conv3.res_1.conv_branch.b2.weight": (1, 1, 16, 16, 3, 1, 1),
                "backbone.conv3.res_1.conv_branch.b2_rf.b.weight": (16, 4, 3, 1, 1),
                "backbone.conv3.res_1.conv_branch.b2_bn.weight": (16,),
                "backbone.conv3.res_1.conv_branch.c.weight": (64, 16, 1, 1, 1),
            },
        ),
        (
            "TAda SlowFast",
            {
                "backbone.slow_conv1.a_bn.weight": (8,),
                "backbone.fast_conv1.a.weight": (4, 3, 5, 7, 7),
                "backbone.slowfast_fusion2.conv_fast_to_slow.weight": (32, 16, 5, 1, 1),
                "backbone.slowfast_fusion2.bn.weight": (32,),
                "backbone.slow_conv3.res_1.short_cut.weight": (64, 64, 1, 1, 1),
                "backbone.fast_conv4.res_2.conv_branch.b.weight": (1, 1, 16, 16, 3, 3),
                "backbone.fast_conv4.res_2.conv_branch.b_rf.g.weight": (16, 16, 1, 1, 1),
                "head.out.weight": (5, 384),
            },
        ),
    ],
)
def test_names_and_shapes_are_the_authors(which, names):
    theirs = shapes(to_theirs(member(which)))
    assert {name: theirs.get(name) for name in names} == names


@pytest.mark.parametrize("which", OURS)
def test_every_other_member_is_refused_with_both_descriptions(which):
    model = member(which)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for other in OURS:
        if other == which:
            continue
        with pytest.raises(ValueError, match=re.escape(WORDS[other])) as refusal:
            kinema.load_checkpoint(model, to_theirs(member(other)))
        assert f"the model is {WORDS[which]}" in str(refusal.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("which", OURS)
def test_kinema_s_own_weights_load(which):
    source, target = member(which, seed=1), member(which, seed=2)
    report = kinema.load_checkpoint(target, source.state_dict())
    assert not report.renamed and not report.initial and not report.refused
    assert all(torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items())


RESNET = "ResNet of (1, 1, 2, 1) bottleneck blocks, 8 channels wide"


@pytest.mark.parametrize(
    ("file", "model", "theirs", "ours"),
    [
        ("R3D", "SlowOnly", "6 convolutions over 3 frames", "3 convolutions over 3 frames"),
        ("R3D", "R3D with a stem of one frame", "6 convolutions over 3 frames", "5 convolutions over 3 frames"),
        ("R(2+1)D", "R3D", "5 convolutions over 3 frames", "6 convolutions over 3 frames"),
        ("TAda R3D", "R3D", "5 calibrated convolutions, 6 convolutions", "6 convolutions over 3 frames"),
        ("SlowFast", "SlowOnly", "1 fast pathway, 4 fusions over 5 frames", "3 convolutions over 3 frames"),
    ],
)
def test_kinema_s_own_weights_of_another_member_are_refused_too(file, model, theirs, ours):
    with pytest.raises(ValueError, match=f"holds {re.escape(RESNET)} with .*{theirs}") as refusal:
        kinema.load_checkpoint(member(model), member(file).state_dict())
    assert f"the model is {RESNET} with {ours}, 5 classes" in str(refusal.value)


SIZE = {"depths": (1, 1, 1, 1), "width": 64}


def image_network(**options):
    """A two-dimensional ResNet of these blocks, whose names are torchvision's."""
    torch.manual_seed(3)
    trunk = resnet((1, 1, 1, 1), **options).trunk.eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return trunk, {**trunk.state_dict(), "fc.weight": torch.randn(1000, 2048), "fc.bias": torch.randn(1000)}


@pytest.mark.parametrize(
    ("name", "options", "stem_pool", "num_frames"),
    [
        ("r3d_nano", {}, False, 11),
        ("r3d_nano", {"tada": "3d", "stem_frames": 1}, False, 9),
        ("slowonly_nano", {}, True, 5),
        ("slowonly_nano", {"tada": "2d"}, True, 5),
        ("slowfast_nano", {"alpha": 1}, True, 5),
    ],
)
def test_on_equal_frames_a_network_is_at_first_its_image_network(name, options, stem_pool, num_frames):
    """Seen at the middle frame, which the zeros outside the clip do not reach."""
    torch.manual_seed(0)
    model = kinema.create_model(name, 5, num_frames, **SIZE, **options).eval()
    image, weights = image_network(stem_pool=stem_pool)
    report = kinema.init_from(model, weights)
    kept = {
        n for n in report.initial if ".router." not in n and not n.startswith(("backbone.fast.", "backbone.fusions."))
    }
    assert kept == {"head.fc.weight", "head.fc.bias"}
    assert set(report.refused) == {"fc.weight", "fc.bias"}

    frame = torch.randn(1, 3, 32, 32)
    seen = []
    pathway = model.backbone.trunk if name == "r3d_nano" else model.backbone.slow
    pathway.layer4.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        model(frame[:, :, None].expand(-1, -1, num_frames, -1, -1))
        torch.testing.assert_close(seen[0][:, :, num_frames // 2], image.forward_features(frame), rtol=1e-3, atol=1e-3)


def test_what_image_weights_become_is_reported():
    _, weights = image_network()
    model = kinema.create_model("slowfast_nano", 5, **SIZE)
    inflated = kinema.init_from(model, weights).inflated
    assert inflated["backbone.slow.layer3.0.branch2.conv_a.weight"] == (
        "layer3.0.conv1.weight, and zeros for the last 512 input channels, which are of the fast pathway, "
        "3 times over time, divided by 3"
    )
    assert inflated["backbone.slow.layer2.0.branch1_conv.weight"] == (
        "layer2.0.downsample.0.weight, and zeros for the last 256 input channels, which are of the fast pathway"
    )
    kernel = kinema.create_model("r3d_nano", 5, **SIZE)
    report = kinema.init_from(kernel, weights)
    assert report.inflated["backbone.trunk.stem.conv.weight"] == "conv1.weight, 3 times over time, divided by 3"
    torch.testing.assert_close(kernel.backbone.trunk.stem.conv.weight.sum(2), weights["conv1.weight"])
    assert report.renamed["backbone.trunk.layer1.0.branch2.conv_a.weight"] == "layer1.0.conv1.weight"


def test_convolutions_over_time_of_r2plus1d_have_no_image_weights():
    model = kinema.create_model("r2plus1d_nano", 5, **SIZE)
    image, weights = image_network(stem_pool=False)
    report = kinema.init_from(model, weights)
    assert not report.inflated
    assert {re.sub(r"\.\w+$", "", name).rpartition(".")[2] for name in report.initial} == {"conv_t", "norm_t", "fc"}
    block = model.backbone.trunk.layer1[0].branch2
    assert torch.equal(block.norm_b.running_mean, image.layer1[0].bn2.running_mean)


def test_pixels_of_other_channels_repeat_the_mean():
    _, weights = image_network()
    model = kinema.create_model("r3d_nano", 5, in_channels=2, **SIZE)
    report = kinema.init_from(model, weights)
    name = "backbone.trunk.stem.conv.weight"
    assert report.inflated[name].startswith("mean of conv1.weight over 3 channels, repeated 2 times, 3 times over time")
    wanted = weights["conv1.weight"].mean(1) / 3
    torch.testing.assert_close(model.state_dict()[name][:, 1, 2], wanted)


def test_image_weights_are_no_checkpoint_of_a_video_network():
    _, weights = image_network()
    message = "the model is .* with 5 convolutions over 3 frames.*take the weights alone with kinema.init_from"
    with pytest.raises(ValueError, match=message):
        kinema.load_checkpoint(kinema.create_model("r3d_nano", 1000, depths=(1, 1, 1, 1), width=64), weights)


@pytest.mark.parametrize("tada", ["2d", "2d+1d"])
def test_a_plain_network_starts_a_calibrated_one(tada):
    plain, model = member("R(2+1)D", seed=1), kinema.create_model("r2plus1d_nano", 5, tada=tada)
    report = kinema.init_from(model, plain.state_dict())
    assert report.initial and all(".router." in name for name in report.initial)
    assert not report.refused and not report.inflated
