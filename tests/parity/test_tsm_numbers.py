"""TSN and TSM against the numbers of the TSM authors' code and of mmaction2's, to 1e-6 relative in float64.

The numbers have nine digits, so a right network comes to about 1e-9.
"""

from pathlib import Path

import pytest
import torch
from fill_rule import clip_of, filled, reference

import kinema

NAMES = sorted(path.stem for path in (Path(__file__).parent / "tsm").glob("*.json"))
# Without bias in the last convolution of its non-local blocks, in front of a norm that undoes it: 2 x 512 + 3 x 1024.
BIASES_MMACTION2_LACKS = {name: 4096 for name in NAMES if name.startswith("mmaction2") and "_nl_" in name}


def distance(got, wanted):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    return ((got - wanted).norm() / wanted.norm()).item()


def slow_unless(quick):
    return [pytest.param(name, marks=[] if quick(name) else pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module")
def network(request):
    """A network, loaded from a checkpoint in the layout of its origin, and its reference numbers."""
    wanted = reference(f"tsm/{request.param}")
    model = kinema.create_model(wanted["model"], len(wanted["logits"]), **wanted["options"]).double().eval()
    kinema.load_checkpoint(model, filled(wanted["shapes"], wanted["fill_scale"]))
    return request.param, model, wanted


def test_all_thirteen_networks_are_here():
    assert len(NAMES) == 13


@pytest.mark.parametrize("network", slow_unless(lambda name: "16f" not in name), indirect=True)
def test_logits(network):
    _, model, wanted = network
    probes = {}
    for stage, module in model.backbone.trunk.named_children():
        module.register_forward_hook(lambda module, inputs, output, stage=stage: probes.update({stage: output}))
    with torch.no_grad():
        logits = model(clip_of(wanted["input_shape"]))[0]
    assert distance(logits, wanted["logits"]) < 1e-6
    for stage, (shape, mean, std, norm) in wanted["probes"].items():
        output = probes[stage]
        assert list(output.shape) == shape
        statistics = torch.stack([output.mean(), output.std(correction=0), output.norm()])
        assert distance(statistics, [mean, std, norm]) < 1e-6, stage


@pytest.mark.parametrize("network", slow_unless(lambda name: "r50" not in name), indirect=True)
def test_logits_of_changed_clips(network):
    """Frames reversed, one gone, one louder than the other: a shift the wrong way round does not pass."""
    _, model, wanted = network
    clip = clip_of(wanted["input_shape"])
    num_frames = clip.shape[2]
    first_frame_gone = clip.clone()
    first_frame_gone[:, :, 0] = 0
    ramp = clip * (torch.arange(1, num_frames + 1) / num_frames)[:, None, None]
    with torch.no_grad():
        assert distance(model(clip.flip(2))[0, :8], wanted["logits_reversed"]) < 1e-6
        assert distance(model(first_frame_gone)[0, :8], wanted["logits_perturbed"]) < 1e-6
        assert distance(model(ramp)[0, :8], wanted["logits_ramp"]) < 1e-6
        assert distance(model(ramp.flip(2))[0, :8], wanted["logits_ramp_reversed"]) < 1e-6


@pytest.mark.parametrize("network", NAMES, indirect=True)
def test_size_and_cost(network):
    name, model, wanted = network
    cost = kinema.profile(model, clip_of(wanted["input_shape"]).shape)
    assert cost.params == wanted["n_params"] + BIASES_MMACTION2_LACKS.get(name, 0)
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)
