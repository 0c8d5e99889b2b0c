"""The TAdaConv family against the numbers of its authors' code, to 1e-6 relative in float64.

The numbers have nine digits, so a right network comes to about 1e-9.
"""

import pytest
import torch

import kinema

from fill_rule import clip_of, reference
from networks import COSTLY, bare_network, changed_clips, clip_for, distance, loaded_network, names_of, seen

NAMES = names_of("tada")
QUICK = {"tada2d_r50_8f_k400"}
"""Runs always; the others before a release."""
CHANGED = ["tada2d_r50_8f_k400", "r2plus1d_r50_8f_k400", "slowfast_r50_4x16_32f_k400", "tadaconvnextv2_tiny_16f_k400"]
"""One of each kind that sees time in a way of its own."""


def marked(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def network(request):
    return loaded_network("tada", request.param)


def test_all_networks_are_here():
    assert len(NAMES) == 10


@pytest.mark.parametrize("network", marked(NAMES), indirect=True)
def test_logits(network):
    model, wanted = network
    with torch.no_grad():
        assert distance(model(clip_for(wanted))[0], wanted["logits"]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("network", CHANGED, indirect=True)
def test_logits_of_changed_clips(network):
    model, wanted = network
    with torch.no_grad():
        for change, clip in changed_clips(clip_of(wanted["input_shape"]), costly=wanted["gmacs"] > COSTLY).items():
            assert distance(model(seen(clip, wanted))[0, :8], wanted[f"logits_{change}"]) < 1e-6, change


@pytest.mark.parametrize("name", NAMES)
def test_size_and_cost(name):
    wanted = reference(f"tada/{name}")
    with torch.device("meta"):
        model = bare_network(wanted)
    cost = kinema.profile(model, clip_for(wanted).shape)
    assert cost.params == wanted["n_params"]
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)
