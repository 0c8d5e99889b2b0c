"""TimeSformer: sizes and costs, initial values, positions, frame masks, what it equals at first, what it refuses."""

import json
import re
from pathlib import Path

import pytest
import torch

import kinema

INITIAL = json.loads((Path(__file__).parents[1] / "parity" / "timesformer_initial_values.json").read_text())
SCHEMES = ["space", "joint", "divided", "local_global", "axial"]


def build(seed=0, **options):
    torch.manual_seed(seed)
    return kinema.create_model("timesformer_nano", **{"num_classes": 5, **options}).eval()


def awake(model):
    """Gates open, an embedding of time, and attention that is not uniform."""
    for parameter in model.parameters():
        if parameter.ndim > 1 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize(
    ("name", "scheme", "frames", "side", "classes", "params", "gmacs"),
    [
        ("timesformer_base", "space", 8, 224, 400, 86_106_256, 140.50),
        ("timesformer_base", "joint", 8, 224, 400, 86_112_400, 179.56),
        ("timesformer_base", "divided", 8, 224, 400, 121_566_352, 195.83),
        ("timesformer_base", "divided", 32, 224, 400, 121_566_352 + 24 * 768, 785.9),
        ("timesformer_base", "joint", 16, 224, 400, 86_112_400 + 8 * 768, 449.7),
        ("timesformer_base", "joint", 32, 224, 400, 86_112_400 + 24 * 768, 1261.8),
        ("timesformer_hr", "divided", 16, 448, 400, 122_024_080, 1702.7),
        ("timesformer_large", "divided", 96, 224, 400, 121_633_936, 2379.9),
    ],
)
def test_published_parameters_and_multiply_adds(name, scheme, frames, side, classes, params, gmacs):
    with torch.device("meta"):
        model = kinema.create_model(name, classes, frames, attention_scheme=scheme)
    cost = kinema.profile(model, (1, 3, frames, side, side))
    assert cost.params == params
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.005)


@pytest.mark.parametrize(
    ("scheme", "millions"),
    [("space", 85.9), ("joint", 85.9), ("divided", 121.4), ("local_global", 121.4), ("axial", 156.8)],
)
def test_parameters_of_table_1(scheme, millions):
    with torch.device("meta"):
        model = kinema.create_model("timesformer_base", 174, attention_scheme=scheme)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.051)


@pytest.mark.parametrize(
    ("scheme", "gmacs"),
    [("local_global", 12 * (10 * 1568 * 768**2 + 2 * 768 * (1569 * 197 + 1568 * 392))), ("axial", None)],
)
def test_multiply_adds_counted_from_the_definition(scheme, gmacs):
    """Local: all four layers and the gate on 1568 tokens. Global: queries of 1569, keys and values of 197."""
    with torch.device("meta"):
        model = kinema.create_model("timesformer_base", 400, attention_scheme=scheme)
    macs = kinema.profile(model, (1, 3, 8, 224, 224)).macs
    n, d, cls = 1568, 768, 1
    patch, head = n * d * d, 400 * d
    mlp = 8 * (n + cls) * d * d
    if scheme == "axial":
        time = 5 * n * d * d + 2 * n * 8 * d
        width = 5 * n * d * d + 2 * n * 14 * d
        columns = 8 * 14
        height = 4 * columns * 15 * d * d + 2 * columns * 15 * 15 * d
        wanted = patch + head + 12 * (time + width + height + mlp)
        assert macs == wanted
        return
    # Row by row of equal windows, with the columns beyond the window masked: twice the scores that count.
    local = 5 * n * d * d + 2 * d * (n * 7 * 14 * 8)
    whole = 2 * (n + cls) * d * d + 2 * 197 * d * d + 2 * (n + cls) * 197 * d
    assert macs == patch + head + 12 * (local + whole + mlp)


