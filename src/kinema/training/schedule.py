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
    """

    name: Literal["cosine", "multi_step", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    warmup_start: float = 0.1
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.name == "multi_step" and not self.milestones:
            raise ValueError("multi_step needs milestones: the epochs at which the learning rate falls")
        if self.name != "multi_step" and self.milestones:
            raise ValueError(f"milestones={list(self.milestones)} were given, but {self.name} has none; use multi_step")

    def factor(self, step: int, *, steps_per_epoch: float, total_steps: int) -> float:
        """Share of the peak learning rate at optimiser step `step`, counted from 0.

        The warm-up rises to 1 at its last step; the cosine runs over the steps that remain after it.
        """
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.warmup_start + (1 - self.warmup_start) * step / warmup
        if self.name == "constant":
            return 1.0
        if self.name == "multi_step":
            passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
            return self.gamma**passed
        progress = (step - warmup) / max(total_steps - warmup, 1)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
