"""Parameter groups against TSM's code, and the learning rate over time."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from kinema.models import create_model
from kinema.training import Optimizer, Schedule
from kinema.training.optim import build_optimizer, parameter_groups

REFERENCE = json.loads((Path(__file__).parents[1] / "parity" / "tsm_parameter_groups.json").read_text())


def test_groups_are_those_of_tsm_s_code():
    with torch.device("meta"):
        network = create_model("tsm_r50")
    # The reference was written with the faster head switched off.
    options = Optimizer("sgd", lr=1.0, weight_decay=1.0, bias_lr_scale=2.0)
    counted: dict[tuple[float, float], int] = {}
    for group in parameter_groups(network, network.head, options):
        key = (group["lr"], group["weight_decay"])
        counted[key] = counted.get(key, 0) + sum(parameter.numel() for parameter in group["params"])
    wanted: dict[tuple[float, float], int] = {}
    for group in REFERENCE["groups"]:
        if group["n"]:
            key = (float(group["lr_mult"]), float(group["decay_mult"]))
            wanted[key] = wanted.get(key, 0) + group["n_elements"]
    assert counted == wanted


def test_the_head_learns_five_and_ten_times_faster():
    network = create_model("tsm_nano", num_classes=3)
    groups = {group["name"]: group for group in parameter_groups(network, network.head, Optimizer.tsm())}
    assert groups["head_weight"]["lr"] == pytest.approx(5 * 0.02)
    assert groups["head_bias"]["lr"] == pytest.approx(10 * 0.02)
    assert groups["first_conv_weight"]["lr"] == groups["weight"]["lr"] == groups["norm"]["lr"] == 0.02
    assert groups["norm"]["weight_decay"] == groups["head_bias"]["weight_decay"] == 0
    assert groups["head_weight"]["weight_decay"] == 1e-4


def test_every_trainable_parameter_is_in_exactly_one_group():
    network = create_model("tsm_r18", num_classes=3)
    network.head.requires_grad_(False)
    grouped = [id(p) for group in parameter_groups(network, network.head, Optimizer()) for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in network.parameters() if p.requires_grad}


def test_flow_s_first_convolution_can_learn_faster():
    network = nn.Sequential(nn.Conv2d(10, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2))
    groups = {g["name"]: g for g in parameter_groups(network, network[2], Optimizer(lr=1, first_conv_lr_scale=5))}
    assert groups["first_conv_weight"]["lr"] == 5 and groups["weight"]["lr"] == 1


def test_each_optimiser_keeps_its_own_defaults():
    network = nn.Linear(3, 2)
    sgd, adamw = (build_optimizer(network, network, Optimizer(name)) for name in ("sgd", "adamw"))
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["momentum"] == 0.9
    assert isinstance(adamw, torch.optim.AdamW) and adamw.param_groups[0]["betas"] == (0.9, 0.999)
    assert sgd.param_groups[0]["weight_decay"] == 1e-4 and adamw.param_groups[0]["weight_decay"] == 0.05
    with pytest.raises(ValueError, match=r"momentum=0.9 was given, but adamw has no momentum"):
        Optimizer("adamw", momentum=0.9)
    with pytest.raises(ValueError, match="lr must be above 0"):
        Optimizer(lr=0)


def curve(schedule, epochs=10, steps=20):
    return [schedule.factor(step, steps_per_epoch=steps, total_steps=epochs * steps) for step in range(epochs * steps)]


def test_cosine_after_a_linear_warm_up():
    factors = curve(Schedule("cosine", warmup_epochs=2, warmup_start=0.1, final=0.01))
    assert factors[0] == pytest.approx(0.1)
    assert factors[20] == pytest.approx(0.55)
    assert factors[40] == 1 == max(factors)
    assert factors[120] == pytest.approx(0.01 + 0.99 * 0.5)
    assert factors[-1] == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 159 / 160)))


def test_a_cosine_from_the_start_is_met_by_the_warm_up():
    schedule = Schedule("cosine", warmup_epochs=2, warmup_start=0.1, cosine_from="start")
    factors = curve(schedule)
    cosine = [0.5 * (1 + math.cos(math.pi * step / 200)) for step in range(200)]
    assert factors[40:] == pytest.approx(cosine[40:])
    # Linear in between, to the cosine's value: 0.9045 after two of ten epochs.
    assert factors[0] == pytest.approx(0.1) and factors[20] == pytest.approx((0.1 + cosine[40]) / 2)
    steps = [b - a for a, b in itertools.pairwise(factors[:41])]
    assert steps == pytest.approx([(cosine[40] - 0.1) / 40] * 40)
    # TAda2D on Kinetics-400, as its code computes it: rate 0.24, from 0.01 in 8 of 100 epochs.
    authors = Schedule("cosine", warmup_epochs=8, warmup_start=0.01 / 0.24, cosine_from="start")
    rates = [0.24 * authors.factor(e, steps_per_epoch=1, total_steps=100) for e in (0, 4, 8, 50, 99)]
    end = 0.24 * 0.5 * (math.cos(math.pi * 0.08) + 1)
    wanted = [0.01, 4 * (end - 0.01) / 8 + 0.01, end, 0.12, 0.24 * 0.5 * (math.cos(math.pi * 0.99) + 1)]
    assert rates == pytest.approx(wanted) and end == pytest.approx(0.2362, abs=1e-4)


def test_multi_step_falls_at_the_milestones():
    factors = curve(Schedule("multi_step", milestones=(4, 8)))
    assert [factors[step] for step in (0, 79, 80, 159, 160)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_constant_stays():
    assert set(curve(Schedule("constant"))) == {1.0}


def test_schedules_refuse_what_they_do_not_have():
    with pytest.raises(ValueError, match="multi_step needs milestones"):
        Schedule("multi_step")
    with pytest.raises(ValueError, match="cosine has none; use multi_step"):
        Schedule("cosine", milestones=(3,))
    with pytest.raises(ValueError, match="cosine_from='start' was given, but constant has no cosine"):
        Schedule("constant", cosine_from="start")


def of_every_tensor(network, options):
    """Learning rate and weight decay of each parameter, by its name."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, network.head, options)
    assert len({group["name"] for group in groups}) == len(groups)
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert set(found) == set(names.values())
    return found


