"""TAdaConvNeXtV2: attention over the clip makes the calibration factors (Huang et al. 2023, arXiv:2308.05787)."""

from collections.abc import Sequence
from typing import Any, Unpack

from kinema.models.network import ClipNetwork
from kinema.models.options import TAdaConvNeXtNanoOptions, TAdaConvNeXtOptions
from kinema.models.tadaconvnext import DEEP, NANO, TINY, on_convnext
from kinema.models.tsn import NumClasses


def tadaconvnextv2_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TAdaConvNeXtNanoOptions]
) -> ClipNetwork:
    """TAdaConvNeXtV2 for frames of about 64 pixels; its size is an option."""
    depths, width = options.pop("depths", NANO[0]), options.pop("width", NANO[1])
    return _second_version(
        depths, width, num_classes, num_frames, **{"drop_path": 0.0, "weight_init": "scratch", **options}
    )


def tadaconvnextv2_tiny(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaConvNeXtOptions]
) -> ClipNetwork:
    """TAdaConvNeXtV2-T: 46.0 M parameters, 36.0 GMACs for 16 frames of 224 pixels (47.0 at the authors' 256)."""
    return _second_version(TINY, 96, num_classes, num_frames, **{"drop_path": 0.2, **options})


def tadaconvnextv2_small(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaConvNeXtOptions]
) -> ClipNetwork:
    """TAdaConvNeXtV2-S: 82.2 M parameters, 70.0 GMACs for 16 frames of 224 pixels (91.3 at the authors' 256)."""
    return _second_version(DEEP, 96, num_classes, num_frames, **{"drop_path": 0.4, **options})


def tadaconvnextv2_base(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaConvNeXtOptions]
) -> ClipNetwork:
    """TAdaConvNeXtV2-B: 145.7 M parameters, 123.6 GMACs for 16 frames of 224 pixels (161.3 at the authors' 256)."""
    return _second_version(DEEP, 128, num_classes, num_frames, **{"drop_path": 0.6, **options})


def _second_version(depths: Sequence[int], width: int, *args: Any, **options: Any) -> ClipNetwork:
    """As in the authors' code: QuickGELU, although the image weights come from a ConvNeXt with GELU.

    Heads of the routers are as wide as the hidden layer of a router of the first stage: 1, 2, 4 and 8 in the stages.
    """
    ratio = options.pop("routing_ratio", 2)
    defaults: dict[str, Any] = {"routing": "attention", "routing_head_dim": max(1, width // ratio)}
    return on_convnext(depths, width, "quick_gelu", *args, routing_ratio=ratio, **(defaults | options))
