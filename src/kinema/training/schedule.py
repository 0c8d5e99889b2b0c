"""Learning rate over time, per optimiser step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class Schedule:
    """Warm-up followed by a cosine, by steps, or by nothing.

    Args:
        name: `cosine` falls from 1 to `final`; `multi_step` multiplies by `gamma` at each milestone; `constant` stays.
        warmup_epochs: Length of the linear warm-up; may be a fraction of an epoch.
        warmup_start: Share of the learning rate at the first step.
        milestones: Epochs at which `multi_step` falls.
        gamma: Factor of each fall.
        final: Share of the learning rate at the last step of `cosine`.
        cosine_from: Where the cosine begins: behind the warm-up, at its top, as in the code of UniFormer and TAdaFormer; or at
            the first step of training, so that the warm-up ends on what the cosine has fallen to by then, as in that of TAda2D
            and TAdaConvNeXt: 2 % lower where it takes 8 of 100 epochs.
    """

    name: Literal["cosine", "multi_step", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    warmup_start: float = 0.1
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    final: float = 0.0
    cosine_from: Literal["warmup", "start"] = "warmup"

    def __post_init__(self) -> None:
        if self.name == "multi_step" and not self.milestones:
            raise ValueError("multi_step needs milestones: the epochs at which the learning rate falls")
        if self.name != "multi_step" and self.milestones:
            raise ValueError(f"milestones={list(self.milestones)} were given, but {self.name} has none; use multi_step")
        if self.name != "cosine" and self.cosine_from != "warmup":
            raise ValueError(f"cosine_from='{self.cosine_from}' was given, but {self.name} has no cosine; remove it")

    def factor(self, step: int, *, steps_per_epoch: float, total_steps: int) -> float:
        """Share of the peak learning rate at optimiser step `step`, counted from 0.

        The warm-up rises to where the rest begins; the cosine runs over the steps that remain after it, or over all of them.
        """
        warmup = self.warmup_epochs * steps_per_epoch
        if step >= warmup:
            return self._after_warmup(step, warmup, steps_per_epoch, total_steps)
        top = self._after_warmup(warmup, warmup, steps_per_epoch, total_steps) if self.cosine_from == "start" else 1.0
        return self.warmup_start + (top - self.warmup_start) * step / warmup

    def _after_warmup(self, step: float, warmup: float, steps_per_epoch: float, total_steps: int) -> float:
        if self.name == "constant":
            return 1.0
        if self.name == "multi_step":
            passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
            return self.gamma**passed
        begin = 0.0 if self.cosine_from == "start" else warmup
        progress = (step - begin) / max(total_steps - begin, 1)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def scheduled(optimizer: Optimizer, schedule: Schedule, trainer: Trainer) -> LambdaLR:
    """The learning rate of every step of a training, epochs counted by its batches, however it is limited."""
    if math.isinf(trainer.num_training_batches):  # not known before the loaders are there
        trainer.fit_loop.setup_data()
    total, batches = int(trainer.estimated_stepping_batches), trainer.num_training_batches
    if math.isinf(batches):  # of a stream without a length: the training is one epoch
        per_epoch = float(total)
    else:
        per_epoch = float(math.ceil(batches / trainer.accumulate_grad_batches))
    return LambdaLR(optimizer, lambda step: schedule.factor(step, steps_per_epoch=per_epoch, total_steps=total))


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What each group of parameters is trained with: rates, decay, momentum."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def keep_options(trainer: Trainer, options: Sequence[Mapping[str, Any]]) -> None:
    """Give the groups of parameters the options of now, which a checkpoint has overwritten by those of then.

    Momenta and the number of steps stay those of the checkpoint. Where nothing was changed, nothing changes.

    Args:
        trainer: Has restored its checkpoint.
        options: `options_of` the optimiser as it was built, its schedule included.
    """
    for optimizer, config in zip(trainer.optimizers, trainer.lr_scheduler_configs, strict=True):
        scheduler = config.scheduler
        assert isinstance(scheduler, LambdaLR)
        scheduler.base_lrs = [of_now["initial_lr"] for of_now in options]
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
        for group, of_now, rate in zip(optimizer.param_groups, options, rates, strict=True):
            group |= {**of_now, "lr": rate}
        scheduler._last_lr = rates