def test_groups_of_tadaconvnextv2_are_those_of_its_code():
    """Routers 5 and 10 times faster, their layer norms among them and decaying; the head likewise; gamma decays."""
    with torch.device("meta"):
        network = create_model("tadaconvnextv2_nano", num_classes=3)
    found = of_every_tensor(network, Optimizer("adamw", lr=1.0, weight_decay=1.0, **scales(Optimizer.tadaconvnextv2())))
    block = "backbone.trunk.stages.0.blocks.0"
    for name, wanted in {
        "backbone.trunk.stem.0.operator.weight": (1, 1),
        "backbone.trunk.stem.0.operator.bias": (1, 0),
        "backbone.trunk.stem.1.weight": (1, 0),
        f"{block}.gamma": (1, 1),
        f"{block}.conv_dw.operator.conv.weight": (1, 1),
        f"{block}.conv_dw.operator.conv.bias": (1, 0),
        f"{block}.conv_dw.operator.router.conv.weight": (5, 1),
        f"{block}.conv_dw.operator.router.conv.bias": (10, 0),
        f"{block}.conv_dw.operator.router.norm.weight": (5, 1),
        f"{block}.conv_dw.operator.router.norm_attn.bias": (10, 0),
        f"{block}.conv_dw.operator.router.to_bias.weight": (5, 1),
        f"{block}.norm.operator.norm_pool.weight": (1, 0),
        f"{block}.mlp.fc1.bias": (1, 0),
        "head.fc.weight": (5, 1),
        "head.fc.bias": (10, 0),
    }.items():
        assert found[name] == wanted, name


def scales(options):
    return {
        field: getattr(options, field)
        for field in ("head_lr_scale", "head_bias_lr_scale", "router_lr_scale", "router_bias_lr_scale")
    } | {field: getattr(options, field) for field in ("tada_lr_scale", "layer_decay")}


def test_groups_of_tadaformer_are_those_of_its_code():
    """The rate falls by 0.7 from layer to layer; TAda blocks and head are 10 times faster; what has one axis decays not."""
    with torch.device("meta"):
        network = create_model("tadaformer_nano", num_classes=3, depth=3, double=True)
    found = of_every_tensor(network, Optimizer("adamw", lr=1.0, weight_decay=1.0, **scales(Optimizer.tadaformer())))
    block = "backbone.trunk.blocks.1"
    for name, (scale, layers_below_top, decay) in {
        "backbone.trunk.cls_token": (1, 4, 0),
        "backbone.trunk.pos_embed": (1, 4, 1),
        "backbone.trunk.patch_embed.proj.operator.weight": (1, 4, 1),
        "backbone.trunk.norm_pre.weight": (1, 4, 0),
        "backbone.trunk.blocks.0.norm1.bias": (1, 3, 0),
        f"{block}.attn.qkv.weight": (1, 2, 1),
        f"{block}.attn.qkv.bias": (1, 2, 0),
        f"{block}.before.operator.reduce.weight": (10, 2, 1),
        f"{block}.before.operator.calibrated.conv.weight": (10, 2, 1),
        f"{block}.before.operator.calibrated.conv.bias": (10, 2, 0),
        f"{block}.before.operator.calibrated.router.qkv.weight": (10, 2, 1),
        f"{block}.before.operator.calibrated.router.norm.weight": (10, 2, 0),
        f"{block}.between.operator.aggregation.norm.weight": (10, 2, 0),
        "backbone.trunk.blocks.2.mlp.fc2.weight": (1, 1, 1),
        "backbone.trunk.fc_norm.weight": (1, 0, 0),
        "head.fc.weight": (10, 0, 1),
        "head.fc.bias": (10, 0, 0),
    }.items():
        assert found[name] == (pytest.approx(scale * 0.7**layers_below_top), decay), name


def test_a_layer_decay_needs_layers():
    network = create_model("tsm_nano", num_classes=3)
    with pytest.raises(ValueError, match=r"layer_decay=0.7 needs a network of numbered layers"):
        parameter_groups(network, network.head, Optimizer("adamw", layer_decay=0.7))
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\], got 1.5"):
        Optimizer("adamw", layer_decay=1.5)


def test_biases_of_head_and_router_follow_the_other_biases_unless_told():
    network = create_model("tada2d_nano", num_classes=3)
    found = of_every_tensor(network, Optimizer(lr=1.0, bias_lr_scale=2.0, head_lr_scale=3.0, router_lr_scale=5.0))
    assert found["head.fc.weight"][0] == 3 and found["head.fc.bias"][0] == 6
    router = "backbone.trunk.layer1.0.conv1.operator.router"
    assert found[f"{router}.conv.weight"] == (5, 1e-4) and found[f"{router}.conv.bias"] == (10, 0)
    assert found[f"{router}.norm.weight"] == (5, 0)  # a batch norm stays a norm
    found = of_every_tensor(network, Optimizer(lr=1.0, bias_lr_scale=2.0, head_bias_lr_scale=7.0))
    assert found["head.fc.bias"][0] == 7 and found[f"{router}.conv.bias"][0] == 2
