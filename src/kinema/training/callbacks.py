"""What happens around training: checkpoints that resume exactly, damaged videos counted, evaluations written down."""

import json
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from kinema.data.clips import ClipBatch
from kinema.data.decoding import DecodeError
from kinema.data.untrimmed.feature_data import FeatureData
from kinema.evaluation.frame_order import FrameOrder
from kinema.evaluation.metrics import video_metrics
from kinema.training.classifier import VideoClassifier
from kinema.training.record import RunFolder
from kinema.training.recorded import RecordedModule


class Checkpoints(Callback):
    """Keep `last.ckpt` and `best.ckpt` in the run folder.

    `last` is written every `every_steps` optimiser steps, after every epoch, and on SIGTERM. `best` is the epoch whose
    validation was best by the module's headline: top-1, or average mAP. Both replace the old file in one step: a run killed
    while saving keeps the one before. Where gradients of several batches are added up, a file is written behind the step they
    make, and SIGTERM waits for it: no checkpoint holds gradients, so a run would go on without those.
    """

    def __init__(self, run: RunFolder, every_steps: int | None = None) -> None:
        self.run, self.every_steps = run, every_steps
        self.best, self.best_epoch = -1.0, -1
        self._sigterm_waits = False

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        signals = trainer._signal_connector
        if trainer.fit_loop.epoch_loop._should_accumulate():
            if signals.received_sigterm:
                self._sigterm_waits, signals.received_sigterm = True, False
            return
        if self._sigterm_waits:
            self._sigterm_waits, signals.received_sigterm = False, True
        due = self.every_steps and trainer.global_step % self.every_steps == 0
        if due or trainer.received_sigterm:
            self._save(trainer, "last")

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, RecordedModule)
        measured = module.measured("val")
        if measured is not None and measured[module.headline] > self.best:
            self.best, self.best_epoch = measured[module.headline], trainer.current_epoch
            self._save(trainer, "best")
        self._save(trainer, "last")

    def state_dict(self) -> dict[str, Any]:
        return {"best_top1": self.best, "best_epoch": self.best_epoch}  # the name is that of files already written

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best_top1"], state_dict["best_epoch"]

    def _save(self, trainer: Trainer, name: str) -> None:
        target = self.run.checkpoints / f"{name}.ckpt"
        unfinished = target.with_name(f".{name}.unfinished")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            unfinished.replace(target)


class ValidateLast(Callback):
    """Validate the last epoch also where `check_val_every_n_epoch` would leave it out: a run ends with its metrics.

    A run that `max_steps` ends says in a line that its last step was not validated.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.validated_at = -1

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        # Not with the epoch, which does not start where a run goes on in its middle.
        if trainer.check_val_every_n_epoch is not None and trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.validated_at = trainer.global_step

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.enable_validation and self.validated_at != trainer.global_step:
            print(
                f"note: the last step was not validated; 'kinema validate --ckpt_path {self.run.path}' does that",
                file=sys.stderr,
            )


class Report(Callback):
    """Say what is trained on what, and one line per epoch: also where no progress bar is seen, as in a log file."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._introduce(trainer, module, ("train", "val"))

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._introduce(trainer, module, ("val",))

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._introduce(trainer, module, ("test",))

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(module, RecordedModule)
        name = module.headline
        found = {key: float(value) for key, value in trainer.callback_metrics.items()}
        parts = [
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            f"loss {found.get('train/loss', math.nan):.3f}",
        ]
        parts += [
            f"{part} {module.headline_told} {found[f'{part}/{name}']:.1%}"
            for part in ("train", "val")
            if f"{part}/{name}" in found
        ]
        _say(trainer, ", ".join([*parts, f"{time.monotonic() - self._since:.0f} s"]))

    def _introduce(self, trainer: Trainer, module: LightningModule, parts: tuple[str, ...]) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(module, RecordedModule)
        data = trainer.datamodule  # pyrefly: ignore[missing-attribute]
        names = data.class_names
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        counts = " and ".join(f"{_count(data, part)} {_PARTS[part]}" for part in parts)
        millions = sum(parameter.numel() for parameter in module.network.parameters()) / 1e6
        print(f"{len(names)} classes ({shown}), {counts} videos in {data.root}")
        for note in getattr(data, "notes", ()):
            print(note)
        if "test" in parts and getattr(data, "test_is_validation", False):
            print("nothing says which videos are for tests, so those of validation are tested")
        print(f"{module.model_name}, {millions:.2f} M parameters, on {module.device}", flush=True)
        if isinstance(module, VideoClassifier) and trainer.state.fn == "fit" and (told := _step_of(trainer, module)):
            print(told, flush=True)


def _step_of(trainer: Trainer, module: VideoClassifier) -> str | None:
    """How large an optimiser step is and what learning rate follows; None where neither was asked for."""
    options, videos, batches = module.optimizer, module.videos_per_step, trainer.accumulate_grad_batches
    if videos is None or (options.reference_batch_size is None and batches == 1):
        return None
    rate = f"learning rate {options.for_batch(videos).lr:.6g}"
    if options.reference_batch_size is not None:
        rate += f" ({options.lr:.6g} for {options.reference_batch_size})"
    parts = f"{videos // trainer.world_size // batches} x {trainer.world_size} processes x {batches} batches"
    return f"{videos} videos in an optimiser step ({parts}), {rate}"


_PARTS = {"train": "training", "val": "validation", "test": "test"}


def _count(data: Any, part: str) -> int:
    """Videos of a part of the data."""
    return len(data.annotations[part].videos) if isinstance(data, FeatureData) else len(data.manifests[part])


def _say(trainer: Trainer, text: str) -> None:
    bar = trainer.progress_bar_callback
    if bar is not None and sys.stdout.isatty():
        bar.print(text)
    else:
        print(text, flush=True)


