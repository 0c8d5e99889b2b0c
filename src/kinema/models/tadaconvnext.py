"""TAdaConvNeXt, version 1: a ConvNeXt whose depthwise convolutions are calibrated (Huang et al. 2022, arXiv:2110.06178)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Unpack

from kinema.backbones.convnext import convnext
from kinema.backbones.weight_init import WeightInit
from kinema.models.calibration import calibration_filling
from kinema.models.network import ClipNetwork
from kinema.models.options import TAdaConvNeXtNanoOptions, TAdaConvNeXtOptions
from kinema.models.tsn import NumClasses
from kinema.operators.tubelet import TubeletConv

TINY = (3, 3, 9, 3)
DEEP = (3, 3, 27, 3)
NANO: tuple[tuple[int, ...], int] = ((1, 1, 2, 1), 24)


def tadaconvnext_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TAdaConvNeXtNanoOptions]
) -> ClipNetwork:
    """TAdaConvNeXt for frames of about 64 pixels; its size is an option."""
    depths, width = options.pop("depths", NANO[0]), options.pop("width", NANO[1])
    return _first_version(
        depths, width, num_classes, num_frames, **{"drop_path": 0.0, "weight_init": "scratch", **options}
    )


def tadaconvnext_tiny(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaConvNeXtOptions]
) -> ClipNetwork:
    """TAdaConvNeXt-T: 38.7 M parameters, 36.0 GMACs for 16 frames of 224 pixels (47.0 at the paper's 256)."""
    return _first_version(TINY, 96, num_classes, num_frames, **options)


def tadaconvnext_small(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaConvNeXtOptions]
) -> ClipNetwork:
    """TAdaConvNeXt-S: 68.9 M parameters."""
    return _first_version(DEEP, 96, num_classes, num_frames, **options)


def tadaconvnext_base(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaConvNeXtOptions]
) -> ClipNetwork:
    """TAdaConvNeXt-B: 122.0 M parameters."""
    return _first_version(DEEP, 128, num_classes, num_frames, **options)


def _first_version(depths: Sequence[int], width: int, *args: Any, **options: Any) -> ClipNetwork:
    """Every depthwise convolution is calibrated by a router with layer norm and GELU; nothing is aggregated."""
    defaults: dict[str, Any] = {"routing": "local_global_ln", "aggregation": "none", "drop_path": 0.4}
    return on_convnext(depths, width, "gelu", *args, **(defaults | options))


def on_convnext(
    depths: Sequence[int],
    width: int,
    activation: Literal["gelu", "quick_gelu"],
    num_classes: NumClasses,
    num_frames: int,
    *,
    drop_path: float,
    weight_init: WeightInit = "authors",
    dropout: float = 0.5,
    in_channels: int = 3,
    **options: Any,
) -> ClipNetwork:
    """Either version: a stem of tubelets that halves the frames, calibrated convolutions, one vector per clip."""
    filling = calibration_filling(
        (num_frames + 1) // 2,  # the stem halves them
        calibrate_bias=True,
        stage_names=[f"stages.{stage}.blocks" for stage in range(4)],
        **options,
    )
    backbone = convnext(
        depths,
        width=width,
        activation=activation,
        drop_path=drop_path,
        weight_init=weight_init,
        in_channels=in_channels,
        stem=partial(TubeletConv.like, std=0.02),  # pyrefly: ignore
        **filling,
    )
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)
