"""TSN and TSM against the numbers of the TSM authors' code and of mmaction2's, to 1e-6 relative in float64.

The numbers have nine digits, so a right network comes to about 1e-9.
"""

import pytest
import torch

import kinema

from fill_rule import reference
from networks import COSTLY, bare_network, changed_clips, clip_for, distance, expected_params, loaded_network, names_of

NAMES = names_of("tsm")


def slow_unless(quick):
    return [pytest.param(name, marks=[] if quick(name) else pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module")
def network(request):
    return loaded_network("tsm", request.param)


def test_all_thirteen_networks_are_here():
    assert len(NAMES) == 13


@pytest.mark.parametrize("network", slow_unless(lambda name: "16f" not in name), indirect=True)
def test_logits(network):
    model, wanted = network
    probes = {}
    for stage, module in model.backbone.trunk.named_children():
        module.register_forward_hook(lambda module, inputs, output, stage=stage: probes.update({stage: output}))
    with torch.no_grad():
        logits = model(clip_for(wanted))[0]
    assert distance(logits, wanted["logits"]) < 1e-6
    for stage, (shape, mean, std, norm) in wanted["probes"].items():
        output = probes[stage]
        assert list(output.shape) == shape
        statistics = torch.stack([output.mean(), output.std(correction=0), output.norm()])
        assert distance(statistics, [mean, std, norm]) < 1e-6, stage


@pytest.mark.parametrize("network", slow_unless(lambda name: "r50" not in name), indirect=True)
def test_logits_of_changed_clips(network):
    model, wanted = network
    with torch.no_grad():
        for change, clip in changed_clips(clip_for(wanted), costly=wanted["gmacs"] > COSTLY).items():
            assert distance(model(clip)[0, :8], wanted[f"logits_{change}"]) < 1e-6, change


@pytest.mark.parametrize("name", NAMES)
def test_size_and_cost(name):
    wanted = reference(f"tsm/{name}")
    with torch.device("meta"):
        model = bare_network(wanted)
    cost = kinema.profile(model, clip_for(wanted).shape)
    assert cost.params == expected_params("tsm", name, wanted)
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)
