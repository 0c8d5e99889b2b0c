"""The schemas of TAdaConvNeXt and TAdaFormer: what reaches the network, and which optimiser stands in."""

import pytest

from kinema.backbones.drop_path import ClipDropPath
from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.routing import AttentionRouting, ConvRouting
from kinema.operators.tada_block import TAdaBlock
from kinema.training import Optimizer, TAdaConvNeXt, TAdaFormer


def of_kind(module, kind):
    return [part for part in module.network.modules() if isinstance(part, kind)]


def test_version_chooses_network_and_optimiser():
    second = TAdaConvNeXt("nano", 5)
    assert second.model_name == "tadaconvnextv2_nano" and second.optimizer == Optimizer.tadaconvnextv2()
    assert of_kind(second, AttentionRouting) and of_kind(second, TemporalAggregation)
    first = TAdaConvNeXt("nano", 5, version=1)
    assert first.model_name == "tadaconvnext_nano" and first.optimizer == Optimizer.tadaconvnext()
    assert of_kind(first, ConvRouting) and not of_kind(first, TemporalAggregation)
    assert TAdaConvNeXt("nano", 5, optimizer=Optimizer("adamw", lr=0.1)).optimizer.lr == 0.1
    with pytest.raises(ValueError, match="version=3 of TAdaConvNeXt does not exist; give 1 or 2"):
        TAdaConvNeXt("nano", 5, version=3)


def test_options_reach_the_convnext():
    module = TAdaConvNeXt(
        "nano", 5, version=1, depths=[1, 1, 1, 1], width=16, drop_path=0.3, aggregation="max", calibrated_stages=[4]
    )
    assert module.network.backbone.num_features == 128
    assert [drop.rate for drop in of_kind(module, ClipDropPath)] == pytest.approx([0.1, 0.2, 0.3])
    (aggregation,) = of_kind(module, TemporalAggregation)
    assert aggregation.pooling == "max"


def test_options_reach_the_transformer():
    module = TAdaFormer("nano", 5, enhanced=True, double=True, depth=2, embed_dim=32, num_heads=2, image_size=32)
    assert module.optimizer == Optimizer.tadaformer()
    blocks = of_kind(module, TAdaBlock)
    assert len(blocks) == 4 and all(block.enhanced and block.channels == 32 for block in blocks)
    assert module.network.backbone.trunk.pos_embed.shape == (1, 17, 32)
