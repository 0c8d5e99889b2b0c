"""Checkpoints of every origin find their place in the right network, and in no other."""

from functools import partial

import pytest
import torch

import kinema
from kinema.testing import assert_network_streams

from other_layouts import (
    mmaction2_mobilenetv2,
    mmaction2_resnet,
    network,
    own,
    renamed,
    torchvision_mobilenetv2,
    tsm_in_place,
    tsm_mobilenetv2,
    tsm_resnet,
)

# What was trained, with which options, and how its origin names the tensors. The reference networks in tests/parity are
# written by their origins themselves; here are the layouts that no reference was made of.
LAYOUTS = {
    "TSM authors, in-place": ("tsm_r18", {"placement": "in_place"}, tsm_in_place),
    "TSM authors, ResNet-101": ("tsm_r101", {}, tsm_resnet),
    "TSM authors, trained without dropout": ("tsm_r18", {}, partial(tsm_resnet, classifier="base_model.fc")),
    "TSM authors, pooled and non-local": (
        "tsm_r18",
        {"temporal_pool": True, "non_local": "embedded_gaussian"},
        tsm_resnet,
    ),
    "TSM authors, MobileNetV2 with the old head": (
        "tsm_mobilenetv2",
        {},
        partial(tsm_mobilenetv2, classifier="base_model.classifier"),
    ),
    "TSM authors, online MobileNetV2": (
        "tsm_mobilenetv2",
        {"causal": True},
        partial(tsm_mobilenetv2, prefix="", classifier="classifier", wrapped=""),
    ),
    "mmaction2, MobileNetV2 with shift": ("tsm_mobilenetv2", {}, mmaction2_mobilenetv2),
    "mmaction2, MobileNetV2": ("tsn_mobilenetv2", {}, partial(mmaction2_mobilenetv2, shifted=False)),
    "mmaction2, TSN": ("tsn_r18", {}, mmaction2_resnet),
    "timm, ResNet": ("tsn_r18", {}, own),
    "timm, MobileNetV2": ("tsn_mobilenetv2", {}, lambda name: own(name).replace("fc.", "classifier.")),
    "torchvision, MobileNetV2": ("tsn_mobilenetv2", {}, torchvision_mobilenetv2),
    "kinema": ("tsm_r18", {}, str),
    "kinema, several classifiers": ("tsm_nano", {"num_classes": (3, 4)}, str),
}


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_arrives(layout):
    name, options, rename = LAYOUTS[layout]
    trained, model = network(name, seed=1, **options), network(name, seed=2, **options)
    report = kinema.load_checkpoint(model, renamed(trained, rename))
    assert same(model, trained)
    assert sorted(report.loaded) == sorted(model.state_dict())
    assert not report.initial and not report.refused and not report.inflated
    assert len(report.renamed) == (0 if rename is str else len(report.loaded))


def test_the_authors_online_network_streams():
    """Their names leave no trace of the shift; what was trained on clips is what runs frame by frame."""
    name, options, rename = LAYOUTS["TSM authors, online MobileNetV2"]
    trained, model = network(name, seed=1, **options), network(name, seed=2, **options)
    kinema.load_checkpoint(model, renamed(trained, rename))
    clip = torch.randn(1, 3, 3, 32, 32)
    assert_network_streams(model, clip)
    with torch.no_grad():
        assert torch.equal(model.eval()(clip), trained.eval()(clip))


@pytest.mark.parametrize("holder", ["module.", "network.", "network._orig_mod.", "model."])
@pytest.mark.parametrize("layout", ["kinema", "kinema, several classifiers", "TSM authors, in-place", "timm, ResNet"])
def test_what_held_the_network_does_not_matter(layout, holder):
    """A LightningModule may keep tensors of its own beside the network; they are none of the network's."""
    name, options, rename = LAYOUTS[layout]
    trained, model = network(name, seed=1, **options), network(name, seed=2, **options)
    checkpoint = {f"{holder}{rename(key)}": value for key, value in trained.state_dict().items()}
    report = kinema.load_checkpoint(model, checkpoint | {"metrics.total": torch.ones(1)})
    assert same(model, trained)
    assert report.refused == {"metrics.total": f"not of the network, whose tensors are under {holder.split('.')[0]}."}


def test_tensors_beside_the_network_are_listed():
    trained, model = network("tsn_nano", seed=1), network("tsn_nano", seed=2)
    held = {f"module.network.{name}": value for name, value in trained.state_dict().items()}
    others = {"classifier.weight": torch.ones(5, 128), "module.loss.weight": torch.ones(5)}
    wanted = {
        "classifier.weight": "not of the network, whose tensors are under module.",
        "module.loss.weight": "not of the network, whose tensors are under module.network.",
    }
    for load in (kinema.load_checkpoint, kinema.init_from):
        report = load(model, held | others)
        assert report.refused == wanted and not report.initial and same(model, trained)
        assert "not used: module.loss.weight (not of the network" in str(report)


