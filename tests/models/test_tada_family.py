"""TAdaConvNeXt, TAdaConvNeXtV2 and TAdaFormer: sizes, initial values, what they equal at first, what they refuse."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import kinema
from kinema.backbones.drop_path import ClipDropPath
from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.tada_block import TAdaBlock
from kinema.operators.tada_layer import TAdaLayer

NANO = ["tadaconvnext_nano", "tadaconvnextv2_nano", "tadaformer_nano"]
SSV2 = {"enhanced": True, "double": True}
INITIAL = json.loads((Path(__file__).parents[1] / "parity" / "tada_initial_values.json").read_text())


@pytest.mark.parametrize(
    ("name", "options", "classes", "side", "params", "gmacs"),
    [
        ("tadaconvnext_tiny", {}, 400, 256, 38.66, None),
        ("tadaconvnext_small", {}, 400, 256, 68.93, None),
        ("tadaconvnext_base", {}, 400, 256, 122.05, None),
        ("tadaconvnextv2_tiny", {}, 400, 256, 45.971, 46.99),
        ("tadaconvnextv2_small", {}, 400, 224, 82.249, 69.96),
        ("tadaconvnextv2_base", {}, 400, 256, 145.688, 161.30),
        ("tadaformer_b16", {}, 400, 224, 104.196, 153.60),
        ("tadaformer_b16", SSV2, 174, 224, 135.087, 187.03),
        ("tadaformer_l14", {}, 400, 224, 364.827, 702.61),
        ("tadaformer_l14", SSV2, 174, 224, 474.960, 857.73),
    ],
)
def test_parameters_and_multiply_adds_are_the_published_ones(name, options, classes, side, params, gmacs):
    with torch.device("meta"):
        model = kinema.create_model(name, classes, 16, **options)
    cost = kinema.profile(model, (1, 3, 16, side, side))
    assert cost.params / 1e6 == pytest.approx(params, rel=2e-4)
    if gmacs is not None:
        assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.001)


def test_number_of_tensors_is_that_of_the_authors():
    for name, options, wanted in (
        ("tadaconvnextv2_tiny", {}, 434),
        ("tadaformer_b16", {}, 489),
        ("tadaformer_b16", SSV2, 825),
    ):
        with torch.device("meta"):
            assert len(kinema.create_model(name, **options).state_dict()) == wanted


@pytest.mark.parametrize("name", [name for name in INITIAL if name != "source"])
def test_initial_values_are_those_of_the_authors(name):
    """Mean and standard deviation of every kind of tensor, against their code without image weights."""
    torch.manual_seed(0)
    state = kinema.create_model(name).state_dict()
    for pattern, (mean, std) in INITIAL[name].items():
        found = [value.double() for key, value in state.items() if pattern in key]
        assert found, pattern
        for value in found:
            margin = 5 * std / value.numel() ** 0.5 + 1e-9
            assert value.mean().item() == pytest.approx(mean, abs=margin), pattern
            assert value.std(correction=0).item() == pytest.approx(std, rel=0.02, abs=margin), pattern


@pytest.mark.parametrize("name", NANO)
@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_half_of_the_frames_are_left_rounded_up(name, num_frames):
    model = kinema.create_model(name, 5).eval()
    seen = []
    operators = [m for m in model.modules() if isinstance(m, TAdaLayer)]
    operators[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2]))
    assert model(torch.randn(2, 3, num_frames, 64, 64)).shape == (2, 5)
    assert seen == [(num_frames + 1) // 2]


@pytest.mark.parametrize("name", NANO)
def test_frames_need_not_be_square(name):
    model = kinema.create_model(name, 5).eval()
    wide, high = torch.randn(2, 3, 4, 40, 72), torch.randn(2, 3, 4, 72, 40)
    assert model(wide).shape == model(high).shape == (2, 5)


def test_a_transposed_grid_is_not_mistaken_for_the_grid():
    """Columns taken for rows would leave the shape as it is: 5 x 9 patches against 9 x 5."""
    torch.manual_seed(0)
    block = TAdaBlock(8, routing_head_dim=None).eval()
    nn.init.normal_(block.expand.weight)
    model = kinema.create_model("tadaformer_nano", embed_dim=8, num_heads=1, depth=1).eval()
    hole = model.backbone.trunk.blocks[0].before
    hole.operator = block
    model.backbone._grid.num_clips, model.backbone._grid.patches = 2, (5, 9)
    tokens = torch.randn(2 * 3, 1 + 45, 8)
    maps = tokens[:, 1:].reshape(2, 3, 5, 9, 8).permute(0, 4, 1, 2, 3)
    wanted = tokens.clone()
    wanted[:, 1:] += block(maps).permute(0, 2, 3, 4, 1).reshape(6, 45, 8)
    torch.testing.assert_close(hole(tokens), wanted)
    assert torch.equal(hole(tokens)[:, 0], tokens[:, 0])


@pytest.mark.parametrize("name", NANO)
def test_clips_of_a_batch_do_not_meet(name):
    torch.manual_seed(0)
    model = awake(kinema.create_model(name, 5).double().eval())
    clips = torch.randn(3, 3, 5, 64, 64, dtype=torch.float64)
    together = model(clips)
    torch.testing.assert_close(together, torch.cat([model(clip[None]) for clip in clips]))


def awake(model):
    """Nothing left at the zero that makes operators silent at first."""
    for parameter in model.backbone.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def test_stochastic_depth_drops_whole_clips():
    torch.manual_seed(0)
    model = kinema.create_model("tadaconvnext_nano", 5, drop_path=0.5)
    drops = [module for module in model.modules() if isinstance(module, ClipDropPath)]
    rates = [0.125, 0.25, 0.375, 0.5]  # linear over five blocks, none at the first
    assert [drop.rate for drop in drops] == pytest.approx(rates)
    drop = drops[-1].train()
    drop._batch.num_clips = 64
    kept = drop(torch.ones(64 * 3, 7, 2, 2)).reshape(64, -1)
    assert kept.eq(kept[:, :1]).all()
    assert set(kept[:, 0].tolist()) == {0.0, 2.0}
    assert torch.equal(drop.eval()(torch.ones(6, 2)), torch.ones(6, 2))


def test_stochastic_depth_reaches_the_operators_of_a_transformer():
    model = kinema.create_model("tadaformer_nano", 5, drop_path=0.3, double=True)
    rates = [block.before.drop_path.rate for block in model.backbone.trunk.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [block.between.drop_path.rate for block in model.backbone.trunk.blocks] == rates
    assert [block.drop_path2.rate for block in model.backbone.trunk.blocks[1:]] == pytest.approx(rates[1:])


def test_where_the_operators_of_a_transformer_stand():
    for options, before, between, seen in (({}, 4, 0, 1), (SSV2, 4, 4, 3)):
        model = kinema.create_model("tadaformer_nano", 5, **options)
        places = [name for name, module in model.named_modules() if isinstance(module, TAdaBlock)]
        assert sum(".before." in place for place in places) == before
        assert sum(".between." in place for place in places) == between
        weight = model.get_submodule(places[0]).reduce.weight
        assert (weight.shape[2] if weight.ndim == 5 else 1) == seen


def test_the_second_block_of_the_last_layer_is_never_heard():
    """As in the authors' code: behind it only class tokens are read. All other parameters learn."""
    torch.manual_seed(0)
    model = kinema.create_model("tadaformer_nano", 5, double=True).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter.numel() ** -0.25)
    model(torch.randn(1, 3, 4, 64, 64)).square().sum().backward()
    silent = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    last = "backbone.trunk.blocks.3.between."
    assert silent == {name for name, _ in model.named_parameters() if name.startswith(last)}