def test_initial_values_are_those_of_the_authors():
    torch.manual_seed(0)
    state = kinema.create_model("timesformer_base").state_dict()
    names = {
        **{f"model.{name}": f"backbone.{name}" for name in ("cls_token", "pos_embed", "time_embed")},
        "model.head.weight": "head.fc.weight",
        "model.head.bias": "head.fc.bias",
    }
    for theirs, (mean, std) in INITIAL["stats"].items():
        ours = names.get(theirs) or re.sub(r"^model\.", "backbone.", theirs)
        ours = ours.replace("temporal_norm1", "gated.time.norm").replace("temporal_attn", "gated.time.attn")
        value = state[ours.replace("temporal_fc", "gated.time.fc")].double()
        margin = 5 * std / value.numel() ** 0.5 + 1e-9
        assert value.mean().item() == pytest.approx(mean, abs=2 * margin), theirs
        assert value.std(correction=0).item() == pytest.approx(std, rel=0.06, abs=margin), theirs


@pytest.mark.parametrize("scheme", ["divided", "local_global", "axial"])
def test_a_gated_scheme_is_its_last_step_at_first(scheme):
    model, other = (build(attention_scheme=scheme) for _ in range(2))
    clip = torch.randn(2, 3, 4, 64, 64)
    wanted = model(clip)
    for block in other.backbone.blocks:
        for step in block.gated.values():
            for parameter in (*step.norm.parameters(), *step.attn.parameters()):
                torch.nn.init.normal_(parameter)
    torch.testing.assert_close(other(clip), wanted)


@pytest.mark.parametrize("scheme", ["space", "divided"])
def test_frame_order_is_unknown_at_first(scheme):
    """No embedding of time yet, and gates closed: what is left averages class tokens."""
    model = build(attention_scheme=scheme, weight_init="authors")
    clip = torch.randn(2, 3, 4, 64, 64)
    torch.testing.assert_close(model(clip[:, :, [2, 0, 3, 1]]), model(clip), atol=1e-5, rtol=1e-4)


