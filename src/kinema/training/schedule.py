"""Learning rate over time, per optimiser step."""

import math
from dataclasses import dataclass
from typing import Literal


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
