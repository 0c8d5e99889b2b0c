"""TAda2D as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TAda2D(VideoClassifier):
    """TAda2D: 3 x 3 convolutions calibrated per frame (Huang et al. 2022, arXiv:2110.06178).

    Args:
        backbone: The network that is calibrated.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        num_frames: Frames of a clip; only routing `per_frame` depends on it, and causal routers that know a mean.
        calibration: Axes of the kernels that carry a factor.
        routing: What makes the factors: the table in `kinema.operators.routing`.
        routing_ratio: Channels of a layer over hidden channels of its router.
        routing_kernels: Frames that the router's two convolutions see.
        routing_head_dim: Channels of an attention head, for routing `attention`; one head when None.
        calibrated_fraction: Share of the channels calibrated, in (0, 1].
        calibrated_stages: Stages that are calibrated and aggregated, from 1.
        aggregation: Pooling over time beside the norm, with a norm of its own.
        aggregation_kernel: Frames pooled.
        aggregation_norm: `own` for the pooled features, or `shared`.
        non_local: Affinity of one non-local block behind the last stage.
        causal: Routers and aggregation see the past alone, for online use.
        dropout: Before the classifier.
        optimizer: SGD with Nesterov momentum and the authors' weight decay when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last.
    """

    def __init__(
        self,
        backbone: Literal["nano", "r50"] = "r50",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int = 8,
        calibration: Literal["cin", "cout", "cin+cout", "kernel", "cin+cout+kernel"] = "cin",
        routing: Literal[
            "none",
            "static",
            "per_frame",
            "clip",
            "frame",
            "linear",
            "local",
            "global",
            "local_global",
            "local_global_ln",
            "attention",
            "causal",
        ] = "local_global",
        routing_ratio: int = 4,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        calibrated_fraction: float = 1.0,
        calibrated_stages: Sequence[int] = (1, 2, 3, 4),
        aggregation: Literal["avg", "max", "avg+max", "none"] = "avg",
        aggregation_kernel: int = 3,
        aggregation_norm: Literal["own", "shared"] = "own",
        non_local: Literal["none", "gaussian", "embedded_gaussian", "dot_product"] = "none",
        causal: bool = False,
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        options: dict[str, Any] = {
            "num_frames": num_frames,
            "calibration": calibration,
            "routing": routing,
            "routing_ratio": routing_ratio,
            "routing_kernels": tuple(routing_kernels),
            "routing_head_dim": routing_head_dim,
            "calibrated_fraction": calibrated_fraction,
            "calibrated_stages": tuple(calibrated_stages),
            "aggregation": aggregation,
            "aggregation_kernel": aggregation_kernel,
            "aggregation_norm": aggregation_norm,
            "non_local": non_local,
            "causal": causal,
            "dropout": dropout,
        }
        super().__init__(
            f"tada2d_{backbone}", num_classes, options, optimizer=optimizer or Optimizer.tada2d(), **training
        )
