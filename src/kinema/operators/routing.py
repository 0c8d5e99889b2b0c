"""What makes the calibration factors of `kinema.operators.tadaconv`: routing functions.

A router reads one descriptor per frame, the mean of its pixels (`describe`), and gives the factors of every frame. Those
here are the ones of the papers and of their ablations, from no router at all to attention over the clip, and differ in
what a factor may know:

    routing          knows                                    source (TAda! = arXiv:2110.06178, V2 = arXiv:2308.05787)
    none             nothing: a plain convolution             TAda!, hypothesis test, baseline
    static           nothing; learnt, shared by all frames    TAda!, hypothesis test
    per_frame        the frame's position; learnt             TAda!, hypothesis test
    clip             the mean of the clip; same for its frames  TAda!, hypothesis test ("dynamic")
    frame            the frame itself                         TAda!, hypothesis test ("dynamic, temporally varying")
    linear           three frames, one linear convolution     TAda!, table 4
    local            five frames, two convolutions            TAda!, table 4
    global           the frame itself and the clip's mean     TAda!, table 4
    local_global     five frames and the clip's mean          TAda!, section 3.2: TAdaConv, version 1
    local_global_ln  the same with layer norm and GELU        TAdaConvNeXt of TAda!
    attention        the whole clip, by self-attention        V2: TAdaConv, version 2
    causal           this frame and the two before it         Cao et al. 2022 (TCTrack, arXiv:2203.01885), section 3

With causal=True the others see the past alone, so that they run frame by frame: their convolutions this frame and those
before it, and instead of the mean of the clip that of the last `num_frames` frames. "static" and "frame" are causal as they
are; "per_frame", whose factors belong to the places of a clip, and "attention" cannot be. The routers themselves are in
`kinema.operators.routers`.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from kinema.operators.routers import (
    AttentionRouting,
    CausalRouting,
    ChannelNorm,
    ConvRouting,
    LinearRouting,
    Routing,
    StaticRouting,
    quick_gelu,
)
from kinema.shapes import check_clip

__all__ = [
    "ROUTINGS",
    "AttentionRouting",
    "CausalRouting",
    "ChannelNorm",
    "ConvRouting",
    "LinearRouting",
    "Routing",
    "RoutingName",
    "StaticRouting",
    "build_routing",
    "describe",
    "quick_gelu",
]

RoutingName = Literal[
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
ROUTINGS: tuple[RoutingName, ...] = get_args(RoutingName)


def describe(x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T"]:
    """One descriptor per frame: the mean of its pixels, the only thing a router sees of the features."""
    check_clip(x)
    return x.mean(dim=(3, 4))


def build_routing(
    routing: RoutingName,
    channels: int,
    widths: Mapping[str, int],
    *,
    ratio: int = 4,
    kernels: tuple[int, int] = (3, 3),
    head_dim: int = 64,
    zero_init: bool = True,
    num_frames: int | None = None,
    causal: bool = False,
) -> Routing | None:
    """A router by its name in the table above; None for "none".

    Args:
        routing: Which one.
        channels: Of the descriptors.
        widths: Factor ("cin", "cout", "kernel", "bias") to how many numbers of it a frame needs.
        ratio: Channels of the descriptors over those of the hidden layer.
        kernels: Frames that the two convolutions see, odd; those routers that see one frame have (1, 1).
        head_dim: Channels of an attention head; attention only.
        zero_init: Start at a factor of exactly one; attention only, all others do.
        num_frames: Frames of a clip; for "per_frame", and for those that know the clip's mean if causal.
        causal: See the past alone.

    Raises:
        ValueError: On an unknown name, or what a router cannot take.
    """
    if causal and routing in ("per_frame", "attention"):
        why = "has a factor for each place of a clip" if routing == "per_frame" else "attends to the whole clip"
        raise ValueError(f"routing={routing!r} {why}, which a stream has not; give another routing with causal=True")
    past: dict[str, Any] = {"causal": causal, "window": num_frames}
    match routing:
        case "none":
            return None
        case "static":
            return StaticRouting(channels, widths)
        case "per_frame":
            if num_frames is None:
                raise ValueError("routing='per_frame' learns factors for every frame; give num_frames")
            return StaticRouting(channels, widths, num_frames=num_frames)
        case "clip":
            return ConvRouting(channels, widths, ratio=ratio, kernels=(1, 1), sees="clip", **past)
        case "frame":
            return ConvRouting(channels, widths, ratio=ratio, kernels=(1, 1), sees="frames", causal=True)
        case "linear":
            return LinearRouting(channels, widths, kernel=kernels[0], causal=causal)
        case "local":
            return ConvRouting(channels, widths, ratio=ratio, kernels=kernels, sees="frames", **past)
        case "global":
            return ConvRouting(channels, widths, ratio=ratio, kernels=(1, 1), sees="both", **past)
        case "local_global":
            return ConvRouting(channels, widths, ratio=ratio, kernels=kernels, sees="both", **past)
        case "local_global_ln":
            return ConvRouting(channels, widths, ratio=ratio, kernels=kernels, sees="both", norm="layer", **past)
        case "attention":
            return AttentionRouting(
                channels, widths, ratio=ratio, kernels=kernels, head_dim=head_dim, zero_init=zero_init
            )
        case "causal":
            return CausalRouting(channels, widths)
    raise ValueError(f"routing={routing!r} is unknown; give one of {', '.join(ROUTINGS)}")
