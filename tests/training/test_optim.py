"""Parameter groups against TSM's code, and the learning rate over time."""

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
