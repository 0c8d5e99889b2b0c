"""Starting from other weights: what is taken, what stays as it was built, and that all of it is listed."""

import os
from pathlib import Path

import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet

import kinema
from kinema.checkpoints import timm as timm_checkpoints

from other_layouts import network, own, renamed, torchvision_mobilenetv2, tsm_resnet

SHARED = Path(os.environ.get("KINEMA_SHARED", "/nonexistent")) / "weights"


def image_network(name, **options):
    """An ImageNet state dict: a frame-wise network of a thousand classes in torchvision's names."""
    rename = torchvision_mobilenetv2 if "mobilenet" in name else own
    return renamed(network(name, seed=1, num_classes=1000, **options), rename)


@pytest.mark.parametrize("name", ["tsm_r18", "tsn_r18", "tsm_mobilenetv2"])
def test_from_an_image_network(name):
    model = network(name, seed=2)
    before = {key: value.clone() for key, value in model.head.state_dict().items()}
    image = image_network(name.replace("tsm", "tsn"))
    report = kinema.init_from(model, image)

    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight"]
    assert report.initial["head.fc.weight"].startswith("shape (5, ")
    assert sorted(report.refused) in (["fc.bias", "fc.weight"], ["classifier.1.bias", "classifier.1.weight"])
    assert len(report.loaded) == len(model.state_dict()) - 2
    assert all(torch.equal(value, before[key]) for key, value in model.head.state_dict().items())

    frames = torch.randn(2, 3, 64, 64)
    trunk = network(name.replace("tsm", "tsn"), seed=1, num_classes=1000).eval().backbone.trunk
    if "tsn" in name:
        torch.testing.assert_close(model.eval().backbone.trunk.forward_features(frames), trunk.forward_features(frames))


def test_the_report_lists_what_stays_and_what_is_left():
    text = str(kinema.init_from(network("tsm_r18"), image_network("tsn_r18")))
    assert text.startswith("loaded 120 tensors from timm or torchvision: ResNet-18 with 1000 classes\n")
    assert "  initial: head.fc.weight (shape (5, 512); fc.weight has (1000, 512))\n" in text
    assert "  not used: fc.bias (shape (1000,); head.fc.bias has (5,))" in text


@pytest.mark.parametrize(("trained", "model"), [("tsn_r18", "tsm_r18"), ("tsm_r18", "tsn_r18")])
@pytest.mark.parametrize("rename", [str, tsm_resnet])
def test_between_frame_wise_and_shifted(trained, model, rename):
    source, target = network(trained, seed=1), network(model, seed=2)
    report = kinema.init_from(target, renamed(source, rename))
    assert len(report.loaded) == 122 and not report.initial and not report.refused
    assert [v.sum() for v in source.state_dict().values()] == [v.sum() for v in target.state_dict().values()]


def test_operators_with_tensors_of_their_own_stay_as_built():
    model = network("tsm_r18", seed=2, non_local="embedded_gaussian")
    report = kinema.init_from(model, renamed(network("tsm_r18", seed=1), tsm_resnet))
    assert all(".after.operator." in name for name in report.initial)
    assert len(report.initial) == 2 * 13
    report = kinema.init_from(network("tsm_r18"), renamed(model, tsm_resnet))
    assert len(report.refused) == 2 * 13 and not report.initial


def test_more_input_channels_repeat_the_mean():
    """Optical flow: five pairs of displacements in place of red, green and blue."""
    model = network("tsm_r18", in_channels=10)
    image = image_network("tsn_r18")
    report = kinema.init_from(model, image)
    stem = model.state_dict()["backbone.trunk.conv1.weight"]
    assert stem.shape == (64, 10, 7, 7)
    for channel in range(10):
        torch.testing.assert_close(stem[:, channel], image["conv1.weight"].mean(dim=1))
    assert report.inflated == {"backbone.trunk.conv1.weight": "mean of conv1.weight over 3 channels, repeated 10 times"}
    assert "backbone.trunk.conv1.weight" not in report.loaded


def test_every_tensor_is_accounted_for_once():
    model = network("tsm_r18", in_channels=10, non_local="gaussian")
    report = kinema.init_from(model, image_network("tsn_r18"))
    listed = [*report.loaded, *report.inflated, *report.initial]
    assert sorted(listed) == sorted(model.state_dict())


def test_another_trunk_is_refused():
    with pytest.raises(ValueError, match=r"holds ResNet-18 with 1000 classes; the model is ResNet-50"):
        kinema.init_from(network("tsm_r50"), image_network("tsn_r18"))