class RandomState(Callback):
    """Carry the state of the random number generators over a resume, so that dropout goes on where it was."""

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        version, numbers, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "python": [version, list(numbers), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        # Not earlier: whatever is set up before the first batch may draw numbers too.
        if self._resumed is None:
            return
        state, self._resumed = self._resumed, None
        torch.set_rng_state(state["torch"].cpu())
        if len(state["cuda"]) == torch.cuda.device_count() > 0:
            torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda"]])
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))


class DecodeGuard(Callback):
    """Count the training videos that had to be substituted, write them down, and stop above a share of them.

    One is let pass in however small a set, unless the share allowed is 0.
    """

    def __init__(self, run: RunFolder | None = None) -> None:
        self.run = run
        self.failed: dict[str, str] = {}

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: ClipBatch, index: int
    ) -> None:
        fresh = [(name, reason) for name, reason in batch.get("failures", ()) if name not in self.failed]
        if fresh:
            self.failed.update(fresh)
            self._judge(trainer)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.failed:  # found before a resume
            self._judge(trainer)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.failed and trainer.is_global_zero:
            total = len(trainer.datamodule.manifests["train"])  # pyrefly: ignore[missing-attribute]
            print(
                f"{len(self.failed)} of {total} training videos undecodable and substituted; see {self._path(trainer)}"
            )

    def _judge(self, trainer: Trainer) -> None:
        if self.run is not None:
            self._path(trainer).write_text(json.dumps(self.failed, indent=2) + "\n", encoding="utf-8")
        data = trainer.datamodule  # pyrefly: ignore[missing-attribute]
        total, allowed = len(data.manifests["train"]), data.max_error_rate
        if len(self.failed) > max(allowed * total, 1 if allowed > 0 else 0):
            name, reason = list(self.failed.items())[-1]
            raise DecodeError(
                f"{len(self.failed)} of {total} training videos could not be decoded, more than the {allowed:.1%} allowed by "
                f"--data.max_error_rate; the last was {name}: {reason}. 'kinema data check' finds them all: remove them, or "
                f"allow more with --data.max_error_rate {min(1.0, 2 * len(self.failed) / total):.2f}"
            )

    def _path(self, trainer: Trainer) -> Path:
        assert self.run is not None
        return self.run.path / f"undecodable_train_rank{trainer.global_rank}.json"

    def state_dict(self) -> dict[str, Any]:
        return {"failed": self.failed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.failed = dict(state_dict["failed"])


class RecordEvaluation(Callback):
    """Write what an evaluation found of every video, and `metrics.json`, after each of them.

    After training also the top-1 with the frames of every validation video in other orders, as `top1_<order>`.
    """

    def __init__(self, run: RunFolder, frame_orders: Sequence[FrameOrder] = ()) -> None:
        self.run, self.frame_orders = run, frame_orders
        self.in_order: dict[str, float] = {}
        self.seconds_before = self._saved_seconds = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, resumed parts included."""
        return self.seconds_before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved_seconds = state_dict["seconds"]

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.frame_orders and not isinstance(module, VideoClassifier):
            raise ValueError(
                f"run.frame_orders={list(self.frame_orders)} reorders the frames of videos, and {type(module).__name__} reads "
                "features; leave it out"
            )
        # Only a run that goes on counts the time before; validating a checkpoint does not.
        self.seconds_before, self._saved_seconds = self._saved_seconds, 0.0

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._record(trainer, module, "val")

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._record(trainer, module, "test")

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, RecordedModule)
        module.need_results("val")
        if module.measured("val") is not None:
            for order in self.frame_orders:
                assert isinstance(module, VideoClassifier)
                self.in_order[f"top1_{order}"] = video_metrics(module.evaluate_in_order(order))["top1"]
            self._write_metrics(trainer, module, "val", finished=True)

    def _record(self, trainer: Trainer, module: LightningModule, part: str) -> None:
        assert isinstance(module, RecordedModule)
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        module.write_results(part, self.run, trainer.datamodule)  # pyrefly: ignore[missing-attribute]
        self._write_metrics(trainer, module, part)

    def _write_metrics(self, trainer: Trainer, module: LightningModule, part: str, *, finished: bool = False) -> None:
        assert isinstance(module, RecordedModule)
        if not trainer.is_global_zero:
            return
        callbacks: list[Callback] = trainer.callbacks  # pyrefly: ignore[missing-attribute]
        checkpoints = next((callback for callback in callbacks if isinstance(callback, Checkpoints)), None)
        fitting = trainer.state.fn == "fit"
        count = sum(parameter.numel() for parameter in module.network.parameters())
        facts: dict[str, Any] = {"parameters": count}
        facts |= {"stage": trainer.state.fn.value if trainer.state.fn else None, "part": part}
        if part == "test" and getattr(trainer.datamodule, "test_is_validation", False):  # pyrefly: ignore[missing-attribute]
            facts |= {"test_is_validation": True}
        guard = next((callback for callback in callbacks if isinstance(callback, DecodeGuard)), None)
        if fitting:
            # Lightning counts an epoch as done when its validation has ended, so that one is not counted yet.
            done = trainer.current_epoch + int(trainer.validating or trainer.state.stage == "validate")
            facts |= {"epochs": done, "steps": trainer.global_step, "finished": finished}
            facts |= {"undecodable_train": len(guard.failed) if guard is not None else 0}
        if fitting and checkpoints is not None and checkpoints.best_epoch >= 0:
            facts |= {f"best_{module.headline}": checkpoints.best, "best_epoch": checkpoints.best_epoch + 1}
        measured = (module.measured(part) or {}) | self.in_order
        self.run.write_metrics(measured | {"seconds": round(self.seconds, 2)} | facts)
