"""UniFormer: sizes and costs of the papers, what options change, light networks, and what is refused."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import kinema
from kinema.backbones.uniformer import ConvStem, PatchEmbedding
from kinema.models.uniformer import TwoHeadedNetwork
from kinema.operators.relation import DividedRelation, DynamicPosition, GlobalRelation, LocalRelation
from kinema.operators.token_pruning import PrunedRelation

SPLIT, STD = {"split": True}, {"std": True}
PRUNED = {"light": True, "depths": (1, 1, 3, 2)}


def nano(num_classes=5, seed=0, **options):
    torch.manual_seed(seed)
    return kinema.create_model("uniformer_nano", num_classes, **options)


def awake(model):
    """Weights large enough that all of them are heard, and running statistics of their own."""
    torch.manual_seed(3)
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.is_floating_point():
            nn.init.normal_(tensor, std=max(tensor[0].numel(), 1) ** -0.5 if tensor.ndim > 1 else 0.3)
    return model


def blocks_of(model):
    backbone = model.backbone
    return [
        block for stage in (backbone.blocks1, backbone.blocks2, backbone.blocks3, backbone.blocks4) for block in stage
    ]


def clip(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(
    ("name", "options", "classes", "frames", "side", "params", "gmacs"),
    [
        ("uniformer_s", {}, 400, 8, 224, 21_400_400, 17.57),
        ("uniformer_s", {}, 400, 16, 224, 21_400_400, 41.66),
        ("uniformer_s", {}, 400, 32, 224, 21_400_400, 109.45),
        ("uniformer_s", {}, 174, 16, 224, 21_284_462, 41.66),
        ("uniformer_s", SPLIT, 400, 8, 224, 27_847_504, 18.32),
        ("uniformer_s", SPLIT, 400, 16, 224, 27_847_504, 36.68),
        ("uniformer_s", SPLIT, 400, 32, 224, 27_847_504, 73.51),
        ("uniformer_s", STD, 400, 8, 224, 23_104_336, 18.29),
        ("uniformer_s", STD, 400, 16, 224, 23_104_336, 43.10),
        ("uniformer_s", STD, 400, 32, 224, 23_104_336, 112.32),
        ("uniformer_b", {}, 400, 8, 224, 49_813_200, 40.13),
        ("uniformer_b", {}, 400, 16, 224, 49_813_200, 96.55),
        ("uniformer_b", {}, 400, 32, 224, 49_813_200, 258.25),
        ("uniformer_b", {}, 600, 16, 224, 49_915_800, 96.55),
        ("uniformer_xxs", {}, 400, 4, 128, 9_833_896, 0.998),
        ("uniformer_xxs", {}, 400, 4, 160, 9_833_896, 1.569),
        ("uniformer_xxs", {}, 400, 8, 128, 9_833_896, 2.02),
        ("uniformer_xxs", {}, 400, 8, 160, 9_833_896, 3.22),
        ("uniformer_xxs", {}, 400, 16, 128, 9_833_896, 4.19),
        ("uniformer_xxs", {}, 400, 16, 160, 9_833_896, 6.83),
    ],
)
def test_parameters_and_multiply_adds_are_those_of_the_authors_code(
    name, options, classes, frames, side, params, gmacs
):
    with torch.device("meta"):
        model = kinema.create_model(name, classes, **options)
    cost = kinema.profile(model, (1, 3, frames, side, side))
    assert cost.params == params
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.005)


def test_the_larger_light_network_is_as_large_and_costs_as_much_as_the_authors_say():
    with torch.device("meta"):
        model = kinema.create_model("uniformer_xs", 400)
    cost = kinema.profile(model, (1, 3, 32, 192, 192))
    assert cost.params == 16_099_552
    assert cost.macs / 1e9 == pytest.approx(34.2, rel=0.015)  # theirs counts norms


@pytest.mark.parametrize(
    ("options", "params", "gmacs"),
    [
        ({"stage_types": "LLLL"}, 23.7, 31.6),
        ({"stage_types": "LLLG"}, 22.4, 31.6),
        ({"stage_types": "LGGG"}, 21.4, None),  # the paper's cost is below that of joint attention in such maps
        ({"stage_types": "GGGG"}, 19.8, None),
        ({"dpe": False}, 21.3, 41.4),
        ({"tube_size": 3}, None, 41.0),
        ({"tube_size": 7}, None, 43.6),
        ({"tube_size": 9}, None, 46.6),
    ],
)
def test_the_ablation_s_networks_have_the_printed_sizes(options, params, gmacs):
    with torch.device("meta"):
        model = kinema.create_model("uniformer_s", 400, **options)
    cost = kinema.profile(model, (1, 3, 16, 224, 224))
    if params is not None:
        assert cost.params / 1e6 == pytest.approx(params, abs=0.05)
    if gmacs is not None:
        assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.005)


@pytest.mark.parametrize("num_frames", [1, 5, 8])
@pytest.mark.parametrize("options", [{}, SPLIT, STD, PRUNED], ids=str)
def test_half_of_the_frames_are_left_rounded_up_at_any_length(num_frames, options):
    model, seen = nano(**options).eval(), []
    for stage in range(1, 5):
        block = model.backbone.get_submodule(f"blocks{stage}.0.pos_embed")
        block.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[2:])))
    assert model(clip(1, 3, num_frames, 64, 96, dtype=torch.float32)).shape == (1, 5)
    half = (num_frames + 1) // 2
    assert seen == [(half, 16, 24), (half, 8, 12), (half, 4, 6), (half, 2, 3)]


@pytest.mark.parametrize("options", [{}, SPLIT, STD, PRUNED, {"stage_types": "GLGL"}], ids=str)
def test_clips_of_a_batch_do_not_meet(options):
    model = awake(nano(**options)).double().eval()
    clips = clip(2, 3, 5, 64, 64)
    together = model(clips)
    torch.testing.assert_close(together, torch.cat([model(one[None]) for one in clips]))
    assert not torch.allclose(together[0], together[1])


def test_two_light_networks_do_not_meet():
    """The authors' keep scores and indices in the module, for all networks in the process."""
    model, other = awake(nano(**PRUNED)).double().eval(), awake(nano(seed=1, **PRUNED)).double().eval()
    clips, wanted = clip(2, 3, 4, 64, 64), None
    for block in blocks_of(model)[2:]:
        block.register_forward_hook(lambda *_: other(clip(1, 3, 2, 32, 64)) is None or None)
    got = model(clips)
    for block in blocks_of(model)[2:]:
        block._forward_hooks.clear()
    wanted = model(clips)
    assert torch.equal(got, wanted)


