"""Starting TAdaConvNeXt and TAdaFormer from the image networks they grow out of."""

import re

import pytest
import torch
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import kinema
from kinema.checkpoints.tadaconv import counterparts


def image_convnext(activation):
    """A ConvNeXt of timm whose residual branches are heard."""
    torch.manual_seed(1)
    image = ConvNeXt(
        depths=(1, 1, 2, 1), dims=(24, 48, 96, 192), act_layer=activation, num_classes=10, ls_init_value=0.5
    )
    return image.double().eval()


def authors_of_convnext(name):
    """timm's name in the layout of the ConvNeXt authors."""
    name = re.sub(r"^stem\.", "downsample_layers.0.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", name)
    name = name.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc", ".pwconv")
    return name.replace("head.norm.", "norm.").replace("head.fc.", "head.")


def image_clip():
    torch.manual_seed(1)
    image = VisionTransformer(
        img_size=64,
        patch_size=8,
        embed_dim=64,
        depth=4,
        num_heads=4,
        pre_norm=True,
        norm_layer=nn.LayerNorm,
        act_layer="quick_gelu",
        num_classes=32,
        dynamic_img_size=True,
    )
    for name, parameter in image.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter)
    return image.double().eval()


def openai(state):
    """timm's weights as OpenAI names and shapes them, texts and all."""
    renamed = {}
    for name, value in state.items():
        if name in ("head.weight", "head.bias"):
            continue
        name = name.replace("patch_embed.proj", "conv1").replace("norm_pre", "ln_pre")
        name = re.sub(r"^norm\.", "ln_post.", name)
        name = re.sub(r"\.norm(\d)\.", r".ln_\1.", name).replace("blocks.", "transformer.resblocks.")
        name = name.replace("attn.qkv.", "attn.in_proj_").replace("attn.proj.", "attn.out_proj.")
        name = name.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
        name = {"cls_token": "class_embedding", "pos_embed": "positional_embedding"}.get(name, name)
        renamed[f"visual.{name}"] = value.squeeze() if "embedding" in name else value
    texts = {
        "positional_embedding": torch.zeros(77, 32),
        "token_embedding.weight": torch.zeros(4, 32),
        "transformer.resblocks.0.ln_1.weight": torch.zeros(32),
        "text_projection": torch.zeros(32, 32),
        "logit_scale": torch.zeros(()),
    }
    return renamed | texts | {"visual.proj": torch.zeros(64, 32)}


@pytest.mark.parametrize("layout", ["timm", "authors"])
@pytest.mark.parametrize(("name", "activation"), [("tadaconvnext_nano", "gelu"), ("tadaconvnextv2_nano", "quick_gelu")])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_a_tadaconvnext_is_at_first_its_image_network_on_every_second_frame(name, activation, layout, num_frames):
    image = image_convnext(activation)
    source = image.state_dict()
    if layout == "authors":
        source = {"model": {authors_of_convnext(key): value for key, value in source.items()}}
    model = kinema.create_model(name, 5).double().eval()
    report = kinema.init_from(model, source)
    assert set(report.refused) in ({"head.fc.weight", "head.fc.bias"}, {"head.weight", "head.bias"})
    assert all("head.fc" in key or "router" in key or "norm_pool" in key for key in report.initial)

    clip = torch.randn(2, 3, num_frames, 72, 50, dtype=torch.float64)
    with torch.no_grad():
        maps = torch.stack([image.forward_features(frame) for frame in clip[:, :, ::2].unbind(2)], dim=2)
        wanted = image.head.norm(maps.mean(dim=(2, 3, 4))[..., None, None]).flatten(1)
        torch.testing.assert_close(model.forward_features(clip), wanted)


@pytest.mark.parametrize("layout", ["timm", "openai"])
@pytest.mark.parametrize("options", [{}, {"enhanced": True, "double": True}])
@pytest.mark.parametrize(("num_frames", "size"), [(1, (64, 64)), (2, (64, 64)), (5, (40, 96))])
def test_a_tadaformer_is_at_first_clip_on_every_second_frame(options, layout, num_frames, size):
    image = image_clip()
    source = image.state_dict() if layout == "timm" else openai(image.state_dict())
    model = kinema.create_model("tadaformer_nano", 5, **options).double().eval()
    report = kinema.init_from(model, source)
    assert all("head.fc" in key or "before" in key or "between" in key for key in report.initial)

    clip = torch.randn(2, 3, num_frames, *size, dtype=torch.float64)
    with torch.no_grad():
        tokens = [image._pos_embed(image.patch_embed(frame)) for frame in clip[:, :, ::2].unbind(2)]
        class_tokens = [image.blocks(image.norm_pre(frame))[:, 0] for frame in tokens]
        wanted = image.norm(torch.stack(class_tokens).mean(dim=0))
        torch.testing.assert_close(model.forward_features(clip), wanted)


