"""TSM as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TSM(VideoClassifier):
    """Temporal shift module: TSN with a shift of channels between frames (Lin, Gan and Han 2019, arXiv:1811.08383).

    Args:
        backbone: The per-frame network.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        shift_fraction: Share of the channels moved in total.
        placement: `residual` shifts inside the residual branch, `in_place` before the block.
        causal: Shift from the past only, for online use.
        shift_every: Every n-th block is shifted; the rule of the authors' code (2 for nets as deep as
            ResNet-101, else 1) when None.
        non_local: Form of the non-local blocks, for the r50 backbone.
        temporal_pool: Halve the number of frames before the second stage.
        dropout: Before the classifier.
        optimizer: SGD with the paper's parameter groups when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r18", "r50", "r101", "mobilenetv2"] = "r50",
        num_classes: int | Sequence[int] | None = None,
        *,
        shift_fraction: float = 1 / 4,
        placement: Literal["residual", "in_place"] = "residual",
        causal: bool = False,
        shift_every: int | None = None,
        non_local: Literal["none", "gaussian", "embedded_gaussian", "dot_product"] = "none",
        temporal_pool: bool = False,
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        options: dict[str, Any] = {
            "shift_fraction": shift_fraction,
            "placement": placement,
            "causal": causal,
            "dropout": dropout,
        }
        # Not every backbone has these; what was not asked for is not passed on.
        if shift_every is not None:
            options["shift_every"] = shift_every
        if non_local != "none":
            options["non_local"] = non_local
        if temporal_pool:
            options["temporal_pool"] = temporal_pool
        super().__init__(f"tsm_{backbone}", num_classes, options, optimizer=optimizer or Optimizer.tsm(), **training)
