"""R3D, R(2+1)D and SlowOnly as LightningModules."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.operators.routing import RoutingName
from kinema.operators.tadaconv import CalibrationDim
from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer

_AS_NAMED: dict[str, Any] = {
    "calibration": "cin",
    "routing": "local_global",
    "routing_ratio": 4,
    "routing_kernels": (3, 3),
    "routing_head_dim": None,
    "calibrated_fraction": 1.0,
    "calibrated_stages": (1, 2, 3, 4),
}


def plug_in_options(tada: str, **calibration: Any) -> dict[str, Any]:
    """`tada`, and those options of the calibration that differ from the defaults: without TAdaConv none may be given."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in calibration.items()}
    return {"tada": tada, **{name: value for name, value in given.items() if value != _AS_NAMED[name]}}


class R3D(VideoClassifier):
    """ResNet of 3-D convolutions (Tran et al. 2018, arXiv:1711.11248), plain or calibrated (arXiv:2110.06178).

    Args:
        backbone: Its size.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        num_frames: Frames of a clip; only routing `per_frame` depends on it.
        tada: `3d` calibrates the 3 x 3 x 3 convolutions.
        calibration: Axes of the kernels that carry a factor.
        routing: What makes the factors: the table in `kinema.operators.routing`.
        routing_ratio: Channels of a layer over hidden channels of its router.
        routing_kernels: Frames that the router's two convolutions see.
        routing_head_dim: Channels of an attention head, for routing `attention`; one head when None.
        calibrated_fraction: Share of the channels calibrated, in (0, 1].
        calibrated_stages: Stages that are calibrated, from 1.
        stem_frames: Frames that the stem sees.
        dropout: Before the classifier.
        optimizer: That of TAda2D when None: SGD with Nesterov momentum.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r50"] = "r50",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int = 8,
        tada: Literal["none", "3d"] = "none",
        calibration: CalibrationDim = "cin",
        routing: RoutingName = "local_global",
        routing_ratio: int = 4,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        calibrated_fraction: float = 1.0,
        calibrated_stages: Sequence[int] = (1, 2, 3, 4),
        stem_frames: int = 3,
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
        options = {"num_frames": num_frames, "stem_frames": stem_frames, "dropout": dropout, **calibrating}
        super().__init__(f"r3d_{backbone}", num_classes, options, optimizer=optimizer or Optimizer.tada2d(), **training)


class R2Plus1D(VideoClassifier):
    """ResNet of convolutions over pixels and over time by turns (Tran et al. 2018, arXiv:1711.11248), plain or calibrated.

    Args:
        tada: `2d` calibrates the convolutions over pixels, `2d+1d` those over time too.
        others: As for `R3D`.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r50"] = "r50",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int = 8,
        tada: Literal["none", "2d", "2d+1d"] = "none",
        calibration: CalibrationDim = "cin",
        routing: RoutingName = "local_global",
        routing_ratio: int = 4,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        calibrated_fraction: float = 1.0,
        calibrated_stages: Sequence[int] = (1, 2, 3, 4),
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
        options = {"num_frames": num_frames, "dropout": dropout, **calibrating}
        optimizer = optimizer or Optimizer.tada2d()
        super().__init__(f"r2plus1d_{backbone}", num_classes, options, optimizer=optimizer, **training)


class SlowOnly(VideoClassifier):
    """The slow pathway of SlowFast alone (Feichtenhofer et al. 2019, arXiv:1812.03982), plain or calibrated.

    Args:
        tada: `2d` calibrates the convolutions over pixels.
        others: As for `R3D`.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r50"] = "r50",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int = 8,
        tada: Literal["none", "2d"] = "none",
        calibration: CalibrationDim = "cin",
        routing: RoutingName = "local_global",
        routing_ratio: int = 4,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        calibrated_fraction: float = 1.0,
        calibrated_stages: Sequence[int] = (1, 2, 3, 4),
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
        options = {"num_frames": num_frames, "dropout": dropout, **calibrating}
        optimizer = optimizer or Optimizer.tada2d()
        super().__init__(f"slowonly_{backbone}", num_classes, options, optimizer=optimizer, **training)
