"""ResNet (He et al. 2016, arXiv:1512.03385) on every frame."""

from collections.abc import Sequence
from typing import Any, Unpack, cast

from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import nn

from kinema.backbones.frames import Filling, FrameBackbone
from kinema.backbones.holes import Site


def resnet(
    layers: Sequence[int],
    *,
    bottleneck: bool = True,
    stem_pool: bool = True,
    in_channels: int = 3,
    **filling: Unpack[Filling],
) -> FrameBackbone:
    """timm's ResNet, whose names and arithmetic are torchvision's: the stride of a bottleneck is on its 3 x 3 ("v1.5").

    Differs from timm's default in the initial values alone: the last norm of a block starts at one, not zero, as in
    torchvision and so in the code of the TSM authors.

    Args:
        layers: Number of blocks in each of the four stages, which are named "layer1" to "layer4".
        bottleneck: Blocks of three convolutions (ResNet-50 and deeper) instead of two.
        stem_pool: Max pooling behind the first convolution. Without it the first block of "layer1" has stride 2
            instead, as in the networks of TAdaConv's authors; bottlenecks only.
        in_channels: Channels of the clip.
        filling: Operators for the holes; every block may hold a mixer.

    Shape:
        (B, in_channels, T, H, W) to (B, 512 or 2048, T', ceil(H / 32), ceil(W / 32)).
    """
    block: Any = Bottleneck if bottleneck else BasicBlock
    trunk = TimmResNet(
        block,
        tuple(layers),
        in_chans=in_channels,
        num_classes=0,
        global_pool="",
        zero_init_last=False,
    )
    if not stem_pool:
        if not bottleneck:
            raise ValueError("stem_pool=False needs bottleneck=True: the first basic block has no shortcut to stride")
        trunk.set_submodule("maxpool", nn.Identity())
        first = trunk.get_submodule("layer1.0")
        for name in ("conv2", "downsample.0"):
            cast(nn.Conv2d, first.get_submodule(name)).stride = (2, 2)
    return _with_holes(trunk, layers, in_channels, bottleneck, **filling)


def small_resnet(
    layers: Sequence[int] = (1, 1, 2, 1),
    *,
    width: int = 16,
    in_channels: int = 3,
    **filling: Unpack[Filling],
) -> FrameBackbone:
    """A ResNet for frames of about 64 pixels: basic blocks, and a stem of three 3 x 3 convolutions ("stem c").

    Args:
        layers: Number of blocks in each of the four stages.
        width: Channels of the first stage, doubled from each stage to the next; even.
        in_channels: Channels of the clip.
        filling: Operators for the holes; every block may hold a mixer.

    Shape:
        (B, in_channels, T, H, W) to (B, 8 * width, T', ceil(H / 32), ceil(W / 32)).
    """
    block: Any = BasicBlock
    trunk = TimmResNet(
        block,
        tuple(layers),
        channels=(width, 2 * width, 4 * width, 8 * width),
        stem_type="deep",
        stem_width=width // 2,
        in_chans=in_channels,
        num_classes=0,
        global_pool="",
        zero_init_last=False,
    )
    return _with_holes(trunk, layers, in_channels, False, **filling)


def _with_holes(
    trunk: TimmResNet, layers: Sequence[int], in_channels: int, bottleneck: bool, **filling: Unpack[Filling]
) -> FrameBackbone:
    sites = []
    spatial = (("conv2", "bn2"),) if bottleneck else (("conv1", "bn1"), ("conv2", "bn2"))
    channels = trunk.feature_info[0]["num_chs"]
    for stage, num_blocks, info in zip(range(1, 5), layers, trunk.feature_info[1:], strict=True):
        for index in range(num_blocks):
            sites.append(Site(f"layer{stage}", index, "conv1", channels, info["num_chs"], spatial=spatial))
            channels = info["num_chs"]
    return FrameBackbone(trunk, sites, num_features=trunk.num_features, in_channels=in_channels, **filling)