def test_stochastic_depth_rises_from_nothing_to_the_rate_asked_for():
    """Linspace(0, rate, depth) over blocks, as in the authors' code; every step of a block has the rate of the block."""
    blocks = build(drop_path=0.3, depth=4).backbone.blocks
    assert [block.drop_path for block in blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert [block.drop_path for block in build(drop_path=0.3, depth=1).backbone.blocks] == [0.0]


def test_values_to_learn_from_without_an_image_transformer():
    """Branches that say as much as their input, and frames told apart, the more the farther they are."""
    backbone = build(weight_init="scratch", embed_dim=128, num_frames=8).backbone
    for block in backbone.blocks:
        assert block.mlp.fc2.weight.std().item() == pytest.approx(512**-0.5, rel=0.1)
        assert block.attn.qkv.weight.std().item() == pytest.approx(128**-0.5, rel=0.1)
        assert not any(step.fc.weight.any() for step in block.gated.values())
    frames = backbone.time_embed[0]
    near, far = (frames[1:] - frames[:-1]).norm(dim=1), (frames[4:] - frames[:-4]).norm(dim=1)
    assert near.min() > 1 and far.min() > near.max()
    assert build(weight_init="scratch", attention_scheme="space").backbone.time_embed is None


def test_position_none_and_space_know_no_frame_order():
    clip = torch.randn(2, 3, 4, 64, 64)
    for position in ("none", "space"):
        model = awake(build(attention_scheme="joint", position=position))
        torch.testing.assert_close(model(clip.flip(2)), model(clip), atol=1e-4, rtol=1e-4)
    model = awake(build(attention_scheme="joint"))
    assert not torch.allclose(model(clip.flip(2)), model(clip), atol=1e-3)
    names = {name for name, _ in build(position="none").named_parameters()}
    assert not {"backbone.pos_embed", "backbone.time_embed"} & names


def test_positions_are_resized_in_two_axes_and_in_time():
    model = awake(build(image_size=32, num_frames=4)).backbone
    grid, time = model._in_space(2, 8), model._in_time(7)
    assert grid.shape == (1, 2, 8, 64) and time.shape == (1, 7, 64)
    torch.testing.assert_close(model._in_space(4, 4).flatten(1, 2), model.pos_embed[:, 1:])
    with torch.no_grad():  # rows told apart by their number, whatever the columns
        model.pos_embed[:, 1:] = torch.arange(4.0).repeat_interleave(4)[None, :, None]
        model.time_embed[:] = torch.arange(4.0)[None, :, None]
    rows = model._in_space(8, 3)[0, :, :, 0]
    torch.testing.assert_close(rows, rows[:, :1].expand(-1, 3))
    assert (rows[:, 0].diff() > 0).all()
    torch.testing.assert_close(model._in_time(2)[0, :, 0], torch.tensor([0.5, 2.5]))
    model.position_resize = "nearest"
    assert model._in_time(8)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert model._in_space(8, 8)[0, :, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("resize", ["smooth", "nearest"])
def test_positions_are_resized_in_16_bits_too(dtype, resize):
    model = awake(build(image_size=32, num_frames=4, position_resize=resize)).backbone
    wanted = model.to(dtype).float()._in_space(2, 8)
    model.to(dtype)
    grid = model._in_space(2, 8)
    assert grid.dtype == model._in_time(7).dtype == dtype
    torch.testing.assert_close(grid, wanted.to(dtype))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_padding_frames_change_nothing(scheme):
    model = awake(build(attention_scheme=scheme))
    clip = torch.randn(2, 3, 4, 64, 64)
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    other = clip.clone()
    other[0, :, 3] = 9
    torch.testing.assert_close(model(clip, mask), model(other, mask))
    assert not torch.allclose(model(clip)[0], model(other)[0])
    torch.testing.assert_close(model(clip, torch.ones(2, 4, dtype=torch.bool)), model(clip))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_attention_maps_and_checkpointing_change_nothing(scheme):
    model = awake(build(attention_scheme=scheme, drop_path=0.0)).double()
    clip = torch.randn(1, 3, 4, 64, 64, dtype=torch.float64)
    maps = model.attention_maps(clip)
    assert len(maps) == 4 and all(torch.allclose(m.sum(-1), torch.ones(1).double()) for b in maps for m in b.values())
    gradients = []
    for checkpointing in (False, True):
        model.backbone.checkpointing = checkpointing
        model.zero_grad()
        model.train()(clip).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_scheme": "sparse"}, "give one of space, joint, divided, local_global, axial"),
        ({"position": "time"}, "give one of none, space, space_time"),
        ({"position_resize": "cubic"}, "give one of smooth, nearest, none"),
        ({"patch_size": 7}, "patch_size=7 does not divide image_size=64"),
        ({"drop_path": 1.0}, "drop_path=1.0 is no rate"),
        ({"depth": 0}, "give at least 1 of each"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_refused_clips():
    model = build(position_resize="none", num_frames=4)
    assert model(torch.randn(1, 3, 4, 64, 64)).shape == (1, 5)
    with pytest.raises(ValueError, match="learnt for 4 frames and clips of 5 frames came"):
        model(torch.randn(1, 3, 5, 64, 64))
    with pytest.raises(ValueError, match="learnt for 8 x 8 patches and frames of 8 x 6 patches came"):
        model(torch.randn(1, 3, 4, 64, 48))
    with pytest.raises(ValueError, match="64 x 60 pixels are no whole number of patches"):
        model(torch.randn(1, 3, 4, 64, 60))
    for mask in (torch.ones(1, 4), torch.ones(1, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="frame_mask must say for each frame"):
            model(torch.randn(1, 3, 4, 64, 64), mask)
    with pytest.raises(ValueError, match="hides every frame of a clip"):
        model(torch.randn(1, 3, 4, 64, 64), torch.zeros(1, 4, dtype=torch.bool))