def test_the_reference_names_of_a_network_without_dropout():
    """From the reference: base_model.fc, and no new_fc."""
    names = [tsm_resnet(name, "base_model.fc") for name in network("tsm_r18").state_dict()]
    assert names[-4:] == [
        "base_model.layer4.1.bn2.running_var",
        "base_model.layer4.1.bn2.num_batches_tracked",
        "base_model.fc.weight",
        "base_model.fc.bias",
    ]


def test_counters_may_be_missing_from_old_files():
    suffix = "num_batches_tracked"
    trained, model = network("tsm_r18", seed=1), network("tsm_r18", seed=2)
    old = {k: v for k, v in renamed(trained, tsm_resnet).items() if not k.endswith(suffix)}
    report = kinema.load_checkpoint(model, old)
    assert len(report.initial) == 20 and all(name.endswith(suffix) for name in report.initial)


def test_mmaction2_has_no_bias_before_the_norm_of_a_non_local_block():
    trained, model = (network("tsm_r18", seed, non_local="dot_product") for seed in (1, 2))
    names = {"g": "g.0.conv", "phi": "phi.0.conv", "theta": "theta.conv", "out": "conv_out.conv", "norm": "conv_out.bn"}

    def rename(name):
        for ours, theirs in names.items():
            name = name.replace(f".after.operator.{ours}.", f".non_local_block.{theirs}.")
        return name if "non_local_block" not in name else f"backbone.{own(name)}"

    theirs = {rename(k) if "after" in k else mmaction2_resnet(k): v for k, v in trained.state_dict().items()}
    theirs = {k: v for k, v in theirs.items() if not k.endswith("conv_out.conv.bias")}
    report = kinema.load_checkpoint(model, theirs)
    biases = [k for k in model.state_dict() if k.endswith("after.operator.out.bias")]
    assert len(biases) == 2 and not any(model.state_dict()[k].any() for k in biases)
    assert [note for note in report.notes if note.startswith(biases[0])]
    assert not report.initial


REFUSED = [
    # (what was trained, its options, its names), (the model, its options), what the error says
    (
        ("tsm_r101", {}, tsm_resnet),
        ("tsm_r50", {}),
        r"the checkpoint \(the TSM authors' code\) holds ResNet-101 with 18 residual shifts, 5 classes; the model is "
        "ResNet-50 with 16 residual shifts, 5 classes. Build the model that fits",
    ),
    (("tsm_r18", {}, str), ("tsm_r50", {}), r"\(kinema\) holds ResNet-18 .*; the model is ResNet-50"),
    (("tsm_mobilenetv2", {}, mmaction2_mobilenetv2), ("tsm_r18", {}), "holds MobileNetV2 .* the model is ResNet-18"),
    (("tsm_nano", {}, str), ("tsm_r18", {}), r"holds ResNet of \(1, 1, 2, 1\) basic blocks, 16 channels wide"),
    (
        ("tsn_r18", {}, tsm_resnet),
        ("tsm_r18", {}),
        "holds ResNet-18 with 5 classes; the model is ResNet-18 with 8 residual shifts.* of the model alone",
    ),
    (
        ("tsm_r18", {}, tsm_resnet),
        ("tsn_r18", {}),
        "holds ResNet-18 with 8 residual shifts.* of the checkpoint alone.*with kinema.init_from",
    ),
    (("tsm_r18", {}, str), ("tsn_r18", {}), r"\(kinema\) holds ResNet-18 with 8 residual shifts"),
    (
        ("tsm_r18", {"placement": "in_place"}, tsm_in_place),
        ("tsm_r18", {}),
        "holds ResNet-18 with 8 in-place shifts, 5 classes; the model is ResNet-18 with 8 residual shifts",
    ),
    (("tsm_r18", {"placement": "in_place"}, str), ("tsm_r18", {}), "with 8 in-place shifts"),
    (
        ("tsm_r18", {"shift_every": 2}, tsm_resnet),
        ("tsm_r18", {}),
        r"residual shift in \['layer1.1', 'layer2.1', 'layer3.1', 'layer4.1'\] of the model alone",
    ),
    (
        ("tsm_r18", {}, tsm_resnet),
        ("tsm_r18", {"causal": True}),
        "the model is ResNet-18 with 8 causal residual shifts",
    ),
    (("tsn_r18", {}, own), ("tsm_r18", {}), r"\(timm or torchvision\) holds ResNet-18 with 5 classes"),
    (
        ("tsm_mobilenetv2", {"causal": True}, partial(tsm_mobilenetv2, prefix="", classifier="classifier", wrapped="")),
        ("tsm_mobilenetv2", {}),
        r"online network or an image network\) holds MobileNetV2 with 5 classes; the model is MobileNetV2 with 10 residual",
    ),
    (
        ("tsm_r18", {"non_local": "embedded_gaussian"}, tsm_resnet),
        ("tsm_r18", {}),
        r"2 non-local blocks, 8 residual shifts.*non-local block in \['layer2.0', 'layer3.0'\] of the checkpoint alone",
    ),
    (
        ("tsm_r18", {"temporal_pool": True}, tsm_resnet),
        ("tsm_r18", {}),
        r"temporal pool in \['layer2'\] of the checkpoint alone",
    ),
    (
        ("tsm_r18", {"num_classes": 7}, tsm_resnet),
        ("tsm_r18", {}),
        r"7 classes; the model is .* 5 classes. Build it with num_classes=7, or keep its own classifier with",
    ),
    (
        ("tsm_nano", {"num_classes": (3, 4)}, str),
        ("tsm_nano", {}),
        r"3 and 4 classes; the model is .* 5 classes. Build it with num_classes=\(3, 4\)",
    ),
    (
        ("tsm_r18", {"non_local": "gaussian"}, tsm_resnet),
        ("tsm_r18", {"non_local": "embedded_gaussian"}),
        "tensors do not match. Without a value: .*theta.*Without a place: none",
    ),
]


