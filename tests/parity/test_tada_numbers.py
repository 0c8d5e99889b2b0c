"""The TAdaConv family against the numbers of its authors' code, to 1e-6 relative in float64.

The numbers have nine digits, so a right network comes to about 1e-9.
"""

from pathlib import Path

import pytest
import torch
from fill_rule import clip_of, filled, reference

import kinema

NAMES = sorted(path.stem for path in (Path(__file__).parent / "tada").glob("*.json") if path.stem != "operators")
QUICK = {"tada2d_r50_8f_k400"}
"""Runs always; the others before a release."""
CHANGED = ["tada2d_r50_8f_k400", "r2plus1d_r50_8f_k400", "slowfast_r50_4x16_32f_k400", "tadaconvnextv2_tiny_16f_k400"]
"""One of each kind that sees time in a way of its own."""


def marked(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def distance(got, wanted):
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    return ((got - wanted).norm() / wanted.norm()).item()


def seen(clip, wanted):
    """What the network takes: SlowOnly the slow frames of a clip for SlowFast, the others all of it."""
    if wanted["model"] != "slowonly_r50":
        return clip
    slow, fast = wanted["input_shape"]
    return clip[:, :, :: fast[2] // slow[2]]


@pytest.fixture(scope="module")
def network(request):
    """A network, loaded from a checkpoint in the authors' layout, and its reference numbers."""
    wanted = reference(f"tada/{request.param}")
    frames = seen(clip_of(wanted["input_shape"]), wanted).shape[2]
    model = kinema.create_model(wanted["model"], len(wanted["logits"]), frames, **wanted["options"]).double().eval()
    report = kinema.load_checkpoint(model, filled(wanted["shapes"], wanted["fill_scale"]))
    assert not report.initial and not report.refused
    return model, wanted


def test_all_networks_are_here():
    assert len(NAMES) == 10


@pytest.mark.parametrize("network", marked(NAMES), indirect=True)
def test_logits(network):
    model, wanted = network
    with torch.no_grad():
        assert distance(model(seen(clip_of(wanted["input_shape"]), wanted))[0], wanted["logits"]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("network", CHANGED, indirect=True)
def test_logits_of_changed_clips(network):
    """Frames reversed, one gone, one louder than the other: what sees time the wrong way round does not pass."""
    model, wanted = network
    clip = clip_of(wanted["input_shape"])
    num_frames = clip.shape[2]
    first_frame_gone = clip.clone()
    first_frame_gone[:, :, 0] = 0
    ramp = clip * (torch.arange(1, num_frames + 1) / num_frames)[:, None, None]
    with torch.no_grad():
        assert distance(model(seen(clip.flip(2), wanted))[0, :8], wanted["logits_reversed"]) < 1e-6
        assert distance(model(seen(first_frame_gone, wanted))[0, :8], wanted["logits_perturbed"]) < 1e-6
        assert distance(model(seen(ramp, wanted))[0, :8], wanted["logits_ramp"]) < 1e-6
        assert distance(model(seen(ramp.flip(2), wanted))[0, :8], wanted["logits_ramp_reversed"]) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_size_and_cost(name):
    wanted = reference(f"tada/{name}")
    clip = seen(clip_of(wanted["input_shape"]), wanted)
    with torch.device("meta"):
        model = kinema.create_model(wanted["model"], len(wanted["logits"]), clip.shape[2], **wanted["options"])
    cost = kinema.profile(model, clip.shape)
    assert cost.params == wanted["n_params"]
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)
