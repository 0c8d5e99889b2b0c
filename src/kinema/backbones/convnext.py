"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545) on every frame."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

from jaxtyping import Float
from timm.models.convnext import ConvNeXt as TimmConvNeXt
from torch import Tensor, nn

from kinema.backbones.drop_path import check_rate, drop_whole_clips
from kinema.backbones.frames import Filling, FrameBackbone
from kinema.backbones.holes import Hole, LayerFactory, Site
from kinema.backbones.streaming import StreamState
from kinema.backbones.weight_init import WeightInit, check_weight_init

_SMALLEST = 32  # pixels: the last of the four stages would see none of a smaller frame


class ConvNeXtBackbone(FrameBackbone):
    """A clip to one vector: the maps of all frames averaged, then the last norm, as ConvNeXt does for one frame.

    Args:
        trunk: timm's ConvNeXt.
        sites: Its blocks in order of execution.
        stem: Builds what takes the place of the first convolution, from that convolution; it may change the number of
            frames.
        options: See `FrameBackbone`.

    Shape:
        (B, in_channels, T, H, W) to (B, num_features).

    Raises:
        ValueError: If a frame is smaller than 32 x 32 pixels.
    """

    def __init__(
        self, trunk: TimmConvNeXt, sites: Sequence[Site], *, stem: LayerFactory | None = None, **options: Any
    ) -> None:
        super().__init__(trunk, sites, **options)
        drop_whole_clips(trunk, self._batch)
        if stem is not None:
            trunk.stem[0] = Hole(stem(trunk.stem[0]), self._batch)

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        if min(clip.shape[-2:]) < _SMALLEST:
            height, width = clip.shape[-2:]
            raise ValueError(
                f"frames of {height} x {width} pixels are too small for four stages; give at least "
                f"{_SMALLEST} x {_SMALLEST}"
            )
        maps = super().forward(clip)
        trunk: Any = self.trunk
        return trunk.forward_head(maps.flatten(2, 3), pre_logits=True)  # frames above each other: one mean over all

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> StreamState:
        """Refuse: the last norm stands behind the mean over all frames.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "a ConvNeXt has its last norm behind the mean over all frames of a clip, so it cannot run on a stream; build "
            "tsm_*, tada2d_* or timesformer_* with causal=True"
        )


def convnext(
    depths: Sequence[int],
    *,
    width: int = 96,
    activation: Literal["gelu", "quick_gelu"] = "gelu",
    drop_path: float = 0.0,
    weight_init: WeightInit = "authors",
    in_channels: int = 3,
    stem: LayerFactory | None = None,
    **filling: Unpack[Filling],
) -> ConvNeXtBackbone:
    """timm's ConvNeXt: patches of 4 x 4, depthwise 7 x 7 convolutions, layer scale.

    Args:
        depths: Number of blocks in each of the four stages, which are named "stages.0.blocks" to "stages.3.blocks".
        width: Channels of the first stage, doubled from each stage to the next.
        activation: Between the two linear layers of a block.
        drop_path: Rate of stochastic depth at the last block, rising from 0 at the first; drawn for each clip.
        weight_init: "authors": linear layers and convolutions truncated normal 0.02, layer scale 1e-6, for weights that come
            from images. "scratch": those that mix channels truncated normal 1 / sqrt(inputs), layer scale 1. From the authors'
            values a small network hears of its branches after hundreds of steps for the first time.
        in_channels: Channels of the clip.
        stem: See `ConvNeXtBackbone`.
        filling: Operators for the holes; every block may hold a mixer. The norm behind a convolution sees frames
            channels-last, (B * T, H, W, C): what takes its place is called on (B, H, T, W, C).

    Shape:
        (B, in_channels, T, H, W) to (B, 8 * width).

    Raises:
        ValueError: If there are not four stages of at least one block, or the rate is not in [0, 1).
    """
    check_rate(drop_path)
    check_weight_init(weight_init)
    if len(depths) != 4 or any(depth < 1 for depth in depths):
        raise ValueError(f"depths={tuple(depths)}: a ConvNeXt has four stages of at least one block each")
    dims = tuple(width * 2**stage for stage in range(4))
    trunk = TimmConvNeXt(
        in_chans=in_channels,
        num_classes=0,
        depths=tuple(depths),
        dims=dims,
        act_layer=activation,
        drop_path_rate=drop_path,
    )
    if weight_init == "scratch":
        _start_from_nothing(trunk)
    spatial = (("conv_dw", "norm"),)
    sites = [
        Site(f"stages.{stage}.blocks", index, "conv_dw", channels, channels, spatial=spatial)
        for stage, (depth, channels) in enumerate(zip(depths, dims, strict=True))
        for index in range(depth)
    ]
    return ConvNeXtBackbone(
        trunk, sites, stem=stem, num_features=trunk.num_features, in_channels=in_channels, **filling
    )


def _start_from_nothing(trunk: TimmConvNeXt) -> None:
    """A branch says as much as what it is added to, whatever the width."""
    for name, parameter in trunk.named_parameters():
        if name.endswith("gamma"):
            nn.init.ones_(parameter)
        elif parameter.ndim > 1 and parameter.shape[1] > 1:  # not the depthwise kernels, which a norm follows
            nn.init.trunc_normal_(parameter, std=parameter[0].numel() ** -0.5)
