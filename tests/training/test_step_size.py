"""Videos in an optimiser step, and the learning rate that follows."""

import pytest
import torch

from kinema.training import Optimizer

RUN = ("--trainer.max_epochs", 1)
REFERENCE = "--model.optimizer.reference_batch_size"


def rates(run):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    return {group["name"]: group["initial_lr"] for group in state["param_groups"]}


def test_the_rate_is_proportional_to_the_videos_of_a_step(cli):
    plain = rates(cli("fit", *RUN))
    assert "optimiser step" not in cli.output.out
    # 4 videos a batch, and 3 batches a step: 12 of 48.
    scaled = rates(cli("fit", *RUN, REFERENCE, 48, "--trainer.accumulate_grad_batches", 3))
    assert "12 videos in an optimiser step (4 x 1 processes x 3 batches), learning rate" in cli.output.out
    assert scaled.keys() == plain.keys()
    for name, rate in plain.items():
        assert scaled[name] == pytest.approx(rate / 4)


def test_batches_are_added_up_to_the_videos_asked_for(cli):
    run = cli("fit", *RUN, "--run.videos_per_step", 12)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 3  # 36 videos
    assert "12 videos in an optimiser step" in cli.output.out
    cli("fit", *RUN, "--run.videos_per_step", 10, status=1)
    assert "10 videos in a step are no whole number of batches of 4 on 1 process" in cli.output.err
    cli("fit", *RUN, "--run.videos_per_step", 12, "--trainer.accumulate_grad_batches", 2, status=1)
    assert "give one of them" in cli.output.err


def test_the_rule_needs_a_number():
    assert Optimizer(lr=0.1).for_batch(None) == Optimizer(lr=0.1)
    assert Optimizer(lr=0.1, reference_batch_size=64).for_batch(16).lr == pytest.approx(0.025)
    with pytest.raises(ValueError, match="the data does not say how large that is"):
        Optimizer(reference_batch_size=64).for_batch(None)
    with pytest.raises(ValueError, match="reference_batch_size must be at least 1, got 0"):
        Optimizer(reference_batch_size=0)
