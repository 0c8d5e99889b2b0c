"""Exponential moving average of the weights: what is evaluated and kept, beside what is trained."""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor

# Beside "state_dict" in a checkpoint: the weights that were trained, where "state_dict" holds their average.
TRAINED = "trained_weights"


@dataclass(frozen=True)
class Ema:
    """Options of the moving average of the weights.

    Args:
        decay: Share of the average that stays at each optimiser step, such as 0.9999; no average when None.
        warmup: Let the share grow from 0.1 as (1 + step) / (10 + step) until it reaches `decay`, so that a short run forgets
            its first weights.
    """

    decay: float | None = None
    warmup: bool = False

    def __post_init__(self) -> None:
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(f"ema.decay must be in [0, 1), got {self.decay}; 0.9999 is usual")
        if self.warmup and self.decay is None:
            raise ValueError("ema.warmup was given without ema.decay; give one, such as 0.9999")

    def share(self, step: int) -> float:
        """Of the average that stays at optimiser step `step`, counted from 0."""
        assert self.decay is not None
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay


class AverageWeights(Callback):
    """Average the weights after each optimiser step: a <- d a + (1 - d) w, statistics of norms included.

    Polyak and Juditsky 1992 in the exponential form that timm's and PySlowFast's models use. Validation and test see the
    average, as do checkpoints read by anything but a resumed training: their `state_dict` is the average, and the trained
    weights lie beside it, so that a resumed run goes on exactly. When training ends the network holds the average.

    Lightning's own `WeightAveraging` calls `configure_model` a second time, which kinema's modules use to read initial
    weights, and lets a run go on from averaged weights without a word where the callback is missing.
    """

    def __init__(self, ema: Ema) -> None:
        self.ema = ema
        self._average: dict[str, Tensor] = {}
        self._aside: dict[str, Tensor] | None = None
        self._step = 0

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if stage == "fit" and isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise ValueError(
                "ema.decay was given with a strategy that shares out the weights; use --trainer.strategy ddp, or "
                "leave the average out"
            )

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        weights = _weights(module)
        if not self._average:
            self._average = {name: value.detach().clone() for name, value in weights.items()}
        else:
            self._average = {name: value.to(weights[name].device) for name, value in self._average.items()}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:  # gradients are being added up
            return
        share, self._step = self.ema.share(self._step), trainer.global_step
        weights = _weights(module)
        real = [name for name, value in weights.items() if value.is_floating_point()]
        torch._foreach_lerp_([self._average[name] for name in real], [weights[name] for name in real], 1 - share)
        for name, value in weights.items():
            if not value.is_floating_point():  # counters of batches
                self._average[name].copy_(value)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._show_average(module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._show_trained(module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._show_average(module)
        self._aside = None

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._show_trained(module)

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._average:
            return
        held = checkpoint["state_dict"]
        trained = self._aside or _weights(module)
        checkpoint[TRAINED] = {name: value.detach().clone() for name, value in trained.items()}
        checkpoint["state_dict"] = held | {name: value.clone() for name, value in self._average.items()}

    @torch.no_grad()
    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Called when the module holds the average already, which is what an evaluation wants.
        if trainer.state.fn != "fit":
            return
        if TRAINED not in checkpoint:
            print("note: the checkpoint holds no average of the weights; it starts now", file=sys.stderr)
            return
        weights = _weights(module)
        self._average = {name: value.detach().clone() for name, value in weights.items()}
        for name, value in checkpoint[TRAINED].items():
            weights[name].copy_(value)

    @torch.no_grad()
    def _show_average(self, module: LightningModule) -> None:
        if self._average and self._aside is None:
            weights = _weights(module)
            self._aside = {name: value.detach().clone() for name, value in weights.items()}
            for name, value in weights.items():
                value.copy_(self._average[name])

    @torch.no_grad()
    def _show_trained(self, module: LightningModule) -> None:
        if self._aside is not None:
            for name, value in _weights(module).items():
                value.copy_(self._aside[name])
            self._aside = None


def _weights(module: LightningModule) -> dict[str, Tensor]:
    """Parameters and buffers of the network, by their names in a checkpoint; changed in place they change it."""
    return module.get_submodule("network").state_dict(prefix="network.")


def need_average(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Refuse to train on from averaged weights as if they were the trained ones.

    Raises:
        ValueError: If the checkpoint holds an average, and nothing in the trainer goes on with it.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyrefly: ignore[missing-attribute]
    if TRAINED in checkpoint and not any(isinstance(callback, AverageWeights) for callback in callbacks):
        raise ValueError(
            "the checkpoint is of a run that averages its weights, and this one does not; give the run's --ema.decay, or start "
            "from the averaged weights with --init_from"
        )
