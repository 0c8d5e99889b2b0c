"""TimeSformer with rotary positions against the numbers of lucidrains/TimeSformer-pytorch, to 1e-8 relative in float64.

The networks are small, so all runs always. `rotary_shift_keepbuf` is `rotary_shift` with the frequencies as that code makes
them, in float32, whose last digits move the logits by 6e-8; elsewhere the rule draws them like any other tensor.
"""

import pytest
import torch

import kinema

from fill_rule import clip_of, reference
from networks import bare_network, changed_clips, distance, loaded_network, names_of

NAMES = names_of("timesformer_rotary")


@pytest.fixture(scope="module", params=NAMES)
def network(request):
    return loaded_network("timesformer_rotary", request.param)


def test_all_networks_are_here():
    assert NAMES == ["norotary_noshift", "rotary_shift", "rotary_shift_keepbuf"]


def test_logits(network):
    model, wanted = network
    with torch.no_grad():
        assert distance(model(clip_of(wanted["input_shape"]))[0], wanted["logits"]) < 1e-8


def test_logits_of_changed_clips(network):
    model, wanted = network
    with torch.no_grad():
        for change, clip in changed_clips(clip_of(wanted["input_shape"])).items():
            assert distance(model(clip)[0, :8], wanted[f"logits_{change}"]) < 1e-8, change


def test_tokens_of_every_step(network):
    """Mean, standard deviation and l2 norm of what their modules return; the order of tokens does not matter to these."""
    model, wanted = network
    first, last = model.backbone.blocks[0], model.backbone.blocks[-1]
    seen = {}

    def keep(name, module):
        def hook(module, inputs, output):
            seen.setdefault(name, []).append(output)

        return module.register_forward_hook(hook)

    parts = {"layers.0.0": first.time, "layers.0.1": first.space, "layers.0.2": first.mlp, "layers.1.2": last.mlp}
    parts |= {"to_patch_embedding": model.backbone.patch_embed["proj"], "to_out.0": model.backbone.norm}
    hooks = [keep(name, module) for name, module in parts.items()]
    with torch.no_grad():
        model(clip_of(wanted["input_shape"]))
    for hook in hooks:
        hook.remove()
    assert set(seen) == set(wanted["probes"])
    for name, outputs in seen.items():
        tokens = [part for output in outputs for part in (output if isinstance(output, tuple) else (output,))]
        tokens = torch.cat([part.flatten() for part in tokens])
        shape, *statistics = wanted["probes"][name]
        assert tokens.numel() == torch.Size(shape).numel(), name
        got = torch.stack([tokens.mean(), tokens.std(correction=0), tokens.norm()])
        assert distance(got, statistics) < 1e-8, name


def test_frequencies_are_made_as_theirs():
    wanted = reference("timesformer_rotary/rotary_shift_keepbuf")
    state = bare_network(wanted).state_dict()
    for ours, theirs in (
        ("rotary.time.inv_freqs", "frame_rot_emb.inv_freqs"),
        ("rotary.space.scales", "image_rot_emb.scales"),
    ):
        torch.testing.assert_close(state[f"backbone.{ours}"], torch.tensor(wanted["constructed"][theirs]))


def test_the_layout_of_the_reference_is_not_the_default():
    """Loaded all the same, the weights would give other logits."""
    wanted = reference("timesformer_rotary/rotary_shift_keepbuf")
    source, _ = loaded_network("timesformer_rotary", "rotary_shift_keepbuf")
    options = {**wanted["options"], "rotary_layout": "interleaved"}
    model = bare_network({**wanted, "options": options}).double().eval()
    model.load_state_dict(source.state_dict())
    with torch.no_grad():
        assert distance(model(clip_of(wanted["input_shape"]))[0], wanted["logits"]) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_size_and_cost(name):
    wanted = reference(f"timesformer_rotary/{name}")
    with torch.device("meta"):
        model = bare_network(wanted)
    cost = kinema.profile(model, clip_of(wanted["input_shape"]).shape)
    assert cost.params == wanted["n_params"]
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)
