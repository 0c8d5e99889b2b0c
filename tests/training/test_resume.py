"""A resumed run is the uninterrupted run: samples, losses and final weights, to the bit."""

import json
import os
import shutil
import signal

import pytest
import torch
from lightning import Callback

from kinema.training.callbacks import Checkpoints

# Dropout makes the run depend on torch's generator, two workers on how far they prepared ahead.
RUN = ("--trainer.max_epochs", 2, "--model.dropout", 0.5, "--trainer.log_every_n_steps", 1)


def losses(run):
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture
def keep_every_step(monkeypatch):
    """Keep a copy of the checkpoint of every step, as a run killed there would leave it."""
    saved = Checkpoints._save

    def save(self, trainer, name):
        saved(self, trainer, name)
        if name == "last":
            kept = self.run.checkpoints / f"step{trainer.global_step}.ckpt"
            if not kept.exists():
                shutil.copy(self.run.last, kept)

    monkeypatch.setattr(Checkpoints, "_save", save)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_from_any_step_to_the_same_weights(cli, keep_every_step, workers):
    whole = cli("fit", *RUN, "--run.checkpoint_every_steps", 1, "--data.num_workers", workers)
    assert len(losses(whole)) == 18
    # Within the first epoch, at its last batch, and within the second.
    for step in (4, 9, 12):
        checkpoint = whole / "checkpoints" / f"step{step}.ckpt"
        resumed = cli("fit", *RUN, "--ckpt_path", checkpoint, "--data.num_workers", 2 - workers)
        assert losses(resumed) == {at: loss for at, loss in losses(whole).items() if at >= step}
        for name, value in weights(whole).items():
            assert torch.equal(value, weights(resumed)[name]), f"{name} differs after resuming at step {step}"


class Terminate(Callback):
    """What a cluster does to a job whose time is up, in the middle of a step."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_leaves_a_checkpoint_that_goes_on_exactly(cli):
    whole = cli("fit", *RUN)
    stopped = cli("fit", *RUN, "--trainer.callbacks+", "test_resume.Terminate", status=143)
    assert "go on with --ckpt_path" in cli.output.err
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    resumed = cli("fit", *RUN, "--ckpt_path", stopped)
    assert {**losses(stopped), **losses(resumed)} == losses(whole)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name])


class TerminateBetweenSteps(Callback):
    """While the gradients of three batches are added up."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == 0 and index == 4:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_added_up_gradients_make_their_step_before_a_run_stops_or_saves(cli, monkeypatch):
    saved = []
    save = Checkpoints._save

    def watched(self, trainer, name):
        saved.append((name, trainer.global_step, trainer.fit_loop.epoch_loop._should_accumulate()))
        save(self, trainer, name)

    monkeypatch.setattr(Checkpoints, "_save", watched)
    summed = (*RUN, "--trainer.accumulate_grad_batches", 3)
    whole = cli("fit", *summed, "--run.checkpoint_every_steps", 2)
    assert [step for name, step, _ in saved if name == "last"] == [2, 3, 4, 6, 6]
    stopped = cli("fit", *summed, "--trainer.callbacks+", "test_resume.TerminateBetweenSteps", status=143)
    assert saved[-1] == ("last", 2, False)
    resumed = cli("fit", *summed, "--ckpt_path", stopped)
    assert {**losses(stopped), **losses(resumed)} == losses(whole)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), f"{name} differs"


def test_going_on_in_the_same_folder_appends_and_keeps_the_time(cli):
    first = cli("fit", "--trainer.max_epochs", 1)
    seconds = json.loads((first / "metrics.json").read_text())["seconds"]
    second = cli("fit", "--trainer.max_epochs", 2, "--ckpt_path", first, "--run.id", first.name)
    assert second == first
    epochs = {json.loads(line)["epoch"] for line in (first / "history.jsonl").read_text().splitlines()}
    assert epochs == {0, 1}
    assert json.loads((first / "metrics.json").read_text())["seconds"] > seconds
