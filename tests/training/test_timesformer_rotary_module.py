"""The schema of TimeSformerRotary: what reaches the network, and which optimiser stands in."""

import pytest

from kinema.training import Optimizer, TimeSformerRotary


def test_size_chooses_the_network():
    assert TimeSformerRotary("nano", 5).model_name == "timesformer_rotary_nano"
    assert TimeSformerRotary().model_name == "timesformer_rotary"
    assert TimeSformerRotary("nano", 5).optimizer == Optimizer("adamw", lr=1e-4)
    assert TimeSformerRotary("nano", 5, optimizer=Optimizer("sgd", lr=0.1)).optimizer.lr == 0.1


def test_options_reach_the_network():
    module = TimeSformerRotary(
        "nano",
        5,
        num_frames=4,
        embed_dim=32,
        depth=1,
        num_heads=2,
        head_dim=8,
        patch_size=16,
        image_size=32,
        rotary=False,
        token_shift=True,
        attention_dropout=0.1,
        feed_forward_dropout=0.2,
        dropout=0.3,
    )
    backbone = module.network.backbone
    assert backbone.rotary is None and backbone.pos_emb.weight.shape == (1 + 4 * 4, 32)
    (block,) = backbone.blocks
    assert block.shift is not None and block.time.attn.qkv.weight.shape == (48, 32)
    assert [block.time.dropout.p, block.mlp.dropout.p, module.network.head.dropout.p] == [0.1, 0.2, 0.3]
    assert TimeSformerRotary("nano", 5, rotary_layout="reference").network.backbone.rotary.time.layout == "reference"


def test_layers_may_learn_at_rates_of_their_own():
    from kinema.training.optim import parameter_groups

    network = TimeSformerRotary("nano", 5).network
    groups = parameter_groups(network, network.head, Optimizer("adamw", lr=1.0, layer_decay=0.5))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates["layer5_head_weight"] == 1.0 and rates["layer4_weight"] == 0.5
    assert min(rates.values()) == pytest.approx(0.5**5)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
