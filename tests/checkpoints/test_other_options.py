"""Options without tensors: a run says with which it was trained, and a network built with others is refused."""

import pytest
import torch

import kinema
from kinema.training import (
    R3D,
    TSM,
    R2Plus1D,
    SlowFast,
    SlowOnly,
    TAda2D,
    TAdaConvNeXt,
    TAdaFormer,
    TimeSformer,
    TimeSformerRotary,
    UniFormer,
)

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


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (TimeSformer, {"checkpointing": True}),
        (UniFormer, {"checkpointing": [1, 1, 1, 1]}),
        (TimeSformerRotary, {"attention_dropout": 0.1, "feed_forward_dropout": 0.1}),
    ],
)
def test_options_of_training_alone_do_not_matter(module, options):
    module = module("nano", 5, **options)
    model = network(module.model_name, seed=1)
    kinema.load_checkpoint(model, run_of(module))
    clip = torch.randn(1, 3, 8, 64, 64)
    torch.testing.assert_close(model.eval()(clip), module.eval()(clip), rtol=0, atol=0)


@pytest.mark.parametrize(
    "module",
    [
        TimeSformer,
        UniFormer,
        TimeSformerRotary,
        TAdaFormer,
        TAdaConvNeXt,
        R3D,
        R2Plus1D,
        SlowOnly,
        SlowFast,
        lambda *arguments: R3D(*arguments, tada="3d", routing_ratio=2),
    ],
)
def test_what_a_run_leaves_to_its_size_or_passes_by_is_no_difference(module):
    """Such options stand in the checkpoint as None, or with values for which there is no use."""
    module = module("nano", 5)
    options = {"tada": "3d", "routing_ratio": 2} if module.hparams.get("tada") == "3d" else {}
    assert kinema.load_checkpoint(network(module.model_name, **options), run_of(module)).loaded


@pytest.mark.parametrize(
    ("module", "given", "message"),
    [
        (
            lambda: TimeSformer("nano", 5, position_resize="nearest"),
            {},
            "with position_resize='nearest'; the model was built with position_resize left at its default",
        ),
        (
            lambda: TimeSformer("nano", 5),
            {"qk_scale": 0.5},
            r"with qk_scale left at its default; the model was built with qk_scale=0.5.*'timesformer_nano', \.\.\.\), or",
        ),
        (
            lambda: SlowFast("nano", 5),
            {"alpha": 2},
            "with alpha left at its default; the model was built with alpha=2",
        ),
    ],
)
def test_what_a_run_says_still_counts(module, given, message):
    module = module()
    with pytest.raises(ValueError, match=f"trained {message}"):
        kinema.load_checkpoint(network(module.model_name, **given), run_of(module))


def test_what_says_no_options_is_loaded():
    weights = TSM("nano", 5, causal=True).state_dict()
    kinema.load_checkpoint(network("tsm_nano"), weights)
    kinema.load_checkpoint(network("tsm_nano"), {"state_dict": weights, "hyper_parameters": {"causal": True}})


def test_a_network_knows_what_it_was_built_with():
    model = kinema.create_model("tsm_nano", 5, 4, causal=True)
    assert model.built_with == {"name": "tsm_nano", "num_classes": 5, "num_frames": 4, "causal": True}