@pytest.mark.parametrize(("trained", "model", "message"), REFUSED)
def test_another_network_is_refused_and_left_as_it_was(trained, model, message):
    name, options, rename = trained
    checkpoint = renamed(network(name, seed=1, **options), rename)
    target = network(model[0], seed=2, **model[1])
    with pytest.raises(ValueError, match=message):
        kinema.load_checkpoint(target, checkpoint)
    assert same(target, network(model[0], seed=2, **model[1]))


def test_a_checkpoint_of_no_known_network_is_refused():
    with pytest.raises(
        ValueError, match=r"no known layout has names such as blocks.0.attn.weight, patch.weight; known are"
    ):
        kinema.load_checkpoint(
            network("tsm_nano"), {"patch.weight": torch.ones(3), "blocks.0.attn.weight": torch.ones(3)}
        )


def test_a_missing_tensor_is_refused():
    checkpoint = renamed(network("tsm_r18"), tsm_resnet)
    del checkpoint["base_model.layer1.0.conv2.weight"]
    with pytest.raises(ValueError, match=r"Without a value: backbone\S+layer1.0.conv2.weight. Without a place: none"):
        kinema.load_checkpoint(network("tsm_r18"), checkpoint)


def test_a_surplus_tensor_is_refused():
    checkpoint = renamed(network("tsm_r18"), tsm_resnet) | {"base_model.layer1.0.conv9.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"Without a value: none. Without a place: base_model.layer1.0.conv9.weight"):
        kinema.load_checkpoint(network("tsm_r18"), checkpoint)


def test_a_tensor_of_another_shape_is_refused():
    checkpoint = renamed(network("tsm_r18"), tsm_resnet)
    checkpoint["base_model.layer1.0.conv2.weight"] = torch.zeros(64, 64, 1, 1)
    with pytest.raises(ValueError, match=r"tensors do not match. Without a value: .*layer1.0.conv2.weight"):
        kinema.load_checkpoint(network("tsm_r18"), checkpoint)


def test_the_report_can_be_read():
    report = kinema.load_checkpoint(network("tsm_r18"), renamed(network("tsm_r18"), tsm_resnet))
    lines = str(report).splitlines()
    assert lines[0] == "loaded 122 tensors from the TSM authors' code: ResNet-18 with 8 residual shifts, 5 classes"
    assert lines[1] == "  renamed: 122, as base_model.conv1.weight -> backbone.trunk.conv1.weight"
    assert lines[2].startswith("  note: how many channels were shifted")


@pytest.mark.parametrize("classes", [3, 4])
def test_the_report_says_that_a_classifier_of_the_same_size_came_along(classes):
    trained = kinema.create_model("tsn_nano", num_classes=3)
    model = kinema.create_model("tsm_nano", num_classes=classes)
    report = kinema.init_from(model, trained.state_dict())
    came = torch.equal(model.head.fc.weight[:3], trained.head.fc.weight)
    assert came == (classes == 3) == any("classifier came along" in note for note in report.notes)
    assert not any("came along" in note for note in kinema.load_checkpoint(trained, trained.state_dict()).notes)