def test_options_reach_the_calibrated_convolutions():
    model = kinema.create_model("tadaconvnextv2_nano", 5, calibrated_stages=(3, 4), routing_ratio=4)
    layers = [module for module in model.modules() if isinstance(module, TAdaLayer)]
    assert len(layers) == 3 and all(
        layer.router.num_heads == heads for layer, heads in zip(layers, (4, 4, 8), strict=True)
    )
    assert sum(isinstance(module, TemporalAggregation) for module in model.modules()) == 3
    assert all("bias" in layer.router.widths for layer in layers)
    model = kinema.create_model("tadaconvnext_nano", 5)
    assert not any(isinstance(module, TemporalAggregation) for module in model.modules())
    for name in NANO:
        model = kinema.create_model(name, 5, 6, routing="per_frame")
        assert model(torch.randn(1, 3, 6, 64, 64)).shape == (1, 5)


def test_size_of_a_nano_network_is_an_option():
    model = kinema.create_model("tadaconvnextv2_nano", 5, depths=(1, 2, 1, 1), width=16)
    assert model.forward_features(torch.randn(2, 3, 4, 64, 64)).shape == (2, 128)
    model = kinema.create_model("tadaformer_nano", 5, embed_dim=48, depth=2, num_heads=3, patch_size=16, image_size=32)
    assert model.forward_features(torch.randn(2, 3, 4, 64, 64)).shape == (2, 48)
    assert model.backbone.trunk.pos_embed.shape == (1, 1 + 4, 48)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tadaconvnextv2_nano", {"routing_head_dim": 5}, "head_dim=5 does not divide the 12 hidden channels"),
        ("tadaconvnextv2_nano", {"depths": (1, 1)}, "four stages of at least one block"),
        ("tadaconvnext_nano", {"drop_path": 1.0}, "drop_path=1.0 is no rate"),
        ("tadaconvnext_nano", {"calibrated_stages": (0,)}, "from 1 to 4"),
        ("tadaformer_nano", {"drop_path": -0.1}, "drop_path=-0.1 is no rate"),
        ("tadaformer_nano", {"num_heads": 7}, "num_heads=7 does not divide embed_dim=64"),
        ("tadaformer_nano", {"image_size": 60}, "patch_size=8 does not divide image_size=60"),
        ("tadaformer_nano", {"depth": 0}, "depth=0 leaves no block"),
        ("tadaformer_nano", {"reduction": 0}, "reduction=0 leaves no channel"),
        ("tadaformer_nano", {"routing_head_dim": 5}, "head_dim=5 does not divide the 16 hidden channels"),
        ("tadaformer_b16", {"embed_dim": 64}, "tadaformer_b16 has no option 'embed_dim'"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("tadaconvnext_nano", 24, "frames of 24 x 24 pixels are too small for four stages; give at least 32 x 32"),
        ("tadaformer_nano", 60, "frames of 60 x 60 pixels are no whole number of patches of 8 x 8"),
    ],
)
def test_what_is_no_clip_for_a_network_is_refused(name, side, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model(name, 5)(torch.randn(1, 3, 2, side, side))


def test_a_layer_called_outside_its_backbone_says_so():
    model = kinema.create_model("tadaformer_nano", 5)
    with pytest.raises(RuntimeError, match="called outside its backbone"):
        model.backbone.trunk.forward_features(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("name", ["tadaconvnext_nano", "tadaconvnextv2_nano"])
def test_values_a_convnext_learns_from_without_image_weights(name):
    """Branches as loud as what they are added to; the authors' are silent for hundreds of steps."""
    scratch, authors = (kinema.create_model(name, num_classes=3, **given) for given in ({}, {"weight_init": "authors"}))
    for network, scale in ((scratch, None), (authors, 0.02)):
        for stage in network.backbone.trunk.stages:
            for block in stage.blocks:
                torch.testing.assert_close(block.gamma, torch.full_like(block.gamma, 1.0 if scale is None else 1e-6))
                for layer in (block.mlp.fc1, block.mlp.fc2):
                    wanted = layer.in_features**-0.5 if scale is None else scale
                    assert layer.weight.std().item() == pytest.approx(wanted, rel=0.15)
                    assert not layer.bias.any()
    with pytest.raises(ValueError, match="weight_init='zeros' is unknown; give one of authors, scratch"):
        kinema.create_model(name, num_classes=3, weight_init="zeros")
    tiny = kinema.create_model(name.replace("nano", "tiny"), num_classes=3)
    assert tiny.backbone.trunk.stages[0].blocks[0].gamma.max() < 1e-5  # what gets image weights starts as theirs
