"""The moving average of the weights: what it is, what sees it, and how a run goes on with it."""

import json
import shutil
import types
from typing import ClassVar

import pytest
import torch
from lightning import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from kinema.training.averaging import AverageWeights, Ema
from kinema.training.callbacks import Checkpoints
from kinema.training.restore import load_classifier

EMA = ("--ema.decay", 0.8)
RUN = ("--trainer.max_epochs", 1, "--trainer.log_every_n_steps", 1, "--model.dropout", 0.5)


class Watch(Callback):
    """Keep the weights at the start and after every batch, and what validation saw."""

    seen: ClassVar[list] = []
    validated: ClassVar[list] = []

    def on_train_start(self, trainer, module):
        Watch.seen, Watch.validated = [self.copy(module)], []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        Watch.seen.append(self.copy(module))

    def on_validation_batch_end(self, trainer, module, outputs, batch, index):
        Watch.validated.append(self.copy(module))

    def on_train_epoch_end(self, trainer, module):
        Watch.after = self.copy(module)

    @staticmethod
    def copy(module):
        return {f"network.{name}": value.clone() for name, value in module.network.state_dict().items()}


WATCH = ("--trainer.callbacks+", "test_averaging.Watch")


def read(run, name="last"):
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def network_of(state):
    return {name: value for name, value in state.items() if name.startswith("network.")}


@pytest.mark.parametrize("accumulated", [1, 3])
def test_it_is_the_average_of_every_step_and_validation_sees_it(cli, accumulated):
    run = cli("fit", *RUN, *EMA, *WATCH, "--trainer.accumulate_grad_batches", accumulated)
    steps = Watch.seen[accumulated::accumulated]
    average = {name: value.double() for name, value in Watch.seen[0].items()}
    for weights in steps:
        for name, value in weights.items():
            average[name] = 0.8 * average[name] + 0.2 * value if value.is_floating_point() else value
    checkpoint = read(run)
    held, trained = network_of(checkpoint["state_dict"]), checkpoint["trained_weights"]
    assert checkpoint["global_step"] == len(steps) == 9 // accumulated
    for name, value in average.items():
        torch.testing.assert_close(held[name].double(), value.double(), rtol=1e-4, atol=1e-6)
    assert equal(trained, Watch.seen[-1]) and not equal(trained, held)
    assert Watch.validated and all(equal(weights, held) for weights in Watch.validated)
    assert equal(Watch.after, trained)


def test_scores_of_the_run_are_those_of_its_checkpoint_and_of_the_restored_model(cli):
    run = cli("fit", *RUN, *EMA)
    again = cli("validate", "--ckpt_path", run)
    assert (run / "val_scores.csv").read_text() == (again / "val_scores.csv").read_text()
    module = load_classifier(run / "checkpoints" / "last.ckpt")
    assert equal(Watch.copy(module), network_of(read(run)["state_dict"]))


def test_a_resumed_run_is_the_uninterrupted_one(cli, monkeypatch):
    saved = Checkpoints._save

    def save(self, trainer, name):
        saved(self, trainer, name)
        kept = self.run.checkpoints / f"step{trainer.global_step}.ckpt"
        if name == "last" and not kept.exists():
            shutil.copy(self.run.last, kept)

    monkeypatch.setattr(Checkpoints, "_save", save)
    options = ("fit", *RUN, *EMA, "--ema.warmup", "true", "--trainer.max_epochs", 2)
    whole = cli(*options, "--run.checkpoint_every_steps", 1)
    for step in (4, 12):
        resumed = cli(*options, "--ckpt_path", whole / "checkpoints" / f"step{step}.ckpt")
        for part in ("state_dict", "trained_weights"):
            assert equal(read(resumed)[part], read(whole)[part]), f"{part} differs after resuming at step {step}"
        metrics = [json.loads((run / "metrics.json").read_text()) for run in (whole, resumed)]
        assert metrics[0]["top1"] == metrics[1]["top1"]


def test_averaged_weights_are_not_trained_on_without_a_word(cli):
    run = cli("fit", *RUN, *EMA)
    cli("fit", *RUN, "--trainer.max_epochs", 2, "--ckpt_path", run, status=1)
    assert "give the run's --ema.decay, or start from the averaged weights with --init_from" in cli.output.err
    plain = cli("fit", *RUN)
    assert "trained_weights" not in read(plain)
    resumed = cli("fit", *RUN, *EMA, "--trainer.max_epochs", 2, "--ckpt_path", plain)
    assert "holds no average of the weights; it starts now" in cli.output.err
    assert "trained_weights" in read(resumed)


def test_without_it_nothing_changes(cli):
    run, averaged = cli("fit", *RUN), cli("fit", *RUN, *EMA)
    assert equal(network_of(read(run)["state_dict"]), read(averaged)["trained_weights"])


def test_the_share_and_its_warm_up():
    assert [Ema(0.9).share(step) for step in (0, 5, 1000)] == [0.9] * 3
    assert [Ema(0.9, warmup=True).share(step) for step in (0, 8, 1000)] == [0.1, 0.5, 0.9]
    with pytest.raises(ValueError, match=r"ema.decay must be in \[0, 1\), got 1.0"):
        Ema(1.0)
    with pytest.raises(ValueError, match=r"given without ema\.decay"):
        Ema(warmup=True)


def test_parts_of_weights_are_refused():
    trainer = types.SimpleNamespace(strategy=ModelParallelStrategy())
    with pytest.raises(ValueError, match=r"ema\.decay was given with a strategy that shares out the weights"):
        AverageWeights(Ema(0.9)).setup(trainer, None, "fit")
