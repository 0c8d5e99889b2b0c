"""TimeSformer with rotary positions as a network: sizes, options, padding, positions, and what it refuses."""

import pytest
import torch

import kinema
from kinema.models import list_options
from kinema.operators.token_shift import TokenShift

VARIANTS = [{}, {"token_shift": True}, {"rotary": False}, {"rotary": False, "token_shift": True}]


def network(**options):
    torch.manual_seed(0)
    model = kinema.create_model("timesformer_rotary_nano", 5, **{"depth": 2, **options}).double().eval()
    torch.nn.init.normal_(model.head.fc.weight)
    return model


def clip_of(num_frames=4, side=64, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 3, num_frames, side, side, dtype=torch.float64)


def test_parameters_and_multiply_adds_of_the_full_size():
    """Counted by hand: twelve blocks of two steps without biases on queries, and a feed-forward part of 8 and 4 times D."""
    dim, tokens, patches, frames = 512, 1 + 8 * 196, 196, 8
    norm, step = 2 * dim, 4 * dim * dim + dim
    mlp = dim * 8 * dim + 8 * dim + 4 * dim * dim + dim
    block = 3 * norm + 2 * step + mlp
    with torch.device("meta"):
        cost = kinema.profile(kinema.create_model("timesformer_rotary"))
    assert cost.params == (768 * dim + dim) + dim + 12 * block + norm + (400 * dim + 400)
    in_time = 2 * dim * (patches * frames * (frames + 1) + tokens)
    in_space = 2 * dim * (frames * patches * (patches + 1) + tokens)
    per_block = 2 * tokens * 4 * dim * dim + in_time + in_space + tokens * 12 * dim * dim
    assert cost.macs == frames * patches * 768 * dim + 12 * per_block + 400 * dim


@pytest.mark.parametrize("options", VARIANTS)
def test_a_masked_frame_changes_nothing(options):
    model, clip = network(**options), clip_of()
    mask = torch.tensor([[True, True, False, True], [True, False, True, True]])
    other = torch.where(mask[:, None, :, None, None], clip, 10 * torch.randn_like(clip))
    with torch.no_grad():
        logits = model(clip, mask)
        torch.testing.assert_close(model(other, mask), logits, rtol=0, atol=1e-10)
        assert (model(other) - model(clip)).abs().max() > 1e-3


@pytest.mark.parametrize("options", VARIANTS)
def test_a_mask_of_all_frames_is_none(options):
    model, clip = network(**options), clip_of()
    with torch.no_grad():
        torch.testing.assert_close(model(clip, torch.ones(2, 4, dtype=torch.bool)), model(clip))


@pytest.mark.parametrize("options", VARIANTS)
def test_a_padded_clip_is_the_clip(options):
    """What comes behind the last frame has no say, not even by way of a shift."""
    model, clip = network(**options), clip_of()
    padded = torch.cat([clip, torch.randn_like(clip[:, :, :2])], dim=2)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    with torch.no_grad():
        torch.testing.assert_close(model(padded, mask), model(clip))


def test_rotary_positions_are_there_for_any_size():
    model = network()
    for num_frames, height, width in ((1, 8, 8), (11, 40, 72)):
        assert model(torch.randn(1, 3, num_frames, height, width).double()).shape == (1, 5)


@pytest.mark.parametrize("options", VARIANTS)
def test_rows_columns_and_frames_are_told_apart(options):
    """Without positions a transformer sees a bag of patches."""
    model, clip = network(**options), clip_of()
    with torch.no_grad():
        logits = model(clip)
        for axis in (2, 3, 4):
            assert (model(clip.roll(8 if axis > 2 else 1, axis)) - logits).abs().max() > 1e-3


