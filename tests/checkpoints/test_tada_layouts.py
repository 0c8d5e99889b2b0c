"""Checkpoints of TAdaConv's authors for their ConvNeXts and transformers: there and back, and what a file says it is."""

import pytest
import torch

import kinema
from kinema.checkpoints.tadaconv import describe, to_theirs

VARIANTS = [
    ("tadaconvnext_nano", {}, "TAdaConvNeXt of (1, 1, 2, 1) blocks, 24 channels wide, 5 classes"),
    (
        "tadaconvnext_nano",
        {"routing": "local_global"},
        "TAdaConvNeXt of (1, 1, 2, 1) blocks, 24 channels wide (batch norm in its routers), 5 classes",
    ),
    ("tadaconvnextv2_nano", {}, "TAdaConvNeXtV2 of (1, 1, 2, 1) blocks, 24 channels wide, 5 classes"),
    (
        "tadaconvnextv2_nano",
        {"aggregation": "none"},
        "TAdaConvNeXtV2 of (1, 1, 2, 1) blocks, 24 channels wide (without aggregation), 5 classes",
    ),
    ("tadaformer_nano", {}, "TAdaFormer of 4 blocks, 64 channels wide, patches of 8 (64 positions), 5 classes"),
    (
        "tadaformer_nano",
        {"enhanced": True, "double": True, "num_classes": (3, 4)},
        "TAdaFormer of 4 blocks, 64 channels wide, patches of 8 (enhanced, double, 64 positions), 3 and 4 classes",
    ),
]


def network(name, seed, **options):
    torch.manual_seed(seed)
    model = kinema.create_model(name, **{"num_classes": 5, **options})
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor)
    return model


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(("name", "options", "text"), VARIANTS)
def test_there_and_back(name, options, text):
    source, target = network(name, 1, **options), network(name, 2, **options)
    theirs = to_theirs(source)
    assert len(theirs) == len(source.state_dict())
    assert describe(shapes(theirs)) == text
    report = kinema.load_checkpoint(target, {"model_state": theirs})
    assert not report.initial and not report.refused
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("tadaconvnext_tiny", {}, "TAdaConvNeXt-T, 400 classes"),
        ("tadaconvnextv2_small", {}, "TAdaConvNeXtV2-S, 400 classes"),
        ("tadaconvnextv2_base", {}, "TAdaConvNeXtV2-B, 400 classes"),
        ("tadaformer_b16", {}, "TAdaFormer-B/16 (196 positions), 400 classes"),
        ("tadaformer_l14", {"double": True}, "TAdaFormer-L/14 (double, 256 positions), 400 classes"),
    ],
)
def test_the_family_is_known_by_name(name, options, wanted):
    from kinema.checkpoints.tadaconv import counterparts

    with torch.device("meta"):
        model = kinema.create_model(name, **options)
    assert describe({theirs.name: theirs.shape for theirs in counterparts(model).values()}) == wanted


def test_names_and_shapes_of_a_block_are_those_of_the_authors():
    """As written down from their state dicts."""
    first = shapes(to_theirs(network("tadaconvnext_nano", 1)))
    prefix = "backbone.stages.0.0."
    assert {key.removeprefix(prefix): shape for key, shape in first.items() if key.startswith(prefix)} == {
        "gamma": (24,),
        "dwconv.weight": (1, 1, 24, 1, 7, 7),
        "dwconv.bias": (1, 1, 24),
        "dwconv_rf.g.weight": (24, 24, 1, 1, 1),
        "dwconv_rf.g.bias": (24,),
        "dwconv_rf.a.weight": (6, 24, 3, 1, 1),
        "dwconv_rf.a.bias": (6,),
        "dwconv_rf.ln.weight": (6,),
        "dwconv_rf.ln.bias": (6,),
        "dwconv_rf.b.weight": (24, 6, 3, 1, 1),
        "dwconv_rf.b_bias.weight": (24, 6, 3, 1, 1),
        "norm.weight": (24,),
        "norm.bias": (24,),
        "pwconv1.weight": (96, 24),
        "pwconv1.bias": (96,),
        "pwconv2.weight": (24, 96),
        "pwconv2.bias": (24,),
    }
    enhanced = shapes(to_theirs(network("tadaformer_nano", 1, enhanced=True)))
    assert enhanced["backbone.layers.0.tada.tada_pre_proj.weight"] == (32, 64, 3, 1, 1)
    assert enhanced["backbone.layers.0.tada.tada_proj.weight"] == (64, 32, 1, 1, 1)
    assert enhanced["backbone.positional_embedding"] == (65, 64)
    plain = shapes(to_theirs(network("tadaformer_nano", 1)))
    assert plain["backbone.layers.0.tada.tada_proj.weight"] == (64, 32)


def test_another_version_is_refused_in_words():
    theirs = to_theirs(network("tadaconvnext_nano", 1))
    with pytest.raises(ValueError, match=r"holds TAdaConvNeXt of .*; the model is TAdaConvNeXtV2 of "):
        kinema.load_checkpoint(network("tadaconvnextv2_nano", 1), theirs)
    with pytest.raises(
        ValueError, match=r"holds TAdaFormer .*\(enhanced, 64 positions\).* model is TAdaFormer .*\(64 pos"
    ):
        kinema.load_checkpoint(network("tadaformer_nano", 1), to_theirs(network("tadaformer_nano", 1, enhanced=True)))


def test_kinetics_weights_start_something_something():
    """The authors' way for TAdaConvNeXtV2: all but the classifier from their own checkpoint."""
    target = network("tadaconvnextv2_nano", 2, num_classes=7)
    report = kinema.init_from(target, to_theirs(network("tadaconvnextv2_nano", 1)))
    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight"]
    assert sorted(report.refused) == ["head.out.bias", "head.out.weight"]


@pytest.mark.parametrize(("name", "options", "text"), VARIANTS)
def test_kinema_s_own_weights_load(name, options, text):
    source, target = network(name, 1, **options), network(name, 2, **options)
    report = kinema.load_checkpoint(target, source.state_dict())
    assert len(report.loaded) == len(source.state_dict()) and not report.renamed


def test_their_weights_are_refused_for_a_causal_network_and_start_one():
    """Every tensor fits, and every tap of a router would stand at another frame than the one it was trained for."""
    theirs = to_theirs(kinema.create_model("tada2d_r50", 5))
    causal = kinema.create_model("tada2d_r50", 5, causal=True)
    with pytest.raises(ValueError, match=r"frames before and behind; backbone.*sees the past alone.*kinema.init_from"):
        kinema.load_checkpoint(causal, theirs)
    report = kinema.init_from(causal, theirs)
    assert len(report.loaded) == len(causal.state_dict()) and not report.refused
    own = kinema.load_checkpoint(causal, kinema.create_model("tada2d_r50", 5))
    assert "whether calibration sees the past alone, a checkpoint does not say" in own.notes
