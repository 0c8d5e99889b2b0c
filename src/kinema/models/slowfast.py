"""SlowFast, plain or with calibrated convolutions (Huang et al. 2022, table 3, arXiv:2110.06178)."""

from typing import Any, Unpack

from kinema.backbones.slowfast import SlowFast
from kinema.models.calibration import plug_in_filling
from kinema.models.network import ClipNetwork
from kinema.models.options import SlowFastNanoOptions, SlowFastOptions, TAda
from kinema.models.tsn import NumClasses


def slowfast_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[SlowFastNanoOptions]
) -> ClipNetwork:
    """SlowFast for frames of about 64 pixels; `alpha` is 4 by default."""
    size = {"layers": options.pop("depths", (1, 1, 2, 1)), "width": options.pop("width", 8), "beta": 2}
    options.setdefault("alpha", 4)
    options.setdefault("fusion_kernel", 5)
    return _slowfast(num_classes, num_frames, size=size, **options)


def slowfast_r50(
    num_classes: NumClasses = 400, num_frames: int = 32, **options: Unpack[SlowFastOptions]
) -> ClipNetwork:
    """SlowFast of 50 layers: 34.5 M parameters, 36.1 GMACs for 32 frames of 256 pixels; 37.7 M with `tada="2d"`.

    As it is, SlowFast 4x16: the slow pathway sees 4 of 32 frames. `alpha=4` makes it SlowFast 8x8, 65.7 GMACs.
    """
    return _slowfast(num_classes, num_frames, **options)


def _slowfast(
    num_classes: NumClasses,
    num_frames: int,
    *,
    dropout: float = 0.5,
    tada: TAda = "none",
    size: dict[str, Any] | None = None,
    in_channels: int = 3,
    alpha: int = 8,
    fusion_kernel: int | None = None,
    **options: Any,
) -> ClipNetwork:
    if options.get("routing") == "per_frame":
        raise ValueError(
            "routing='per_frame' learns factors for one number of frames, and the pathways see two; give another"
        )
    filling = plug_in_filling(tada, ["2d"], num_frames, **options)
    kernel = fusion_kernel if fusion_kernel is not None else 7 if alpha == 4 else 5
    backbone = SlowFast(**size or {}, in_channels=in_channels, alpha=alpha, fusion_kernel=kernel, **filling)
    if num_frames % alpha:
        raise ValueError(
            f"num_frames={num_frames} is no multiple of alpha={alpha}, and the slow pathway sees every {alpha}th frame; "
            "give a multiple, or another alpha"
        )
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)
