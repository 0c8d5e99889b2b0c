"""TSN as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TSN(VideoClassifier):
    """Temporal segment networks: frames classified one by one, scores averaged (Wang et al. 2016, arXiv:1608.00859).

    Args:
        backbone: The per-frame network.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        mixer: Learnt convolutions over time in the places of TSM's shifts, each channel by itself or all together; none in the
            paper.
        placement: Where these stand: in the residual branch of a block, or before the block.
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
        mixer: Literal["temporal_conv", "depthwise_temporal_conv"] | None = None,
        placement: Literal["residual", "in_place"] = "residual",
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        super().__init__(
            f"tsn_{backbone}",
            num_classes,
            {"dropout": dropout, "mixer": mixer, "placement": placement},
            optimizer=optimizer or Optimizer.tsm(),
            **training,
        )