def test_stochastic_depth_rises_linearly_over_all_blocks():
    for name, rate, blocks in (("s", 0.1, 18), ("b", 0.3, 40), ("xxs", 0.05, 17), ("xs", 0.1, 20)):
        with torch.device("meta"):
            rates = [block.drop_path for block in blocks_of(kinema.create_model(f"uniformer_{name}"))]
        assert len(rates) == blocks and rates[0] == 0 and rates[-1] == pytest.approx(rate)
        assert all(after - before == pytest.approx(rate / (blocks - 1)) for before, after in pairwise(rates))
    assert {block.drop_path for block in blocks_of(nano())} == {0}


def test_types_of_stages_choose_the_blocks():
    kinds = {"L": LocalRelation, "G": GlobalRelation}
    for types in ("LLGG", "GLGL"):
        model = nano(stage_types=types, depths=(1, 1, 1, 1))
        assert [type(block) for block in blocks_of(model)] == [kinds[letter] for letter in types]
    assert [type(block) for block in blocks_of(nano(**SPLIT))][2:] == [DividedRelation] * 3
    light = nano(**PRUNED)
    assert isinstance(light.backbone.patch_embed1, ConvStem)
    assert [block.share for block in blocks_of(light)[2:]] == [1, 0.5, 0.5, 0.5, 0.5]
    assert all(isinstance(block, PrunedRelation) for block in blocks_of(light)[2:])
    with torch.device("meta"):
        depths = {t: kinema.create_model("uniformer_s", stage_types=t).backbone.depths for t in ("LLLL", "LLGG")}
        own = kinema.create_model("uniformer_s", stage_types="LLLL", depths=(1, 1, 1, 1)).backbone.depths
    assert depths == {"LLLL": (3, 5, 10, 4), "LLGG": (3, 4, 8, 3)} and own == (1, 1, 1, 1)


