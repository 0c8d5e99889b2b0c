"""A learnt convolution over time where a temporal shift would stand: the control of TSM's comparisons."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.shapes import check_clip


class TemporalConv(nn.Module):
    """y_c[t] = sum over k and d of w_cd[k] x_d[t + k - K // 2], without bias; frames outside the clip are zero.

    Lin, Gan and Han 2019 (arXiv:1811.08383) compare the shift with convolutions of 3 x 1 x 1 that replace it.
    A depthwise one (d = c alone) is the shift with its weights learnt: the shift by one frame is the kernel (1, 0, 0) or
    (0, 0, 1) of a channel. At first the kernel is (0, 1, 0), so that a network starts as it was without it.

    Costs channels x kernel_size multiplications a number when depthwise, channels ** 2 x kernel_size otherwise; the shift
    costs none.

    Args:
        channels: Size of C.
        kernel_size: K, odd; even if causal.
        depthwise: Every channel by itself.
        causal: See the past only: x[t + k - K + 1].

    Shape:
        (B, C, T, H, W) to the same.

    Raises:
        ValueError: If the kernel has no centre.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, depthwise: bool = False, causal: bool = False) -> None:
        super().__init__()
        if kernel_size < 1 or (not causal and kernel_size % 2 == 0):
            raise ValueError(f"kernel_size={kernel_size} has no centre; give an odd number")
        self.channels, self.kernel_size, self.causal = channels, kernel_size, causal
        self.groups = channels if depthwise else 1
        self.weight = nn.Parameter(torch.zeros(channels, 1 if depthwise else channels, kernel_size))
        with torch.no_grad():
            own = torch.ones(channels, 1) if depthwise else torch.eye(channels)
            self.weight[..., kernel_size - 1 if causal else kernel_size // 2] = own

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.channels)
        before = self.kernel_size - 1 if self.causal else self.kernel_size // 2
        return self._convolved(F.pad(x, (0, 0, 0, 0, before, self.kernel_size - 1 - before)))

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C S H W"]:
        """The frames before the first, zeros.

        Raises:
            ValueError: If the convolution sees the future.
        """
        if not self.causal:
            raise ValueError(
                "this convolution sees frames to come, so it cannot run on a stream; build it with causal=True"
            )
        batch, channels, height, width = frame.shape
        return frame.new_zeros(batch, channels, self.kernel_size - 1, height, width)

    def step(
        self, frame: Float[Tensor, "B C H W"], state: Float[Tensor, "B C S H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C S H W"]]:
        """One frame and the frames before it; returns the output frame and the next state."""
        frames = torch.cat([state, frame.unsqueeze(2)], dim=2)
        return self._convolved(frames)[:, :, 0], frames[:, :, 1:]

    def _convolved(self, x: Float[Tensor, "B C S H W"]) -> Float[Tensor, "B C T H W"]:
        """Time as the rows of a picture, one column a place: 2-D kernels are far better served than thin 3-D ones."""
        picture = F.conv2d(x.flatten(3), self.weight[..., None], groups=self.groups)
        return picture.unflatten(3, x.shape[3:])
