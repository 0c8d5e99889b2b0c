"""R3D, R(2+1)D and SlowOnly, plain or with calibrated convolutions (Huang et al. 2022, table 3, arXiv:2110.06178)."""

from typing import Any, Unpack

from kinema.backbones.resnet3d import R3D, R2Plus1D, SlowOnly
from kinema.models.calibration import plug_in_filling
from kinema.models.network import ClipNetwork
from kinema.models.options import PlugInNanoOptions, PlugInOptions, R3DNanoOptions, R3DOptions, TAda
from kinema.models.tsn import NumClasses


def r3d_nano(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[R3DNanoOptions]) -> ClipNetwork:
    """R3D for frames of about 64 pixels."""
    return _r3d(num_classes, num_frames, **_sized(**options))


def r3d_r50(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[R3DOptions]) -> ClipNetwork:
    """R3D of 50 layers: 47.0 M parameters, 84.2 GMACs for 8 frames of 256 pixels; 50.1 M with `tada="3d"`."""
    return _r3d(num_classes, num_frames, **options)


def r2plus1d_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[PlugInNanoOptions]
) -> ClipNetwork:
    """R(2+1)D for frames of about 64 pixels."""
    return _r2plus1d(num_classes, num_frames, **_sized(**options))


def r2plus1d_r50(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[PlugInOptions]) -> ClipNetwork:
    """R(2+1)D of 50 layers: 28.1 M parameters, 49.6 GMACs for 8 frames of 256 pixels.

    31.3 M parameters with `tada="2d"`, 34.4 M with `tada="2d+1d"`.
    """
    return _r2plus1d(num_classes, num_frames, **options)


def slowonly_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[PlugInNanoOptions]
) -> ClipNetwork:
    """SlowOnly for frames of about 64 pixels."""
    return _slowonly(num_classes, num_frames, **_sized(**options))


def slowonly_r50(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[PlugInOptions]) -> ClipNetwork:
    """SlowOnly 8x8 of 50 layers: 32.5 M parameters, 54.5 GMACs for 8 frames of 256 pixels; 35.6 M with `tada="2d"`."""
    return _slowonly(num_classes, num_frames, **options)


def _r3d(
    num_classes: NumClasses,
    num_frames: int,
    *,
    dropout: float = 0.5,
    tada: TAda = "none",
    size: dict[str, Any] | None = None,
    in_channels: int = 3,
    stem_frames: int = 3,
    **options: Any,
) -> ClipNetwork:
    filling = plug_in_filling(tada, ["3d"], num_frames, **options)
    backbone = R3D(**size or {}, in_channels=in_channels, stem_frames=stem_frames, **filling)
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)


def _r2plus1d(
    num_classes: NumClasses,
    num_frames: int,
    *,
    dropout: float = 0.5,
    tada: TAda = "none",
    size: dict[str, Any] | None = None,
    in_channels: int = 3,
    **options: Any,
) -> ClipNetwork:
    filling = plug_in_filling(tada, ["2d", "2d+1d"], num_frames, **options)
    if tada == "2d+1d":
        filling["time_convolution"] = filling["convolution"]
    backbone = R2Plus1D(**size or {}, in_channels=in_channels, **filling)
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)


def _slowonly(
    num_classes: NumClasses,
    num_frames: int,
    *,
    dropout: float = 0.5,
    tada: TAda = "none",
    size: dict[str, Any] | None = None,
    in_channels: int = 3,
    **options: Any,
) -> ClipNetwork:
    filling = plug_in_filling(tada, ["2d"], num_frames, **options)
    backbone = SlowOnly(**size or {}, in_channels=in_channels, **filling)
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)


def _sized(**options: Any) -> dict[str, Any]:
    size = {"layers": options.pop("depths", (1, 1, 2, 1)), "width": options.pop("width", 8)}
    return {**options, "size": size}