@pytest.mark.parametrize("name", ["tadaconvnext_nano", "tadaconvnextv2_nano"])
def test_convnext_s_tensors_go_where_the_authors_put_them(name):
    """They only put "backbone." in front, and keep what they have no value for at its initial value."""
    model = kinema.create_model(name, 5)
    source = {authors_of_convnext(key): value for key, value in image_convnext("gelu").state_dict().items()}
    report = kinema.init_from(model, source)
    theirs = {ours: counterpart.name for ours, counterpart in counterparts(model).items()}
    stem = "backbone.trunk.stem.0.operator.weight"
    assert {theirs[ours]: source_name for ours, source_name in report.renamed.items()} == {
        f"backbone.{key}": key for key in source if not key.startswith(("head.", "downsample_layers.0.0.weight"))
    }
    assert list(report.inflated) == [stem]
    kernel = model.state_dict()[stem]
    assert not kernel[:, :, [0, 2]].any()
    assert torch.equal(kernel[:, :, 1], source["downsample_layers.0.0.weight"].float())
    assert all(re.search(r"dwconv_rf|norm_avgpool|^head\.", theirs[ours]) for ours in report.initial)


def test_clip_s_tensors_go_where_the_authors_put_them():
    model = kinema.create_model("tadaformer_nano", 5)
    source = openai(image_clip().state_dict())
    report = kinema.init_from(model, source)
    theirs = {ours: counterpart.name for ours, counterpart in counterparts(model).items()}
    expected = {
        key.replace("visual.transformer.resblocks.", "backbone.layers.").replace("visual.", "backbone."): key
        for key in source
        if key.startswith("visual.") and key not in ("visual.proj", "visual.conv1.weight")
    }
    assert {theirs[ours]: source_name for ours, source_name in report.renamed.items()} == expected
    assert report.inflated == {
        "backbone.trunk.patch_embed.proj.operator.weight": (
            "visual.conv1.weight, on the middle one of 3 frames, zeros on the others"
        )
    }
    assert set(report.refused) == {key for key in source if not key.startswith("visual.")} | {"visual.proj"}
    assert all(re.search(r"\.tada\.|^head\.", theirs[ours]) for ours in report.initial)


@pytest.mark.parametrize("in_channels", [1, 2])
def test_other_channels_repeat_the_mean_on_the_middle_frame(in_channels):
    """Of one channel, the kernels of an image's three are no three frames, though the numbers would fit."""
    model = kinema.create_model("tadaconvnext_nano", 5, in_channels=in_channels)
    source = image_convnext("gelu").state_dict()
    report = kinema.init_from(model, source)
    assert "backbone.trunk.stem.0.operator.weight" in report.inflated
    kernel = model.state_dict()["backbone.trunk.stem.0.operator.weight"]
    assert not kernel[:, :, ::2].any()
    for channel in range(in_channels):
        torch.testing.assert_close(kernel[:, channel, 1], source["stem.0.weight"].mean(dim=1).float())


def test_a_clip_of_one_channel_starts_from_the_mean_over_three():
    model = kinema.create_model("tadaformer_nano", 5, in_channels=1)
    source = image_clip().state_dict()
    kinema.init_from(model, source)
    kernel = model.state_dict()["backbone.trunk.patch_embed.proj.operator.weight"]
    torch.testing.assert_close(kernel[:, 0, 1], source["patch_embed.proj.weight"].mean(dim=1).float())
    assert not kernel[:, :, ::2].any()


def test_positions_are_resized_for_other_frames():
    model = kinema.create_model("tadaformer_nano", 5, image_size=32)
    source = image_clip().state_dict()
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    source["pos_embed"][0, 1:, 0], source["pos_embed"][0, 1:, 1] = y.flatten(), x.flatten()
    report = kinema.init_from(model, source)
    assert report.inflated["backbone.trunk.pos_embed"] == "pos_embed resized from 8 x 8 to 4 x 4 patches"
    positions = model.state_dict()["backbone.trunk.pos_embed"]
    assert torch.equal(positions[0, 0], source["pos_embed"][0, 0].float())
    rows, columns = (positions[0, 1:, channel].reshape(4, 4) for channel in (0, 1))
    torch.testing.assert_close(rows, columns.T)
    assert rows.diff(dim=0).min() > 1.5 and rows.diff(dim=1).abs().max() < 1e-5


def test_another_size_is_refused():
    source = image_convnext("gelu").state_dict()
    with pytest.raises(
        ValueError,
        match=r"holds ConvNeXt of \(1, 1, 2, 1\) blocks, 24 channels wide with 10 classes; the model is ConvNeXt of "
        r"\(1, 1, 1, 1\) blocks",
    ):
        kinema.init_from(kinema.create_model("tadaconvnextv2_nano", 5, depths=(1, 1, 1, 1)), source)
    with pytest.raises(ValueError, match=r"holds CLIP's transformer of 4 blocks.*; the model is ConvNeXt-T with"):
        with torch.device("meta"):
            model = kinema.create_model("tadaconvnextv2_tiny")
        kinema.init_from(model, image_clip().state_dict())


def test_openai_s_own_file_is_no_state_dict_and_says_what_to_do(tmp_path):
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "clip.pt")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"is a TorchScript archive.*torch\.jit\.load"):
        kinema.init_from(kinema.create_model("tadaformer_nano", 5), tmp_path / "clip.pt")
