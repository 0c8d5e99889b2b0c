"""TimeSformer against the numbers of its authors' code, to 1e-6 relative in float64, the two large ones to 1e-4 in float32.

The numbers have nine digits, so a right network comes to about 1e-9.
"""

import pytest
import torch

import kinema

from fill_rule import reference
from networks import bare_network, changed_clips, clip_for, distance, loaded_network, names_of

NAMES = names_of("timesformer")
QUICK = "timesformer_b16_8x224_divst_k400_input_4x160"
"""A clip of other sizes than the network: positions resized as the authors do. The others before a release."""


@pytest.fixture(scope="module")
def network(request):
    return loaded_network("timesformer", request.param)


def test_all_networks_are_here():
    assert len(NAMES) == 4


@pytest.mark.parametrize(
    "network", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES], indirect=True
)
def test_logits(network):
    """The two large networks, whose blocks are those of the others, in single precision: half of three minutes each."""
    model, wanted = network
    large = wanted["gmacs"] > 1000
    model, clip = (part.float() if large else part for part in (model, clip_for(wanted)))
    with torch.no_grad():
        assert distance(model(clip)[0], wanted["logits"]) < (1e-4 if large else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("network", [QUICK], indirect=True)
def test_logits_of_changed_clips(network):
    model, wanted = network
    with torch.no_grad():
        for change, clip in changed_clips(clip_for(wanted)).items():
            assert distance(model(clip)[0, :8], wanted[f"logits_{change}"]) < 1e-6, change


@pytest.mark.slow
@pytest.mark.parametrize("network", [QUICK], indirect=True)
def test_tokens_of_every_step(network):
    """Mean, standard deviation and l2 norm of what the authors' modules return; token order does not matter to these."""
    model, wanted = network
    block = model.backbone.blocks[0]
    seen = {}
    for name, module in (
        ("model.blocks.0.temporal_attn", block.gated["time"].attn),
        ("model.blocks.0.temporal_fc", block.gated["time"].fc),
        ("model.blocks.0.attn", block.attn),
    ):
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
    for index in (0, 5, 11):
        model.backbone.blocks[index].register_forward_hook(
            lambda module, inputs, output, index=index: seen.update(
                {f"model.blocks.{index}": torch.cat([output.classes, output.patches.flatten(1, 3)], dim=1)}
            )
        )
    with torch.no_grad():
        model(clip_for(wanted))
    for name, tokens in seen.items():
        shape, *statistics = wanted["probes"][name]
        assert tokens.numel() == torch.Size(shape).numel()
        assert distance(torch.stack([tokens.mean(), tokens.std(correction=0), tokens.norm()]), statistics) < 1e-6, name
    assert len(seen) == 6


@pytest.mark.parametrize("name", NAMES)
def test_size_and_cost(name):
    wanted = reference(f"timesformer/{name}")
    with torch.device("meta"):
        model = bare_network(wanted)
    cost = kinema.profile(model, clip_for(wanted).shape)
    assert cost.params == wanted["n_params"]
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)
