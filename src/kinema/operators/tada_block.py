"""TAda block of TAdaFormer: a bottleneck around a calibrated convolution (Huang et al. 2023, arXiv:2308.05787)."""

from jaxtyping import Float
from torch import Tensor, nn

from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.routing import RoutingName, build_routing, quick_gelu
from kinema.operators.tada_layer import TAdaLayer
from kinema.operators.tadaconv import TAdaConv2d
from kinema.shapes import check_clip


class TAdaBlock(nn.Module):
    """What a TAdaFormer adds to the patch tokens of a clip.

        y = W_expand quick_gelu(aggregate(tada(W_reduce x)))

    where tada is a depthwise convolution over the patches of a frame, calibrated on its output channels and its bias, and
    aggregate a `TemporalAggregation` by batch norms. W_expand and its bias start at zero, so at first the block is zero.
    The factors of the convolution start near zero and not at one (see `AttentionRouting`, zero_init=False), as in the
    authors' code.

    Args:
        channels: Size of D.
        reduction: D over the channels of the bottleneck, rounded down.
        kernel_size: Side of the convolution, odd.
        enhanced: W_reduce sees three frames: a convolution over time instead of a linear layer. The authors use it on
            Something-Something.
        routing: Router of the convolution.
        routing_ratio, routing_kernels: Of the router, see `kinema.operators.routing`.
        routing_head_dim: Channels of an attention head of the router; one head when None.
        num_frames: For routing "per_frame".

    Shape:
        (B, D, T, h, w) to the same, for any T and any grid of patches h x w.

    Raises:
        ValueError: If the reduction leaves no channel, the kernel is even, or the router refuses its options.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        kernel_size: int = 3,
        enhanced: bool = False,
        routing: RoutingName = "attention",
        routing_ratio: int = 2,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = 64,
        num_frames: int | None = None,
    ) -> None:
        super().__init__()
        if reduction < 1 or channels // reduction < 1:
            raise ValueError(f"reduction={reduction} leaves no channel of channels={channels}; give 1 to {channels}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} has no centre; give an odd number, 3 in the paper")
        width = channels // reduction
        self.channels = channels
        self.enhanced = enhanced
        self.reduce = (
            nn.Conv3d(channels, width, (3, 1, 1), padding=(1, 0, 0)) if enhanced else nn.Linear(channels, width)
        )
        conv = TAdaConv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width, calibration="cout")
        router = build_routing(
            routing,
            width,
            conv.widths | {"bias": width},
            ratio=routing_ratio,
            kernels=routing_kernels,
            head_dim=routing_head_dim or max(1, width // routing_ratio),
            zero_init=False,
            num_frames=num_frames,
        )
        self.calibrated = TAdaLayer(conv, router)
        self.aggregation = TemporalAggregation(nn.BatchNorm2d(width), nn.BatchNorm2d(width))
        self.expand = nn.Linear(width, channels)
        nn.init.trunc_normal_(self.reduce.weight, std=0.02)
        nn.init.trunc_normal_(conv.weight, std=0.02)
        for layer in (self.reduce, self.expand):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.expand.weight)

    def forward(self, x: Float[Tensor, "B D T h w"]) -> Float[Tensor, "B D T h w"]:
        check_clip(x, channels=self.channels)
        x = self.reduce(x) if self.enhanced else _on_channels(self.reduce, x)
        return _on_channels(self.expand, quick_gelu(self.aggregation(self.calibrated(x))))


def _on_channels(layer: nn.Module, x: Float[Tensor, "B C T h w"]) -> Float[Tensor, "B D T h w"]:
    """A linear layer on axis 1."""
    return layer(x.movedim(1, -1)).movedim(-1, 1)
