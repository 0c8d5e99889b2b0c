"""UniFormer against the numbers of its authors' code, to 1e-8 relative in float64.

The numbers have nine digits, so a right network comes to about 1e-9; the wrong epsilon in the norms of its patch embeddings
makes 9e-7.
"""

import json

import pytest
import torch

import kinema
from kinema.checkpoints.inflate import inflate

from fill_rule import HERE, clip_of, filled, reference
from networks import bare_network, changed_clips, clip_for, distance, loaded_network, names_of

NAMES = names_of("uniformer")
QUICK = {"uniformer_s_8f_k400"}
"""Runs always; the others before a release."""
CHANGED = ["uniformer_s_8f_split_k400", "uniformer_s_8f_std_k400"]
INITIAL = json.loads((HERE / "uniformer_initial_values.json").read_text())
RULE = json.loads((HERE / "uniformer_inflation.json").read_text())


def marked(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def network(request):
    return loaded_network("uniformer", request.param)


def test_all_networks_are_here():
    assert len(NAMES) == 5


@pytest.mark.parametrize("network", marked(NAMES), indirect=True)
def test_logits(network):
    model, wanted = network
    with torch.no_grad():
        assert distance(model(clip_for(wanted))[0], wanted["logits"]) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("network", CHANGED, indirect=True)
def test_logits_of_changed_clips(network):
    model, wanted = network
    with torch.no_grad():
        for change, clip in changed_clips(clip_of(wanted["input_shape"])).items():
            assert distance(model(clip)[0, :8], wanted[f"logits_{change}"]) < 1e-8, change


@pytest.mark.parametrize("name", NAMES)
def test_size_and_cost(name):
    wanted = reference(f"uniformer/{name}")
    with torch.device("meta"):
        model = bare_network(wanted)
    cost = kinema.profile(model, clip_for(wanted).shape)
    assert cost.params == wanted["n_params"]
    assert cost.macs / 1e9 == pytest.approx(wanted["gmacs"], rel=0.005)


def test_initial_values_are_those_of_the_authors():
    """Mean and standard deviation of every tensor, against one draw of their code: both are samples."""
    torch.manual_seed(0)
    state = kinema.create_model("uniformer_s").state_dict()
    for theirs, (mean, std) in INITIAL["uniformer_s"].items():
        value = state[
            theirs.replace("head.", "head.fc.") if theirs.startswith("head.") else f"backbone.{theirs}"
        ].double()
        margin = 5 * std * (2 / value.numel()) ** 0.5 + 1e-9
        assert value.mean().item() == pytest.approx(mean, abs=margin), theirs
        assert value.std(correction=0).item() == pytest.approx(std, abs=margin), theirs


@pytest.mark.parametrize(("at_centre", "key"), [(False, "per_tap_l2_default"), (True, "per_tap_l2_center")])
def test_kernels_of_images_are_inflated_as_the_authors_do(at_centre, key):
    image = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    image *= RULE["source_l2"] / image.norm()
    kernel, _ = inflate("kernel", image, (4, 1, 3, 3, 3), centred=at_centre)
    assert [kernel[:, :, tap].norm().item() for tap in range(3)] == pytest.approx(RULE[key], abs=1e-6)
    torch.testing.assert_close(kernel.sum(dim=2), image)


def test_the_names_of_their_checkpoints_are_all_used():
    wanted = reference("uniformer/uniformer_s_8f_k400")
    model = kinema.create_model("uniformer_s")
    report = kinema.load_checkpoint(model, {"model_state": filled(wanted["shapes"], {})})
    assert len(report.loaded) == len(model.state_dict()) == 331
    assert report.source == (
        "the UniFormer authors' code: UniFormer-S with 11 global relations, 7 local relations over 5 x 5 x 5, "
        "18 position embeddings, 400 classes"
    )
