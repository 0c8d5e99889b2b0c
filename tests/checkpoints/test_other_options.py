"""Options without tensors: a run says with which it was trained, and a network built with others is refused."""

import pytest
import torch

import kinema
from kinema.training import TSM, TAda2D

from other_layouts import network


def run_of(module):
    """What Lightning writes of a run."""
    checkpoint = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("module", "given", "wanted", "was"),
    [
        (lambda: TSM("nano", 5, causal=True), {}, "causal=True", "causal left at its default"),
        (lambda: TSM("nano", 5), {"causal": True}, "causal=False", "causal=True"),
        (lambda: TSM("nano", 5, shift_fraction=0.5), {}, "shift_fraction=0.5", "shift_fraction left at its default"),
        (
            lambda: TAda2D("nano", 5, aggregation="max"),
            {"aggregation": "avg"},
            "aggregation='max'",
            "aggregation='avg'",
        ),
    ],
)
def test_a_run_with_other_options_is_refused(module, given, wanted, was):
    module = module()
    model = network(module.model_name, seed=1, **given)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"trained with {wanted}; the model was built with {was}, .*{wanted}\\)"):
        kinema.load_checkpoint(model, run_of(module))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert kinema.init_from(model, run_of(module)).loaded


def test_a_run_goes_into_a_network_of_its_own_options():
    for module, given in (
        (TSM("nano", 5), {}),  # what is not given is the default on both sides
        (TSM("nano", 5, causal=True, dropout=0.3), {"causal": True, "dropout": 0.1}),
        (TAda2D("nano", 5, routing_kernels=[3, 3]), {"routing_kernels": (3, 3)}),
    ):
        model = network(module.model_name, seed=1, **given)
        kinema.load_checkpoint(model, run_of(module))
        clip = torch.randn(1, 3, 8, 32, 32)
        torch.testing.assert_close(model.eval()(clip), module.eval()(clip), rtol=0, atol=0)


def test_what_says_no_options_is_loaded():
    weights = TSM("nano", 5, causal=True).state_dict()
    kinema.load_checkpoint(network("tsm_nano"), weights)
    kinema.load_checkpoint(network("tsm_nano"), {"state_dict": weights, "hyper_parameters": {"causal": True}})


def test_a_network_knows_what_it_was_built_with():
    model = kinema.create_model("tsm_nano", 5, 4, causal=True)
    assert model.built_with == {"name": "tsm_nano", "num_classes": 5, "num_frames": 4, "causal": True}
