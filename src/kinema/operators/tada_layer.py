"""A calibrated convolution with its router: what takes the place of a convolution in a network."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.operators.routing import Routing, RoutingName, build_routing, describe
from kinema.operators.tadaconv import Calibration, CalibrationDim, TAdaConv2d, TAdaConv3d


class TAdaLayer(nn.Module):
    """TAdaConv as a layer: descriptors of the frames, a router, and the convolution it calibrates.

        y = conv(x; factors = router(describe(x)))

    With any router that starts at one, the layer is at first the convolution it was made from.

    Args:
        conv: `TAdaConv2d` or `TAdaConv3d`.
        router: From descriptors to the factors `conv` takes; None leaves it plain. Trailing channels that the router
            does not speak of stay at one.

    Shape:
        (B, C_in, T, H, W) to (B, C_out, T, H', W').
    """

    def __init__(self, conv: TAdaConv2d | TAdaConv3d, router: Routing | None) -> None:
        super().__init__()
        self.conv = conv
        self.router = router

    def forward(self, x: Float[Tensor, "B I T H W"]) -> Float[Tensor, "B O T h w"]:
        if self.router is None:
            return self.conv(x)
        return self.conv(x, self._completed(self.router(describe(x))))

    def init_state(self, frame: Float[Tensor, "B I H W"]) -> dict[str, Tensor]:
        """What the router knows before the first frame; {} where frames do not matter to one another.

        Raises:
            ValueError: If the layer cannot run frame by frame.
        """
        if isinstance(self.conv, TAdaConv3d) or (self.router is not None and not self.router.causal):
            router = "a 3-D convolution" if isinstance(self.conv, TAdaConv3d) else type(self.router).__name__
            raise ValueError(
                f"a layer with {router} needs the whole clip, so it cannot run on a stream; calibrate a 2-D convolution by "
                "a router with causal=True, or by routing='causal'"
            )
        return {} if self.router is None else self.router.init_state(frame[:, :, 0, 0])

    def step(
        self, frame: Float[Tensor, "B I H W"], state: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "B O h w"], dict[str, Tensor]]:
        """One frame calibrated from it and those before it, and the next state; with `CausalRouting`, Online-TAdaConv."""
        if self.router is None:
            return self.conv(frame[:, :, None])[:, :, 0], state
        factors, state = self.router.step(frame.mean(dim=(2, 3)), state)
        return self.conv(frame[:, :, None], self._completed(factors))[:, :, 0], state

    def _completed(self, factors: Calibration) -> Calibration:
        """Ones for the channels that the router does not speak of."""
        full = self.conv.widths
        return Calibration(
            **{
                name: _with_ones(factor, full[name]) if name in full else factor
                for name, factor in factors._asdict().items()
                if factor is not None
            }
        )


def calibrate(
    conv: nn.Conv2d | nn.Conv3d,
    *,
    calibration: CalibrationDim | None = None,
    routing: RoutingName = "local_global",
    fraction: float = 1.0,
    calibrate_bias: bool = False,
    num_frames: int | None = None,
    causal: bool = False,
    **routing_options: Any,
) -> TAdaLayer:
    """A convolution's weights in a `TAdaLayer`, equal to the convolution at first for any router that starts at one.

    Args:
        conv: In two or three dimensions, zero-padded.
        calibration: See `TAdaConv2d`; "cout" for a convolution with groups, else "cin", when None.
        routing: See `kinema.operators.routing`.
        fraction: Share of the channels that are calibrated, the leading ones, at least one channel. Taps are not counted.
        calibrate_bias: Whether the bias gets a factor too (TAdaConvNeXt and TAdaFormer); one number per frame for
            "causal" as in Online-TAdaConv, else one per channel. Nothing happens where there is no bias.
        num_frames: For routing "per_frame"; if causal, for those that know the mean of the clip.
        causal: The router sees the past alone, see `build_routing`.
        routing_options: `ratio`, `kernels`, `head_dim`, `zero_init` of `build_routing`.

    Raises:
        ValueError: If the fraction is not in (0, 1], convolution or router refuse their options, or a 3-D convolution shall
            be causal.
    """
    if causal and isinstance(conv, nn.Conv3d) and conv.kernel_size[0] > 1:
        raise ValueError(f"{conv} sees frames to come, so its calibration cannot be causal; give a 2-D convolution")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction} is no share of the channels; give a number in (0, 1]")
    made: TAdaConv2d | TAdaConv3d
    if isinstance(conv, nn.Conv3d):
        made = TAdaConv3d.from_conv(conv, calibration=calibration)
    else:
        made = TAdaConv2d.from_conv(conv, calibration=calibration)
    widths = {name: max(1, int(width * fraction)) if name != "kernel" else width for name, width in made.widths.items()}
    if calibrate_bias and made.bias is not None:
        widths["bias"] = 1 if routing == "causal" else made.out_channels
    options: dict[str, Any] = {"num_frames": num_frames, "causal": causal, **routing_options}
    router = build_routing(routing, made.in_channels, widths, **options)
    return TAdaLayer(made, router.to(conv.weight) if router is not None else None)


def calibrator(**options: Any) -> "partial[TAdaLayer]":
    """`calibrate` with its options fixed, as a factory for the holes of a backbone."""
    return partial(calibrate, **options)


def _with_ones(factor: Float[Tensor, "B C T"], width: int) -> Float[Tensor, "B W T"]:
    missing = width - factor.shape[1]
    if missing == 0:
        return factor
    return torch.cat([factor, factor.new_ones(factor.shape[0], missing, factor.shape[2])], dim=1)
