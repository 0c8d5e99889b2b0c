"""Calibrated convolutions, routers and aggregation against numbers of their authors' code, gradients included."""

import json
from pathlib import Path

import pytest
import torch
from numpy.random import RandomState
from torch import nn

from kinema.checkpoints.tadaconv import Counterpart
from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.routing import build_routing, describe
from kinema.operators.tada_layer import TAdaLayer
from kinema.operators.tadaconv import TAdaConv2d, TAdaConv3d

from fill_rule import filled

REFERENCE = json.loads((Path(__file__).parent / "tada" / "operators.json").read_text())
NAMES = [name for name in REFERENCE if name != "op_online_tctrack_steps"]

ROUTER = {"a": "conv", "g": "global_proj", "bn": "norm", "norm": "norm", "norm_transformer": "norm_attn"}
ROUTER |= {"qkv_proj": "qkv", "attn_out": "out", "b_bias": "to_bias", "temporalconv": "to_cin", "fc": "to_bias"}


class InternalAggregation(nn.Module):
    """TAdaFormer's layer: calibration, then aggregation."""

    def __init__(self, layer, aggregation):
        super().__init__()
        self.layer, self.aggregation = layer, aggregation

    def forward(self, x):
        return self.aggregation(self.layer(x))


class Router(nn.Module):
    """A router on features, its factors side by side as (B, factors * C * T)."""

    def __init__(self, router):
        super().__init__()
        self.router = router

    def forward(self, x):
        return torch.cat([factor.flatten(1) for factor in self.router(describe(x)) if factor is not None], dim=1)


def build(name):
    """The operator of kinema, and its name for every tensor of theirs."""
    c = REFERENCE[name]["config"]
    if name == "op_v1_routefunc":
        return Router(build_routing("local_global", c["c_in"], {"cin": c["c_in"]}, ratio=c["ratio"]))
    if name == "op_v2_routefunc_2heads_bias":
        widths = {"cin": c["c_in"], "bias": c["c_in"]}
        return Router(build_routing("attention", c["c_in"], widths, ratio=c["ratio"], head_dim=c["head_dim"]))
    if name.startswith("op_online"):
        conv = TAdaConv2d(c["cin"], c["cout"], c["kernel"], padding=c["padding"])
        return TAdaLayer(conv, build_routing("causal", c["cin"], {"cin": c["cin"], "bias": 1}))
    if name.startswith("op_v1"):
        make = TAdaConv3d if c["temporal_kernel"] == 3 else TAdaConv2d
        padding, options = c["spatial_padding"], {"groups": c["groups"], "calibration": c["cal_dim"], "bias": c["bias"]}
        conv = make(c["cin"], c["cout"], c["kernel"], c["stride"], padding, **options)
        kernels = tuple(c["route_kernels"])
        router = build_routing("local_global", c["cin"], conv.widths, ratio=c["route_ratio"], kernels=kernels)
        return TAdaLayer(conv, router)
    conv = TAdaConv2d(
        c["c"],
        c["c"],
        c["kernel"],
        padding=c["kernel"] // 2,
        groups=c["groups"],
        bias=c["bias"],
        calibration=c["cal_dim"],
    )
    widths = conv.widths | ({"bias": c["c"]} if c["bias"] else {})
    router = build_routing(
        "attention", c["c"], widths, ratio=c["rf_ratio"], head_dim=c["head_dim"], zero_init=c["zero_init_cal"]
    )
    layer = TAdaLayer(conv, router)
    if not c["internal_temp_aggr"]:
        return layer
    return InternalAggregation(layer, TemporalAggregation(nn.BatchNorm2d(c["c"]), nn.BatchNorm2d(c["c"])))


def ours(name, calibration):
    """kinema's name of a tensor of theirs."""
    parts = name.split(".")
    if "bn_a" in parts or "bn_b" in parts:
        return f"aggregation.{'norm' if 'bn_a' in parts else 'norm_pool'}.{parts[-1]}"
    for holder in ("b_rf", "dwconv_rf", "rf_func"):
        if holder in parts:
            layer = parts[-2]
            return f"router.{f'to_{calibration}' if layer == 'b' else ROUTER[layer]}.{parts[-1]}"
    if parts[0] in ("temporalconv", "fc"):
        return f"router.{ROUTER[parts[0]]}.{parts[1]}"
    return f"conv.{parts[-1]}"


