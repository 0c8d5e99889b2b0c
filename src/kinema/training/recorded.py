"""What the command line asks of a LightningModule beside training it."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from lightning import LightningModule
from torch import nn

from kinema.checkpoints.load import Inflation
from kinema.training.record import RunFolder


class RecordedModule(LightningModule):
    """A LightningModule whose runs are recorded: what is measured, what is written, and what tells the best epoch.

    Attributes:
        headline: Name of the number that tells the best epoch; higher is better.
        headline_told: What it is called.
        model_name: What is trained, in words.
        network: The network.
        class_names: Names of the classes by id, once known.
        tasks: Names of the classes of each task, where there are several.
        init_weights: Weights to start from.
        inflation: How kernels of images spread over frames, with `init_weights`.
    """

    headline: ClassVar[str]
    headline_told: ClassVar[str]
    model_name: str
    network: nn.Module
    class_names: list[str] | None
    tasks: dict[str, list[str]]
    init_weights: Path | None
    inflation: Inflation

    @abstractmethod
    def measured(self, part: str) -> dict[str, float] | None:
        """All numbers of the last evaluation of `val` or `test`; None before there was one."""

    def need_results(self, part: str) -> None:
        """Refuse to end with an evaluation of which nothing can be said.

        Raises:
            NonFiniteLossError: If its scores are not finite.
        """

    @abstractmethod
    def write_results(self, part: str, run: RunFolder, data: Any) -> None:
        """Write down what the last evaluation found, item by item."""