def test_learnt_positions_are_in_the_order_of_frames():
    """Frame by frame, row by row, behind the class token's."""
    model = network(rotary=False, embed_dim=6, image_size=24, num_frames=3)
    backbone = model.backbone
    clip = torch.zeros(1, 3, 2, 24, 24, dtype=torch.float64)
    torch.nn.init.zeros_(backbone.patch_embed["proj"].bias)
    tokens = backbone.embed(clip)
    table = backbone.pos_emb.weight
    torch.testing.assert_close(tokens.classes[0, 0], backbone.cls_token[0, 0] + table[0])
    for row, column, frame in ((0, 0, 0), (0, 2, 0), (1, 0, 0), (2, 1, 1)):
        place = 1 + frame * 9 + row * 3 + column
        torch.testing.assert_close(tokens.patches[0, row, column, frame], table[place])


def test_attention_maps_of_every_block():
    model, clip = network(), clip_of()
    maps = model.attention_maps(clip, torch.tensor([[True, True, True, False]] * 2))
    assert len(maps) == 2 and all(set(steps) == {"time", "space", "class_in_time", "class_in_space"} for steps in maps)
    assert maps[1]["class_in_time"].shape == (2, 4, 1, 1 + 64 * 4)
    for weights in maps[1].values():
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))


def test_options_reach_the_network():
    model = network(
        embed_dim=48,
        depth=3,
        num_heads=2,
        head_dim=12,
        patch_size=16,
        token_shift=True,
        rotary_layout="reference",
        attention_dropout=0.1,
        feed_forward_dropout=0.2,
        dropout=0.3,
        in_channels=5,
    )
    backbone = model.backbone
    assert backbone.blocks[2].time.attn.qkv.weight.shape == (3 * 2 * 12, 48)
    assert backbone.rotary.time.layout == "reference" and backbone.rotary.space.scales.shape == (3,)
    rates = [backbone.blocks[0].space.dropout.p, backbone.blocks[0].mlp.dropout.p, model.head.dropout.p]
    assert rates == [0.1, 0.2, 0.3]
    assert sum(isinstance(module, TokenShift) for module in model.modules()) == 3
    assert model(torch.randn(1, 5, 2, 32, 32).double()).shape == (1, 5)
    assert list_options("timesformer_rotary") == list_options("timesformer_rotary_nano")


def test_layers_are_numbered():
    backbone = network().backbone
    names = ["cls_token", "patch_embed.proj.weight", "blocks.0.time.norm.weight", "blocks.1.mlp.fc1.bias", "norm.bias"]
    assert [backbone.layer_of(name) for name in names] == [0, 0, 1, 2, 3]
    assert backbone.num_layers == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 6}, "head_dim=6 cannot be turned along two axes"),
        ({"rotary_layout": "halves"}, "layout='halves' is unknown"),
        ({"rotary": False, "rotary_layout": "reference"}, "rotary_layout='reference' is of no use with rotary=False"),
        ({"image_size": 60}, "patch_size=8 does not divide image_size=60"),
        ({"depth": 0}, "depth=0 and num_frames=8: give at least 1 of each"),
        ({"num_heads": 0}, "num_heads=0 does not divide"),
        ({"embed_dim": 2, "token_shift": True}, "dim=2 has none"),
        ({"drop_path": 0.1}, "timesformer_rotary_nano has no option 'drop_path'"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model("timesformer_rotary_nano", 5, **options)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 3, 2, 60, 64), "frames of 60 x 64 pixels are no whole number of patches of 8 x 8"),
        (
            {"rotary": False},
            (1, 3, 9, 64, 64),
            r"learnt for 8 frames of 8 x 8 patches and 9 of 8 x 8 came; .*rotary=True",
        ),
        ({"rotary": False}, (1, 3, 8, 32, 64), "learnt for 8 frames of 8 x 8 patches and 8 of 4 x 8 came"),
        ({"rotary": False}, (1, 3, 2, 32, 128), "8 x 8 patches and 2 of 4 x 16 came"),
    ],
)
def test_what_is_no_clip_for_it_is_refused(options, shape, message):
    with pytest.raises(ValueError, match=message):
        network(**options)(torch.randn(shape).double())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 4), r"booleans of shape \(2, 4\); got torch.float32"),
        (torch.ones(2, 5, dtype=torch.bool), r"got torch.bool of shape \(2, 5\)"),
        (torch.tensor([[True] * 4, [False] * 4]), "hides every frame of a clip"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        network()(clip_of(), mask)
