"""SlowFast as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.operators.routing import RoutingName
from kinema.operators.tadaconv import CalibrationDim
from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer
from kinema.training.resnet3d import plug_in_options


class SlowFast(VideoClassifier):
    """Two pathways at two frame rates (Feichtenhofer et al. 2019, arXiv:1812.03982), plain or calibrated.

    Takes the clip of the fast pathway; the slow one sees every `alpha`-th frame of it.

    Args:
        num_frames: Frames of a clip, a multiple of alpha; when None 32, and 8 for the backbone `nano`.
        tada: `2d` calibrates the convolutions over pixels in both pathways.
        alpha: Fast frames to a slow one; when None 8 (SlowFast 4x16), and 4 for the backbone `nano`.
        fusion_kernel: Frames that a fusion sees; when None 7 for alpha 4, else 5, and 5 for the backbone `nano`.
        others: As for `R3D`.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r50"] = "r50",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int | None = None,
        tada: Literal["none", "2d"] = "none",
        calibration: CalibrationDim = "cin",
        routing: RoutingName = "local_global",
        routing_ratio: int = 4,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        calibrated_fraction: float = 1.0,
        calibrated_stages: Sequence[int] = (1, 2, 3, 4),
        alpha: int | None = None,
        fusion_kernel: int | None = None,
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        calibrating = plug_in_options(
            tada,
            calibration=calibration,
            routing=routing,
            routing_ratio=routing_ratio,
            routing_kernels=routing_kernels,
            routing_head_dim=routing_head_dim,
            calibrated_fraction=calibrated_fraction,
            calibrated_stages=calibrated_stages,
        )
        own = {"num_frames": num_frames, "alpha": alpha, "fusion_kernel": fusion_kernel}
        options = {"dropout": dropout, **calibrating, **{name: v for name, v in own.items() if v is not None}}
        optimizer = optimizer or Optimizer.tada2d()
        super().__init__(f"slowfast_{backbone}", num_classes, options, optimizer=optimizer, **training)