@pytest.mark.parametrize(
    ("options", "form"),
    [
        (
            {"stem_type": "deep", "stem_width": 32, "avg_down": True},
            r" \(a stem of 32, 32, 64 channels, averages in its shortcuts\)",
        ),
        ({"avg_down": True}, r" \(averages in its shortcuts\)"),
    ],
)
@pytest.mark.parametrize("load", [kinema.init_from, kinema.load_checkpoint])
def test_another_stem_or_shortcut_is_another_trunk(options, form, load):
    """Else convolutions that no name or shape fits would stay as they were drawn."""
    image = ResNet(BasicBlock, (2, 2, 2, 2), num_classes=5, **options)
    with pytest.raises(ValueError, match=rf"holds ResNet-18{form} with 5 classes; the model is ResNet-18 with"):
        load(network("tsm_r18"), image.state_dict())


def test_half_precision_is_widened():
    model = network("tsn_r18")
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in image_network("tsn_r18").items()
    }
    kinema.init_from(model, half)
    weight = model.state_dict()["backbone.trunk.conv1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, half["conv1.weight"].float())


def test_fetching_asks_timm(monkeypatch):
    import timm

    asked = []

    def create_model(name, pretrained=False):
        asked.append((name, pretrained))
        return torch.nn.Linear(1, 1)

    monkeypatch.setattr(timm, "create_model", create_model)
    assert set(timm_checkpoints.fetch("resnet50.tv_in1k")) == {"weight", "bias"}
    assert asked == [("resnet50.tv_in1k", True)]


def test_fetching_without_a_network_says_so(monkeypatch):
    import timm

    def create_model(name, pretrained=False):
        raise OSError("name resolution failed")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ConnectionError, match=r"'resnet50.tv_in1k' could not be fetched \(name resolution failed\)"):
        timm_checkpoints.fetch("resnet50.tv_in1k")


def test_fetching_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="timm has no pretrained network 'resnet5000'"):
        timm_checkpoints.fetch("resnet5000")


@pytest.mark.skipif(not SHARED.is_dir(), reason="set KINEMA_SHARED to the folder that holds weights/")
@pytest.mark.parametrize(
    ("file", "name", "loaded"),
    [
        ("resnet50_imagenet_v1.fp16.safetensors", "tsm_r50", 318),
        ("mobilenetv2_imagenet_trunk.safetensors", "tsm_mobilenetv2", 312),
    ],
)
def test_real_image_weights(file, name, loaded):
    report = kinema.init_from(kinema.create_model(name, num_classes=10), SHARED / file)
    assert len(report.loaded) == loaded
    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight"]


def state_of(name, **options):
    return kinema.create_model(name, 7, **options).state_dict()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (("tsn_nano", {}), ("tada2d_nano", {})),
        (("tada2d_nano", {}), ("tsm_nano", {})),
        (("tada2d_nano", {}), ("tada2d_nano", {"calibrated_stages": (3, 4)})),
    ],
)
def test_the_same_trunk_with_other_operators(source, target):
    """Basic blocks open with a convolution over pixels, which is a calibrated one in TAda2D, of other axes."""
    tensors = state_of(source[0], **source[1])
    model = kinema.create_model(target[0], 5, **target[1])
    report = kinema.init_from(model, tensors)
    trunk = {name: value for name, value in model.state_dict().items() if name.endswith("conv1.0.weight")}
    assert trunk and all(torch.equal(value, tensors[name]) for name, value in trunk.items())
    kernels = [name for name in report.loaded if ".layer" in name and name.endswith("weight") and "conv" in name]
    assert len([name for name in kernels if "router" not in name]) >= 10


@pytest.mark.parametrize("load", [kinema.init_from, kinema.load_checkpoint])
def test_a_calibrated_trunk_of_another_width_is_refused(load):
    with pytest.raises(ValueError, match=r"8 channels wide .*16 channels wide"):
        load(kinema.create_model("tada2d_nano", 7), state_of("tada2d_nano", width=8))


def test_every_calibrated_convolution_counts():
    with pytest.raises(ValueError, match=r"10 calibrated convolutions.*tsn|with 10 calibrated convolutions"):
        kinema.load_checkpoint(kinema.create_model("tsn_nano", 7), state_of("tada2d_nano"))


def test_a_printed_report_is_short_and_its_fields_are_not():
    model = kinema.create_model("tada2d_r50", 5)
    report = kinema.init_from(model, image_network("tsn_r50"))
    text = str(report)
    assert len(text.splitlines()) < 20 and len(report.initial) > 100
    assert "head.fc.weight (shape (5, 2048)" in text and "tensors, such as backbone.trunk.layer1.0.conv2" in text
