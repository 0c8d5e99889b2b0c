"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) on every frame."""

from typing import Any, Unpack

import timm

from kinema.backbones.frames import Filling, FrameBackbone
from kinema.backbones.holes import Site


def mobilenetv2(*, in_channels: int = 3, **filling: Unpack[Filling]) -> FrameBackbone:
    """timm's `mobilenetv2_100`; only blocks with a shortcut may hold a mixer, ten of seventeen, as in the TSM code.

    Same arithmetic as torchvision's network under other names. Depthwise convolutions start wider than in the code of
    the TSM authors, by the square root of their number of channels, because timm counts fan-out per group.

    Args:
        in_channels: Channels of the clip.
        filling: Operators for the holes. Stages are named "blocks.0" to "blocks.6".

    Shape:
        (B, in_channels, T, H, W) to (B, 1280, T', ceil(H / 32), ceil(W / 32)).
    """
    trunk: Any = timm.create_model(
        "mobilenetv2_100", pretrained=False, in_chans=in_channels, num_classes=0, global_pool=""
    )
    sites = []
    channels = trunk.conv_stem.out_channels
    for stage, blocks in enumerate(trunk.blocks):
        for index, block in enumerate(blocks):
            expands = hasattr(block, "conv_pwl")  # all but the first: 1 x 1 out, depthwise, 1 x 1 in
            entry = "conv_pw" if expands else "conv_dw"
            out_channels = (block.conv_pwl if expands else block.conv_pw).out_channels
            sites.append(Site(f"blocks.{stage}", index, entry, channels, out_channels, mixes=block.has_skip))
            channels = out_channels
    return FrameBackbone(trunk, sites, num_features=trunk.num_features, in_channels=in_channels, **filling)
