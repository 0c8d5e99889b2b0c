"""Calibration in front of a convolution that stays as it is."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from kinema.operators.routing import RoutingName, build_routing, describe
from kinema.shapes import check_clip


class FeatureCalibration(nn.Module):
    """Scale every channel of every frame by a router's factor: TAdaConv for the convolution behind it.

        y[b, c, t] = router(describe(x))[b, c, t] * x[b, c, t]

    A convolution of y is the convolution of x with its kernel calibrated on the input channels (Huang et al. 2022,
    section 3, arXiv:2110.06178), whatever kind of convolution it is, so this brings TAdaConv to networks whose
    convolutions cannot be replaced: of several groups, padded in ways of their own, with standardised weights. Before a
    depthwise convolution it is at once the calibration of the output channels. The bias is not calibrated.

    Args:
        channels: Size of C.
        routing: See `kinema.operators.routing`; any but "none".
        num_frames: For routing "per_frame".
        routing_options: `ratio`, `kernels`, `head_dim`, `zero_init` of `build_routing`.

    Shape:
        (B, C, T, H, W) to the same. At first the identity, for any router that starts at one.

    Raises:
        ValueError: If the router refuses its options.
    """

    def __init__(
        self,
        channels: int,
        *,
        routing: RoutingName = "local_global",
        num_frames: int | None = None,
        **routing_options: Any,
    ) -> None:
        super().__init__()
        ratio = min(routing_options.pop("ratio", 4), channels)
        router = build_routing(
            routing, channels, {"cin": channels}, num_frames=num_frames, ratio=ratio, **routing_options
        )
        if router is None:
            raise ValueError("routing='none' calibrates nothing; give another, or leave the operator out")
        self.channels = channels
        self.router = router

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.channels)
        factor = self.router(describe(x)).cin
        assert factor is not None
        return x * factor[..., None, None]