@pytest.mark.parametrize("light", [False, True])
def test_options_reach_the_blocks(light):
    model = nano(
        light=light,
        tube_size=3,
        dpe=False,
        qkv_bias=False,
        qk_scale=0.5,
        layer_scale=0.25,
        mlp_ratio=2.0,
        head_dim=8,
        in_channels=2,
        dropout=0.3,
        representation_size=7,
    )
    local, deep = blocks_of(model)[0], blocks_of(model)[-1]
    assert local.attn.kernel_size == (3, 3, 3) and local.mlp.fc1.out_channels == 32
    assert deep.attn.num_heads == 8 and deep.attn.scale == 0.5 and deep.attn.qkv.bias is None
    assert local.gamma_2.unique().item() == deep.gamma_1.unique().item() == 0.25
    assert not any(isinstance(module, DynamicPosition) for module in model.modules())
    assert model.head.dropout.p == 0.3
    assert model.forward_features(torch.randn(2, 2, 3, 32, 32)).shape == (2, 7)


def test_later_embeddings_see_three_frames_where_asked():
    kernels = [m.proj.kernel_size for m in nano(**STD).modules() if isinstance(m, PatchEmbedding)]
    assert kernels == [(3, 4, 4)] + [(3, 2, 2)] * 3
    kernels = [m.proj.kernel_size for m in nano().modules() if isinstance(m, PatchEmbedding)]
    assert kernels == [(3, 4, 4)] + [(1, 2, 2)] * 3


def test_a_representation_is_made_of_the_mean():
    model = awake(nano(representation_size=6)).eval()
    x = torch.randn(2, 3, 4, 64, 64)
    seen = []
    model.backbone.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = model.forward_features(x)
    fc = model.backbone.pre_logits["fc"]
    torch.testing.assert_close(features, torch.tanh(fc(seen[0].flatten(2).mean(-1))))


def gradients(model, x):
    torch.manual_seed(5)
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("options", [{}, PRUNED], ids=str)
def test_computing_again_changes_no_gradient_and_no_statistic(options):
    """The authors' batch norms count each batch twice where blocks are computed again."""
    options = {"drop_path": 0.3, **options}
    plain, again = (awake(nano(checkpointing=value, **options)).double().train() for value in (False, True))
    x = clip(4, 3, 4, 64, 64)
    wanted, got = gradients(plain, x), gradients(again, x)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, msg=name)
    for (name, value), other in zip(plain.named_buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(other, value, msg=name)
    norms = [module for module in again.modules() if isinstance(module, _BatchNorm)]
    assert norms and all(norm.momentum == 0.1 and norm.num_batches_tracked == 1 for norm in norms)


def test_the_first_blocks_of_a_stage_are_computed_again():
    model = nano(depths=(1, 2, 2, 1), checkpointing=(0, 1, 2, 0)).train()
    counts = [0] * 6
    for index, block in enumerate(blocks_of(model)):

        def count(module, inputs, index=index):
            counts[index] += 1

        block.norm2.register_forward_pre_hook(count)
    model(torch.randn(1, 3, 4, 64, 64)).sum().backward()
    assert counts == [1, 2, 1, 2, 2, 1]


def test_a_light_network_has_a_second_classifier_to_train():
    model = awake(nano(class_head=True, **PRUNED)).double().eval()
    assert isinstance(model, TwoHeadedNetwork)
    x, seen = clip(2, 3, 4, 64, 64), []
    blocks_of(model)[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits, logits_of_class = model(x, both_heads=True)
    torch.testing.assert_close(logits, model(x))
    tokens = model.backbone.norm(seen[0].maps).flatten(2).mean(-1)
    torch.testing.assert_close(logits, model.head.fc(tokens))
    classes = nn.functional.layer_norm(seen[0].classes[:, 0], (64,), model.norm_cls.weight, model.norm_cls.bias, 1e-5)
    torch.testing.assert_close(logits_of_class, model.head_cls.fc(classes))
    model.train()
    assert model(x).shape == (2, 5)  # one tensor in both modes, as of every network
    model.reset_classifier((3, 4))
    assert [[part.shape[1] for part in head] for head in model(x, both_heads=True)] == [[3, 4], [3, 4]]
    assert not isinstance(nano(**PRUNED), TwoHeadedNetwork)


def test_scores_go_on_into_the_last_stage_averaged_and_of_the_same_sum():
    model, taken = awake(nano(**PRUNED)).double().eval(), []
    deep = model.backbone
    deep.blocks3[-1].register_forward_hook(lambda module, inputs, output: taken.append(output.scores))
    deep.blocks4[0].register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0].scores))
    model(clip(2, 3, 6, 64, 96))
    before, after = taken[0].view(2, 3, 4, 6), taken[1].view(2, 3, 2, 3)
    torch.testing.assert_close(after.sum(dim=(1, 2, 3)), before.sum(dim=(1, 2, 3)))
    corner = before[:, 1, 2:4, 4:6].sum(dim=(1, 2))
    torch.testing.assert_close(after[:, 1, 1, 2], corner)


