"""TSN as a LightningModule."""

from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TSN(VideoClassifier):
    """Temporal segment networks: frames classified one by one, scores averaged (Wang et al. 2016, arXiv:1608.00859).

    Args:
        backbone: The per-frame network.
        num_classes: K; taken from the data when None.
        dropout: Before the classifier.
        optimizer: SGD with the paper's parameter groups when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r18", "r50", "r101", "mobilenetv2"] = "r50",
        num_classes: int | None = None,
        *,
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        super().__init__(
            f"tsn_{backbone}",
            num_classes,
            {"dropout": dropout},
            optimizer=optimizer or Optimizer.tsm(),
            **training,
        )
