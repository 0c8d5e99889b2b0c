"""TAdaConvNeXt, both versions, as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TAdaConvNeXt(VideoClassifier):
    """A ConvNeXt whose depthwise convolutions are calibrated per frame.

    Version 1 is TAdaConvNeXt (Huang et al. 2022, arXiv:2110.06178), version 2 TAdaConvNeXtV2 (Huang et al. 2023,
    arXiv:2308.05787). What is None takes the default of the version and size, see `kinema.models.options`.

    Args:
        size: Of the ConvNeXt.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        version: 1 or 2.
        num_frames: Frames of a clip; only routing `per_frame` depends on it.
        drop_path: Rate of stochastic depth at the last block.
        weight_init: Values that parameters start from: `authors` for a network that gets image weights, or `scratch`;
            `authors` when None, `scratch` for size nano.
        depths: Blocks in each of the four stages, for size nano.
        width: Channels of the first stage, for size nano.
        calibration: Axes of the kernels that carry a factor.
        routing: What makes the factors: the table in `kinema.operators.routing`.
        routing_ratio: Channels of a layer over hidden channels of its router.
        routing_kernels: Frames that the router's two convolutions see.
        routing_head_dim: Channels of an attention head, for routing `attention`.
        calibrated_fraction: Share of the channels calibrated, in (0, 1].
        calibrated_stages: Stages that are calibrated and aggregated, from 1.
        aggregation: Pooling over time beside the norm, with a norm of its own.
        aggregation_kernel: Frames pooled.
        aggregation_norm: `own` for the pooled features, or `shared`.
        dropout: Before the classifier.
        optimizer: AdamW with the parameter groups of the version when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last.
    """

    def __init__(
        self,
        size: Literal["nano", "tiny", "small", "base"] = "tiny",
        num_classes: int | Sequence[int] | None = None,
        *,
        version: Literal[1, 2] = 2,
        num_frames: int | None = None,
        drop_path: float | None = None,
        weight_init: Literal["authors", "scratch"] | None = None,
        depths: Sequence[int] | None = None,
        width: int | None = None,
        calibration: Literal["cin", "cout", "cin+cout", "kernel", "cin+cout+kernel"] | None = None,
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
        ]
        | None = None,
        routing_ratio: int | None = None,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        calibrated_fraction: float = 1.0,
        calibrated_stages: Sequence[int] = (1, 2, 3, 4),
        aggregation: Literal["avg", "max", "avg+max", "none"] | None = None,
        aggregation_kernel: int = 3,
        aggregation_norm: Literal["own", "shared"] = "own",
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        if version not in (1, 2):
            raise ValueError(f"version={version} of TAdaConvNeXt does not exist; give 1 or 2")
        options: dict[str, Any] = {
            "routing_kernels": tuple(routing_kernels),
            "calibrated_fraction": calibrated_fraction,
            "calibrated_stages": tuple(calibrated_stages),
            "aggregation_kernel": aggregation_kernel,
            "aggregation_norm": aggregation_norm,
            "dropout": dropout,
        }
        of_the_version = {
            "num_frames": num_frames,
            "drop_path": drop_path,
            "weight_init": weight_init,
            "depths": None if depths is None else tuple(depths),
            "width": width,
            "calibration": calibration,
            "routing": routing,
            "routing_ratio": routing_ratio,
            "routing_head_dim": routing_head_dim,
            "aggregation": aggregation,
        }
        options |= {name: value for name, value in of_the_version.items() if value is not None}
        default = Optimizer.tadaconvnext() if version == 1 else Optimizer.tadaconvnextv2()
        super().__init__(
            f"tadaconvnext{'' if version == 1 else 'v2'}_{size}",
            num_classes,
            options,
            optimizer=optimizer or default,
            **training,
        )