def test_the_class_token_starts_at_zero_and_passes_a_linear_layer():
    model = nano(**PRUNED)
    assert not model.backbone.cls_token.any() and model.backbone.cls_token.shape == (1, 1, 64)
    assert model.backbone.cls_upsample.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not model.backbone.cls_upsample.bias.any()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "uniformer_nano",
            {"stage_types": "LLXG"},
            "stage_types='LLXG' does not name the four stages; give four letters",
        ),
        ("uniformer_nano", {"stage_types": "LG"}, "stage_types='LG' does not name the four stages"),
        ("uniformer_nano", {"stage_types": "LLLL", "split": True}, "'LLLL' has none; leave it out"),
        ("uniformer_nano", {"tube_size": 4}, "tube_size=4 has no centre"),
        ("uniformer_nano", {"head_dim": 24}, "head_dim=24 does not divide the 64 channels of stage 3; give a divisor"),
        ("uniformer_nano", {"drop_path": 1.0}, "drop_path=1.0 is no rate"),
        ("uniformer_nano", {"depths": (1, 1, 1)}, "a UniFormer has four stages; give four numbers of at least 1"),
        ("uniformer_nano", {"depths": (1, 0, 1, 1)}, r"depths=\(1, 0, 1, 1\)"),
        ("uniformer_nano", {"checkpointing": (0, 2, 0, 0)}, r"checkpointing=\(0, 2, 0, 0\) does not say how many of"),
        ("uniformer_nano", {"checkpointing": (1, 1)}, "give four numbers, none above those, or True"),
        ("uniformer_nano", {"representation_size": 0}, "representation_size=0 is no width"),
        ("uniformer_nano", {"prune_ratios": ((1, 1), (1,))}, "prune_ratios is of light networks; give light=True"),
        ("uniformer_nano", {"light": True, "split": True}, "light=True and split were given"),
        ("uniformer_nano", {"light": True, "prune_ratios": ((1,), (1,))}, "not for stages of 2 and 1 blocks"),
        (
            "uniformer_nano",
            {"light": True, "prune_ratios": ((0.5, 1), (1,))},
            "which nobody has scored yet; start with 1",
        ),
        ("uniformer_nano", {"light": True, "prune_ratios": ((1, 1.5), (1,))}, "keeps a share of 1.5 of the tokens"),
        ("uniformer_xxs", {"split": True}, "uniformer_xxs has no option 'split'"),
        ("uniformer_s", {"prune_ratios": None}, "uniformer_s has no option 'prune_ratios'"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model(name, 5, **options)


@pytest.mark.parametrize("options", [{}, PRUNED], ids=str)
@pytest.mark.parametrize("size", [(48, 64), (64, 40), (16, 16)])
def test_frames_that_the_stages_do_not_divide_are_refused(options, size):
    with pytest.raises(ValueError, match=f"frames of {size[0]} x {size[1]} pixels are not divided .* multiples of 32"):
        nano(**options)(torch.randn(1, 3, 4, *size))
