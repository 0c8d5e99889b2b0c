"""The schema of TimeSformer: what reaches the network, and the authors' optimiser."""

import pytest

from kinema.training import Optimizer, TimeSformer
from kinema.training.optim import parameter_groups


def test_options_reach_the_network():
    module = TimeSformer(
        "nano",
        5,
        num_frames=4,
        attention_scheme="axial",
        attention_order="reversed",
        class_everywhere=True,
        position="space",
        position_resize="nearest",
        depth=3,
        embed_dim=32,
        num_heads=2,
        mlp_ratio=2.0,
        image_size=32,
        drop_path=0.2,
        qk_scale=0.5,
        checkpointing=True,
    )
    backbone = module.network.backbone
    assert module.model_name == "timesformer_nano" and module.network.num_frames == 4
    assert backbone.time_embed is None and backbone.pos_embed.shape == (1, 17, 32)
    assert (backbone.position_resize, backbone.checkpointing) == ("nearest", True)
    blocks = list(backbone.blocks)
    assert [block.drop_path for block in blocks] == pytest.approx([0, 0.1, 0.2])
    for block in blocks:
        assert list(block.gated) == ["time", "width"] and block.main == "height"
        assert (block.order, block.class_everywhere) == ("reversed", True)
        assert block.attn.scale == 0.5 and block.mlp.fc1.out_features == 64
    assert (
        TimeSformer("hr", attention_scheme="local_global", local_border="truncate").options["local_border"]
        == "truncate"
    )


def test_everything_decays_as_in_the_authors_code():
    module = TimeSformer("nano", 5)
    assert module.optimizer == Optimizer.timesformer()
    groups = parameter_groups(module.network, module.network.head, module.optimizer)
    assert {group["weight_decay"] for group in groups} == {1e-4} and {group["lr"] for group in groups} == {0.005}
    with_layers = parameter_groups(
        module.network, module.network.head, Optimizer("adamw", lr=1.0, layer_decay=0.5, weight_decay=0.1)
    )
    found = {group["name"]: group for group in with_layers}
    assert found["layer0_weight_of_one_axis"]["weight_decay"] == 0  # class token
    assert found["layer4_weight"]["lr"] == 0.5 and found["layer4_weight"]["weight_decay"] == 0.1
