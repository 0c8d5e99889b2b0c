"""ResNets of 3-D convolutions: R3D, R(2+1)D and SlowOnly, as TAdaConv's authors calibrate them.

The layouts are those whose size and cost are printed in Huang et al. 2022, table 3 (arXiv:2110.06178). All keep the number
of frames.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Unpack

from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.blocks3d import EXPANSION, STAGES, Filling3d, fill_convolutions, trunk3d
from kinema.backbones.holes import LayerFactory


class R3D(nn.Module):
    """A ResNet whose 3 x 3 convolutions see three frames (Tran et al. 2018, arXiv:1711.11248, in bottleneck form).

    No pooling behind the stem: the first stage strides instead, as in TAda2D. pytorchvideo's own 3-D ResNets pool.

    Args:
        layers: Blocks in each of the four stages.
        width: Channels of the stem.
        in_channels: Channels of the clip.
        stem_frames: Frames that the stem sees: 3 gives the paper's size and cost; checkpoints made with the authors'
            configuration of a two-dimensional stem need 1.
        filling: What replaces the 3 x 3 x 3 convolutions.

    Shape:
        (B, in_channels, T, H, W) to (B, 32 * width, T, ceil(H / 32), ceil(W / 32)).
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        *,
        width: int = 64,
        in_channels: int = 3,
        stem_frames: int = 3,
        **filling: Unpack[Filling3d],
    ) -> None:
        super().__init__()
        self.in_channels, self.num_features = in_channels, EXPANSION * 8 * width
        self.trunk = trunk3d(
            layers,
            width=width,
            in_channels=in_channels,
            stem_frames=stem_frames,
            stem_pool=False,
            frames_a=(1, 1, 1, 1),
            frames_b=3,
            zero_init_last=False,
        )
        fill_convolutions(self.trunk, **filling)

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T h w"]:
        return self.trunk(clip)


class R2Plus1D(nn.Module):
    """A ResNet with a convolution over three frames behind every 3 x 3 (Tran et al. 2018, section 3.5, arXiv:1711.11248).

        a: 1 x 1 x 1   ->   b: 1 x 3 x 3   ->   t: 3 x 1 x 1   ->   c: 1 x 1 x 1,   norm and ReLU behind each of a, b, t

    As in the code of TAdaConv's authors and unlike the paper, the bottleneck is not widened between b and t, and the
    stem sees single frames. pytorchvideo's `Conv2plus1d` computes the same; it holds b's norm inside and puts t's in
    the place of the block's, so that image weights would not line up. Here t and its norm stand in front of c instead.

    Args:
        layers, width, in_channels: As for `R3D`.
        time_convolution: Builds what replaces t, in the stages where `convolution` replaces b.
        filling: What replaces b.

    Shape:
        As for `R3D`.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        *,
        width: int = 64,
        in_channels: int = 3,
        time_convolution: LayerFactory | None = None,
        **filling: Unpack[Filling3d],
    ) -> None:
        super().__init__()
        self.in_channels, self.num_features = in_channels, EXPANSION * 8 * width
        self.trunk = trunk3d(
            layers,
            width=width,
            in_channels=in_channels,
            stem_frames=1,
            stem_pool=False,
            frames_a=(1, 1, 1, 1),
            frames_b=1,
            conv_c=_time_and_pointwise,
            zero_init_last=False,
        )
        fill_convolutions(self.trunk, **filling)
        stages = filling.get("convolution_stages", STAGES)
        fill_convolutions(self.trunk, time_convolution, stages, name="branch2.conv_c.conv_t")

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T h w"]:
        return self.trunk(clip)


class SlowOnly(nn.Module):
    """The slow pathway of SlowFast alone (Feichtenhofer et al. 2019, arXiv:1812.03982).

    Time is seen by the first convolution of the blocks in the last two stages, three frames wide. Equal to
    pytorchvideo's `create_resnet` with its defaults and a stem of single frames.

    Args:
        layers, width, in_channels: As for `R3D`.
        filling: What replaces the 1 x 3 x 3 convolutions.

    Shape:
        As for `R3D`.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        *,
        width: int = 64,
        in_channels: int = 3,
        **filling: Unpack[Filling3d],
    ) -> None:
        super().__init__()
        self.in_channels, self.num_features = in_channels, EXPANSION * 8 * width
        self.slow = trunk3d(
            layers,
            width=width,
            in_channels=in_channels,
            stem_frames=1,
            stem_pool=True,
            frames_a=(1, 1, 3, 3),
            frames_b=1,
            zero_init_last=True,
        )
        fill_convolutions(self.slow, **filling)

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T h w"]:
        return self.slow(clip)


def _time_and_pointwise(in_channels: int, out_channels: int, **pointwise: Any) -> nn.Sequential:
    """Convolution over three frames, norm and ReLU in front of the block's last convolution."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv_t=nn.Conv3d(in_channels, in_channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
        norm_t=nn.BatchNorm3d(in_channels),
        act_t=nn.ReLU(inplace=True),
        conv=nn.Conv3d(in_channels, out_channels, **pointwise),
    )
    return nn.Sequential(layers)
