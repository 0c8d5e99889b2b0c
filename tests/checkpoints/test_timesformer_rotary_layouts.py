"""Checkpoints of lucidrains/TimeSformer-pytorch: names, the order of pixels, and what a file is said to be."""

import pytest
import torch
from einops import rearrange

import kinema

SIZE = {"embed_dim": 12, "depth": 2, "num_heads": 2, "head_dim": 8, "patch_size": 4, "image_size": 8, "num_frames": 3}
THEIRS = {"rotary_layout": "reference"}


def network(seed=1, classes=5, **options):
    torch.manual_seed(seed)
    model = kinema.create_model("timesformer_rotary", classes, **{**SIZE, **options})
    for tensor in model.state_dict().values():
        torch.nn.init.normal_(tensor)
    return model


def theirs(model):
    """The state dict under their names, written out one by one, pixels of a patch with the channel innermost."""
    state = {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}
    deep = "fn.fn" if model.backbone.blocks[0].shift is not None else "fn"
    named = {
        "cls_token": state["cls_token"][0],
        "to_patch_embedding.weight": rearrange(state["patch_embed.proj.weight"], "d c h w -> d (h w c)"),
        "to_patch_embedding.bias": state["patch_embed.proj.bias"],
        "to_out.0.weight": state["norm.weight"],
        "to_out.0.bias": state["norm.bias"],
        "to_out.1.weight": state["head.fc.weight"],
        "to_out.1.bias": state["head.fc.bias"],
    }
    if model.backbone.rotary is None:
        named["pos_emb.weight"] = state["pos_emb.weight"]
    else:
        named["frame_rot_emb.inv_freqs"] = state["rotary.time.inv_freqs"]
        named["image_rot_emb.scales"] = state["rotary.space.scales"]
    for block in range(len(model.backbone.blocks)):
        here, there = f"blocks.{block}", f"layers.{block}"
        for number, part in ((0, "time"), (1, "space")):
            named[f"{there}.{number}.{deep}.to_qkv.weight"] = state[f"{here}.{part}.attn.qkv.weight"]
            for leaf in ("weight", "bias"):
                named[f"{there}.{number}.norm.{leaf}"] = state[f"{here}.{part}.norm.{leaf}"]
                named[f"{there}.{number}.{deep}.to_out.0.{leaf}"] = state[f"{here}.{part}.attn.proj.{leaf}"]
        for leaf in ("weight", "bias"):
            named[f"{there}.2.norm.{leaf}"] = state[f"{here}.norm.{leaf}"]
            named[f"{there}.2.{deep}.net.0.{leaf}"] = state[f"{here}.mlp.fc1.{leaf}"]
            named[f"{there}.2.{deep}.net.3.{leaf}"] = state[f"{here}.mlp.fc2.{leaf}"]
    return named


VARIANTS = [THEIRS, {**THEIRS, "token_shift": True}, {"rotary": False}, {"rotary": False, "token_shift": True}]


@pytest.mark.parametrize("options", VARIANTS)
def test_their_names_are_read(options):
    source, target = network(1, **options), network(2, **options)
    checkpoint = theirs(source)
    assert len(checkpoint) == len(source.state_dict())
    report = kinema.load_checkpoint(target, {"module." + name: value for name, value in checkpoint.items()})
    assert not report.initial and not report.refused and not report.inflated
    assert report.renamed["backbone.patch_embed.proj.weight"] == "to_patch_embedding.weight"
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
    clip = torch.randn(1, 3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(source.eval()(clip), target.eval()(clip))
    shifted = "2 token shifts" in report.source
    assert shifted == options.get("token_shift", False)
    assert (
        "lucidrains/TimeSformer-pytorch: ungated TimeSformer of 2 blocks, 12 channels wide, patches of 4"
        in report.source
    )
    assert not any("how many channels were shifted" in note for note in report.notes)


def test_other_channels_than_red_green_and_blue():
    source, target = network(1, **THEIRS, in_channels=5), network(2, **THEIRS, in_channels=5)
    kinema.load_checkpoint(target, theirs(source))
    assert torch.equal(target.backbone.patch_embed["proj"].weight, source.backbone.patch_embed["proj"].weight)
    report = kinema.init_from(network(2, **THEIRS, in_channels=5), theirs(network(1, **THEIRS)))
    assert report.inflated == {
        "backbone.patch_embed.proj.weight": "mean of to_patch_embedding.weight over 3 channels, repeated 5 times"
    }


@pytest.mark.parametrize("options", [{}, {"token_shift": True}, {"rotary": False}])
def test_kinema_s_own_weights_load(options):
    source, target = network(1, **options), network(2, **options)
    report = kinema.load_checkpoint(target, source.state_dict())
    assert len(report.loaded) == len(source.state_dict()) and not report.renamed
    other = network(2, 7, **options)
    report = kinema.init_from(other, source.state_dict())
    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight"]
    with pytest.raises(ValueError, match=r"5 classes; the model is .* 7 classes. Build it with num_classes=5"):
        kinema.load_checkpoint(other, source.state_dict())


@pytest.mark.parametrize(
    ("checkpoint", "model", "message"),
    [
        (THEIRS, {}, r"rotation in time with rotary_layout='reference' in \['rotary.time'\] of the checkpoint alone"),
        (THEIRS, {**THEIRS, "token_shift": True}, r"token shift in \['blocks.0', 'blocks.1'\] of the model alone"),
        ({**THEIRS, "token_shift": True}, THEIRS, r"token shift in \['blocks.0', 'blocks.1'\] of the checkpoint alone"),
        ({"rotary": False}, THEIRS, r"embedding of 13 positions in \['pos_emb'\] of the checkpoint alone"),
        (THEIRS, {"rotary": False}, "embedding of 13 positions in .* of the model alone"),
        (THEIRS, {**THEIRS, "depth": 3}, "2 blocks, 12 channels wide.* the model is ungated TimeSformer of 3 blocks"),
        (THEIRS, {**THEIRS, "patch_size": 8}, "patches of 4 with .*; the model is .* patches of 8"),
        (THEIRS, {**THEIRS, "num_heads": 3}, "the tensors do not match.*time.attn.proj.weight"),
    ],
)
def test_another_network_is_refused_in_words(checkpoint, model, message):
    with pytest.raises(ValueError, match=message):
        kinema.load_checkpoint(network(2, **model), theirs(network(1, **checkpoint)))


def test_weights_of_the_authors_of_timesformer_are_another_network_s():
    source = kinema.create_model("timesformer_nano", 5, embed_dim=12, depth=2, num_heads=2, patch_size=4, image_size=8)
    with pytest.raises(
        ValueError, match=r"holds transformer of 2 blocks.*; the model is ungated TimeSformer of 2 blocks"
    ):
        kinema.load_checkpoint(network(), source)
    with pytest.raises(ValueError, match=r"holds ungated TimeSformer of 2 blocks.*; the model is transformer of 2"):
        kinema.load_checkpoint(source, theirs(network()))
