"""TimeSformer's checkpoints of every origin, image transformers as a start, and what is told of a wrong one."""

import pytest
import torch

import kinema

SCHEMES = ["space", "joint", "divided", "local_global", "axial"]


def network(seed=0, **options):
    torch.manual_seed(seed)
    model = kinema.create_model("timesformer_nano", **{"num_classes": 5, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def authors(model, prefix=""):
    """The state dict as the authors' code holds it."""
    state = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("backbone.").replace("head.fc.", "head.")
        name = name.replace("gated.time.norm.", "temporal_norm1.").replace("gated.time.attn.", "temporal_attn.")
        state[prefix + name.replace("gated.time.fc.", "temporal_fc.")] = value
    return state


def hugging_face(model):
    pairs = {
        "cls_token": "timesformer.embeddings.cls_token",
        "pos_embed": "timesformer.embeddings.position_embeddings",
        "time_embed": "timesformer.embeddings.time_embeddings",
        "patch_embed.proj": "timesformer.embeddings.patch_embeddings.projection",
        "temporal_attn.qkv": "temporal_attention.attention.qkv",
        "temporal_attn.proj": "temporal_attention.output.dense",
        "temporal_norm1": "temporal_layernorm",
        "temporal_fc": "temporal_dense",
        ".attn.qkv": ".attention.attention.qkv",
        ".attn.proj": ".attention.output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    state = {}
    for name, value in authors(model).items():
        if name.startswith(("norm.", "head.")):
            name = name.replace("norm.", "timesformer.layernorm.").replace("head.", "classifier.")
        for ours, theirs in pairs.items():
            name = name.replace(ours, theirs)
        state[name.replace("blocks.", "timesformer.encoder.layer.")] = value
    return state


def mmaction2(model):
    """Divided attention holds both norms in its attentions; the others have the norms of a layer beside them."""
    divided = hasattr(model.backbone.blocks[0], "gated") and len(model.backbone.blocks[0].gated)
    pairs = {
        "patch_embed.proj": "patch_embed.projection",
        "temporal_attn.qkv.": "attentions.0.attn.in_proj_",
        "temporal_attn.proj": "attentions.0.attn.out_proj",
        "temporal_norm1": "attentions.0.norm",
        "temporal_fc": "attentions.0.temporal_fc",
        ".attn.qkv.": f".attentions.{int(bool(divided))}.attn.in_proj_",
        ".attn.proj": f".attentions.{int(bool(divided))}.attn.out_proj",
        ".norm1": ".attentions.1.norm" if divided else ".norms.0",
        ".norm2": ".ffns.0.norm" if divided else ".norms.1",
        "mlp.fc1": "ffns.0.layers.0.0",
        "mlp.fc2": "ffns.0.layers.1",
    }
    state = {}
    for name, value in authors(model).items():
        if name.startswith("head."):
            state[name.replace("head.", "cls_head.fc_cls.")] = value
            continue
        for ours, theirs in pairs.items():
            name = name.replace(ours, theirs)
        state["backbone." + name.replace("blocks.", "transformer_layers.layers.")] = value
    return state


def assert_same(model, other):
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("scheme", ["space", "joint", "divided"])
@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (authors, "authors' code"),
        (lambda model: {"model_state": authors(model, "model."), "epoch": 15, "cfg": "text"}, "authors' code"),
        (lambda model: {"state_dict": authors(model, "module.model.")}, "authors' code"),
        (hugging_face, "Hugging Face"),
        (mmaction2, "mmaction2"),
    ],
    ids=["authors", "model_state", "module", "hugging_face", "mmaction2"],
)
def test_layouts_of_others(origin, told, scheme):
    model, empty = network(1, attention_scheme=scheme), network(2, attention_scheme=scheme)
    report = kinema.load_checkpoint(empty, origin(model))
    assert_same(model, empty)
    if scheme != "space":  # whose tensors are those of an image transformer
        assert told in report.source
        assert any("non-commercial" in note for note in report.notes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_own_layout(scheme, tmp_path):
    model, empty = network(1, attention_scheme=scheme), network(2, attention_scheme=scheme)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    report = kinema.load_checkpoint(empty, tmp_path / "weights.pt")
    assert_same(model, empty)
    assert not any("non-commercial" in note for note in report.notes)


def test_weights_of_something_something_are_told_to_be_bgr():
    model = network(1, num_classes=174)
    report = kinema.load_checkpoint(network(2, num_classes=174), authors(model))
    assert any("BGR" in note for note in report.notes)
    report = kinema.load_checkpoint(network(2), authors(network(1)))
    assert not any("BGR" in note for note in report.notes)


@pytest.mark.parametrize("theirs", SCHEMES)
@pytest.mark.parametrize("ours", SCHEMES)
def test_another_scheme_is_refused_by_name(theirs, ours):
    if theirs == ours:
        return
    with pytest.raises(ValueError) as error:
        kinema.load_checkpoint(network(attention_scheme=ours), network(attention_scheme=theirs).state_dict())
    for scheme in {theirs, ours} - {"space"}:
        assert f"of {scheme} attention" in str(error.value)


def image_transformer(classes=1000, side=8, seed=3):
    model = network(seed, attention_scheme="space", num_classes=classes, image_size=8 * side)
    return authors(model)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_start_from_an_image_transformer(scheme):
    image = image_transformer()
    model = kinema.create_model("timesformer_nano", 5, attention_scheme=scheme)
    report = kinema.init_from(model, image)
    assert torch.equal(model.backbone.blocks[2].attn.qkv.weight, image["blocks.2.attn.qkv.weight"])
    for name, step in model.backbone.blocks[1].gated.items():
        assert torch.equal(step.attn.qkv.weight, image["blocks.1.attn.qkv.weight"]), name
        assert torch.equal(step.attn.proj.bias, image["blocks.1.attn.proj.bias"]), name
        assert torch.equal(step.norm.weight, image["blocks.1.norm1.weight"]), name
        assert not step.fc.weight.any()
        assert (
            report.inflated[f"backbone.blocks.1.gated.{name}.attn.qkv.weight"]
            == "what the checkpoint has for the last step of the block, once more"
        )
    left = {"head.fc.weight", "head.fc.bias"} | {
        f"backbone.blocks.{i}.gated.{name}.fc.{leaf}"
        for i in range(4)
        for name in model.backbone.blocks[0].gated
        for leaf in ("weight", "bias")
    }
    assert set(report.initial) == left | ({"backbone.time_embed"} if scheme != "space" else set())
    with pytest.raises(ValueError, match="1000 classes"):
        kinema.load_checkpoint(model, image)


def test_start_from_other_sizes():
    image = image_transformer(side=4)
    model = kinema.create_model("timesformer_nano", 5)
    report = kinema.init_from(model, image)
    assert "from 4 x 4 to 8 x 8 patches" in report.inflated["backbone.pos_embed"]
    short = network(1, num_frames=4)
    report = kinema.init_from(model, authors(short))
    assert "from 4 to 8 frames" in report.inflated["backbone.time_embed"]
    with pytest.raises(ValueError, match="4 frames"):
        kinema.load_checkpoint(model, authors(short))


def test_a_clip_transformer_is_not_taken_for_one_of_images():
    with pytest.raises(ValueError, match="CLIP's transformer"):
        kinema.init_from(network(), kinema.create_model("tadaformer_nano", 5).state_dict())
