"""Calibration in front of a convolution that stays as it is."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        fraction: Share of the channels that are calibrated, the leading ones, at least one channel.
        ratio: Of the router, see `build_routing`; no more than C.
        kernels, zero_init: Of the router, see `build_routing`.
        head_dim: Channels of an attention head of the router; one head when None.
        num_frames: For routing "per_frame".

    Shape:
        (B, C, T, H, W) to the same. At first the identity, for any router that starts at one.

    Raises:
        ValueError: If the fraction is not in (0, 1], or the router refuses its options.
    """

    def __init__(
        self,
        channels: int,
        *,
        routing: RoutingName = "local_global",
        fraction: float = 1.0,
        ratio: int = 4,
        kernels: tuple[int, int] = (3, 3),
        head_dim: int | None = None,
        zero_init: bool = True,
        num_frames: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction} is no share of the channels; give a number in (0, 1]")
        ratio = min(ratio, channels)
        router = build_routing(
            routing,
            channels,
            {"cin": max(1, int(channels * fraction))},
            ratio=ratio,
            kernels=kernels,
            head_dim=head_dim or max(1, channels // max(1, ratio)),
            zero_init=zero_init,
            num_frames=num_frames,
        )
        if router is None:
            raise ValueError("routing='none' calibrates nothing; give another, or leave the operator out")
        self.channels = channels
        self.router = router

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.channels)
        factor = self.router(describe(x)).cin
        assert factor is not None
        factor = F.pad(factor, (0, 0, 0, self.channels - factor.shape[1]), value=1.0)
        return x * factor[..., None, None]
