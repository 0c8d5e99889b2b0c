"""Mixed and repeated batches in training: what the loss sees, what accuracy does not, and that runs repeat exactly."""

import json
from typing import ClassVar

import pytest
import torch
from lightning import Callback

from kinema.training import TSM, UniFormer, VideoClassifier

RUN = ("--trainer.max_epochs", 1, "--trainer.log_every_n_steps", 1, "--model.dropout", 0.5)


class Watch(Callback):
    """Keep the batches that training and validation saw."""

    trained: ClassVar[list] = []
    validated: ClassVar[list] = []

    def on_train_start(self, trainer, module):
        Watch.trained, Watch.validated = [], []

    def on_train_batch_start(self, trainer, module, batch, index):
        Watch.trained.append(batch)

    def on_validation_batch_start(self, trainer, module, batch, index):
        Watch.validated.append(batch)


WATCH = ("--trainer.callbacks+", "test_mixed_batches.Watch")


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def losses(run):
    return {line["step"]: line["train/loss"] for line in history(run) if "train/loss" in line}


def test_training_is_mixed_and_validation_is_not(cli, monkeypatch):
    trained_on, loss_of = [], VideoClassifier.logits_and_loss

    def recording(self, clip, label):
        trained_on.append(label)
        return loss_of(self, clip, label)

    monkeypatch.setattr(VideoClassifier, "logits_and_loss", recording)
    run = cli("fit", *RUN, "--data.mixing.mixup", 0.8, *WATCH)
    assert len(Watch.trained) == 9 and all("target" in batch for batch in Watch.trained)
    assert {batch["clip"].dtype for batch in Watch.trained} == {torch.uint8, torch.float32}  # CutMix and MixUp
    assert all(torch.equal(label, batch["target"]) for label, batch in zip(trained_on, Watch.trained, strict=True))
    for batch in Watch.trained:
        torch.testing.assert_close(batch["target"].sum(1), torch.ones(len(batch["label"])))
        assert (batch["target"].gather(1, batch["label"][:, None]) > 0).all()
    assert not any("target" in batch or "seed" in batch for batch in Watch.validated)
    # Of no one class, so no accuracy; the loss is that of soft labels.
    assert not any("train/top1" in line for line in history(run))
    assert json.loads((run / "metrics.json").read_text())["videos"] == 24


def test_accuracy_counts_the_batches_that_were_not_mixed(cli):
    run = cli("fit", *RUN, "--data.mixing.probability", 0.5, *WATCH)
    mixed = ["target" in batch for batch in Watch.trained]
    assert any(mixed) and not all(mixed)
    assert any("train/top1" in line for line in history(run))


class StopAt(Callback):
    """End a run in the middle of its first epoch, with a checkpoint."""

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        trainer.should_stop = trainer.global_step == 5
        if trainer.should_stop:
            trainer.save_checkpoint(trainer.default_root_dir + "/half.ckpt")


@pytest.mark.slow
def test_a_resumed_run_mixes_as_the_uninterrupted_one_whatever_the_workers(cli):
    options = ["--data.mixing.mixup", 0.8, "--data.num_repeats", 2]
    options = ["fit", *RUN, *options, "--data.augment.rand_augment", "rand-m7-n2-mstd0.5-inc1"]
    whole = cli(*options)
    half = cli(*options, "--trainer.callbacks+", "test_mixed_batches.StopAt")
    resumed = cli(*options, "--ckpt_path", half / "half.ckpt", "--data.num_workers", 2)
    assert losses(resumed) == {step: loss for step, loss in losses(whole).items() if step >= 5}


def test_repeats_are_of_one_clip_with_new_draws(cli):
    cli("fit", *RUN, "--data.num_repeats", 3, "--data.train_crop", "random_resized", *WATCH)
    for batch in Watch.trained:
        assert batch["clip"].shape[0] == 12
        assert torch.equal(batch["video"], batch["video"][::3].repeat_interleave(3))
        assert torch.equal(batch["start"], batch["start"][::3].repeat_interleave(3))
        assert not any(torch.equal(batch["clip"][i], batch["clip"][i + 1]) for i in range(0, 12, 3))
        assert len(batch["names"]) == 12


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_are_smoothed_as_the_papers_do(smoothing):
    module = TSM("nano", num_classes=4, label_smoothing=smoothing)
    logits = torch.randn(2, 4)
    target = torch.tensor([[0.7, 0.0, 0.3, 0.0], [0.0, 1.0, 0.0, 0.0]])
    smooth = (1 - smoothing) * target + smoothing / 4
    wanted = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module.cross_entropy(logits, target), wanted)
    ids = torch.tensor([0, 1])
    one_hot = torch.nn.functional.one_hot(ids, 4).float()
    torch.testing.assert_close(module.cross_entropy(logits, ids), module.cross_entropy(logits, one_hot))


def test_a_network_with_two_heads_takes_soft_labels_too():
    module = UniFormer("nano", num_classes=3, light=True, class_head=True)
    target = torch.tensor([[0.5, 0.5, 0.0]])
    logits, loss = module.logits_and_loss(torch.randn(1, 3, 4, 32, 32), target)
    assert logits.shape == (1, 3) and torch.isfinite(loss)
