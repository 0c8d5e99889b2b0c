"""The schema of UniFormer: what reaches the network, which optimiser stands in, and the loss of two classifiers."""

import pytest
import torch
from torch.nn import functional as F

import kinema
from kinema.operators.relation import DividedRelation, LocalRelation
from kinema.operators.token_pruning import PrunedRelation
from kinema.training import Optimizer, UniFormer
from kinema.training.optim import parameter_groups


def of_kind(module, kind):
    return [part for part in module.network.modules() if isinstance(part, kind)]


def test_options_reach_the_network():
    module = UniFormer(
        "nano",
        5,
        depths=[1, 1, 1, 1],
        stage_types="LGGG",
        split=True,
        std=True,
        tube_size=3,
        dpe=False,
        layer_scale=0.5,
        drop_path=0.3,
        checkpointing=[1, 0, 0, 1],
        representation_size=8,
        embed_dims=[8, 16, 16, 32],
        head_dim=8,
        mlp_ratio=2.0,
        dropout=0.1,
    )
    (local,), divided = of_kind(module, LocalRelation), of_kind(module, DividedRelation)
    assert local.attn.kernel_size == (3, 3, 3) and local.gamma_1.shape == (1, 8, 1, 1, 1)
    assert [block.dim for block in divided] == [16, 16, 32] and divided[-1].drop_path == pytest.approx(0.3)
    assert module.network.backbone.checkpointing == (1, 0, 0, 1)
    assert module.network.backbone.patch_embed2.proj.kernel_size == (3, 2, 2)
    assert module.network.num_frames == 8 and module.network.head.num_features == 8
    assert "pos_embed" not in " ".join(module.state_dict())


def test_what_is_not_given_is_left_to_the_size():
    with torch.device("meta"):
        large = UniFormer("b", 5)
    assert of_kind(large, LocalRelation)[-1].drop_path == pytest.approx(0.3 * 12 / 39)
    assert large.network.num_frames == 16
    with pytest.raises(ValueError, match="uniformer_xxs has no option 'split'"):
        UniFormer("xxs", 5, split=True)


def test_options_reach_a_light_network():
    module = UniFormer("nano", 5, light=True, prune_ratios=[[1, 0.25], [0.75]])
    assert [block.share for block in of_kind(module, PrunedRelation)] == [1, 0.25, 0.75]
    assert module.model_name == "uniformer_nano"


def test_weight_decay_is_on_kernels_and_matrices_alone():
    network = kinema.create_model("uniformer_nano", 5, light=True, class_head=True)
    options = Optimizer.uniformer()
    assert (options.name, options.decay) == ("adamw", 0.05)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {}
    for group in parameter_groups(network, network.head, options):
        assert group["lr"] == options.lr
        decayed |= {names[id(parameter)]: group["weight_decay"] for parameter in group["params"]}
    assert set(decayed) == set(names.values())
    for name, parameter in network.named_parameters():
        assert decayed[name] == (0.05 if parameter.ndim > 1 and name != "backbone.cls_token" else 0), name
    assert decayed["backbone.blocks1.0.pos_embed.weight"] == decayed["backbone.blocks1.0.attn.weight"] == 0.05
    assert UniFormer("nano", 5).optimizer == options


def test_half_of_the_loss_is_that_of_the_class_token():
    torch.manual_seed(0)
    module = UniFormer("nano", 5, light=True, class_head=True, label_smoothing=0.1).eval()
    for parameter in module.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    clip, label = torch.randn(3, 3, 4, 64, 64), torch.tensor([0, 3, 4])
    logits, loss = module.logits_and_loss(clip, label)
    first, second = module.network(clip, both_heads=True)
    parts = [F.cross_entropy(head, label, label_smoothing=0.1) for head in (first, second)]
    assert abs(parts[0] - parts[1]) > 0.01
    torch.testing.assert_close(loss, sum(parts) / 2)
    torch.testing.assert_close(logits, first)
    loss.backward()
    for part in (module.network.head, module.network.head_cls, module.network.norm_cls):
        assert all(parameter.grad.any() for parameter in part.parameters())


def test_one_classifier_has_the_whole_loss():
    module = UniFormer("nano", 5, label_smoothing=0.1).eval()
    clip, label = torch.randn(2, 3, 4, 64, 64), torch.tensor([1, 2])
    logits, loss = module.logits_and_loss(clip, label)
    torch.testing.assert_close(loss, F.cross_entropy(module.network(clip), label, label_smoothing=0.1))
    torch.testing.assert_close(logits, module.network(clip))