def loaded(name):
    """The operator with the rule's weights, and how to bring its gradients into their layout."""
    wanted = REFERENCE[name]
    config = wanted["config"]
    module = build(name).double()
    state = module.state_dict()
    counterparts = {}
    for theirs, shape in wanted["state_dict"].items():
        key = ours(theirs, config.get("cal_dim", "cin"))
        key = next(k for k in state if k == key or k.endswith("." + key))
        heads = config["heads"] if "heads" in config and ".qkv." in key else 0
        if "qkv" in key and "heads" not in config:
            heads = config["c_in"] // config["ratio"] // config["head_dim"]
        counterparts[key] = Counterpart(theirs, tuple(shape), heads)
    assert set(counterparts) == set(state)
    values = filled(wanted["state_dict"], wanted.get("fill_scale", {}))
    module.load_state_dict({k: c.to_ours(values[c.name], tuple(state[k].shape)) for k, c in counterparts.items()})
    return module, counterparts


def clip_for(name):
    shape = REFERENCE[name]["input_shape"]
    values = torch.from_numpy(RandomState(0).standard_normal(shape))
    return values.transpose(1, 2) if name.startswith("op_online") else values


def close(got, wanted, scale=1.0):
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(got.double().reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-8 * max(scale, 1.0))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_gradients_and_statistics(name, mode):
    module, counterparts = loaded(name)
    module.train(mode == "train")
    wanted = REFERENCE[name][mode]
    values = clip_for(name)
    x = values.clone().requires_grad_()
    output = module(x)
    if name.startswith("op_online"):
        output = output.transpose(1, 2).flatten(0, 1)
    flat = output.reshape(-1)
    close(torch.stack([flat.mean(), flat.std(correction=0), flat.norm()]), wanted["output_stats"], scale=100)
    if "output_every_13th" in wanted:
        close(flat[::13], wanted["output_every_13th"])
    if "output_first16" in wanted:
        close(flat[:16], wanted["output_first16"])
    weight = RandomState(1).standard_normal(wanted["output_shape"] if isinstance(wanted["output_shape"], list) else 0)
    (flat * torch.from_numpy(weight).reshape(-1)).sum().backward()
    gradients = {
        c.name: c.to_theirs(p) for k, c in counterparts.items() if (p := dict(grads(module)).get(k)) is not None
    }
    gradients["input"] = x.grad.transpose(1, 2) if name.startswith("op_online") else x.grad
    assert set(gradients) == set(wanted["grad_l2"])
    for key, gradient in gradients.items():
        close(gradient.norm(), wanted["grad_l2"][key], scale=100)
        close(gradient.reshape(-1)[:4], wanted["grad_first4"][key], scale=1000)
    state = {c.name: c.to_theirs(module.state_dict()[k]) for k, c in counterparts.items()}
    for key, statistics in wanted.get("running_stats_after_first4", {}).items():
        close(state[key].reshape(-1)[:4], statistics)


def grads(module):
    return [(name, parameter.grad) for name, parameter in module.named_parameters()]


def test_streaming_gives_the_authors_steps():
    name = "op_online_tctrack_steps"
    module, _ = loaded(name)
    clip = clip_for(name)
    state = module.init_state(clip[:, :, 0])
    for t, step in enumerate(REFERENCE[name]["steps"]):
        output, state = module.step(clip[:, :, t], state)
        close(output.reshape(-1)[: len(step["output"])], step["output"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_streaming_gives_the_authors_clip(mode):
    """The batch fixture again, two clips side by side, every frame by itself."""
    name = "op_online_tctrack_batch"
    module, _ = loaded(name)
    module.train(mode == "train")
    clip, frames = clip_for(name), []
    state = module.init_state(clip[:, :, 0])
    for t in range(clip.shape[2]):
        frame, state = module.step(clip[:, :, t], state)
        frames.append(frame)
    output = torch.stack(frames, dim=1).flatten(0, 1).reshape(-1)
    wanted = REFERENCE[name][mode]
    close(torch.stack([output.mean(), output.std(correction=0), output.norm()]), wanted["output_stats"], scale=100)
    if "output_every_13th" in wanted:
        close(output[::13], wanted["output_every_13th"])
