"""One 3 x 3 convolution of a video network with each way of letting frames hear one another. Only `kinema bench` uses it."""

from jaxtyping import Float
from torch import Tensor, nn

from kinema.operators.nonlocal_block import NonLocalBlock
from kinema.operators.shift import TemporalShift
from kinema.operators.tada_layer import calibrate
from kinema.operators.temporal_conv import TemporalConv
from kinema.shapes import fold_time, unfold_time


def operator_forms(channels: int, kernel_size: int = 3) -> dict[str, nn.Module]:
    """A layer of as many channels out as in, first frame by frame, then with every operator; no norms or activations.

    Args:
        channels: Channels of the feature maps, a multiple of 4.
        kernel_size: Rows and columns of the kernels, odd.

    Returns:
        `frame_wise`, the convolution alone, which the others extend; `shift`, a quarter of the channels moved before it;
        `tadaconv` and `tadaconv_v2`, its kernel calibrated by the local and global router and by the one with attention;
        `depthwise_3x1x1`, a learnt shift before it; `2+1d`, a convolution over time of all channels before it; `3d`, the
        kernel of three frames instead of it; `non_local`, a block of the kind that TSM's authors add, behind it.
    """

    def conv() -> nn.Conv2d:
        return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)

    padding = (1, kernel_size // 2, kernel_size // 2)
    volume = nn.Conv3d(channels, channels, (3, kernel_size, kernel_size), padding=padding, bias=False)
    return {
        "frame_wise": FrameWise(conv()),
        "shift": nn.Sequential(TemporalShift(channels), FrameWise(conv())),
        "tadaconv": calibrate(conv()),
        "tadaconv_v2": calibrate(conv(), routing="attention", head_dim=min(64, channels // 4)),
        "depthwise_3x1x1": nn.Sequential(TemporalConv(channels, depthwise=True), FrameWise(conv())),
        "2+1d": nn.Sequential(TemporalConv(channels), FrameWise(conv())),
        "3d": volume,
        "non_local": nn.Sequential(FrameWise(conv()), NonLocalBlock(channels)),
    }


class FrameWise(nn.Module):
    """A 2-D layer on every frame of a clip."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        return unfold_time(self.layer(fold_time(x)), x.shape[2])
