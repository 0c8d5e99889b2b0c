"""Convolutions and means over the frames of descriptors, which have no pixels: whole clips, and frame by frame."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class TimeConvolution(nn.Conv1d):
    """A convolution over the frames of descriptors, padded with zeros so that their number stays.

    Args:
        in_channels, out_channels, bias: As for `torch.nn.Conv1d`.
        kernel: Frames it sees, odd; any number if causal.
        causal: See this frame and those before it, instead of as many on both sides.

    Shape:
        (B, I, T) to (B, O, T).

    Raises:
        ValueError: If the kernel has no centre.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, bias: bool = True, causal: bool = False
    ) -> None:
        if kernel < 1 or (kernel % 2 == 0 and not causal):
            raise ValueError(f"a kernel over {kernel} frames has no centre; give an odd number")
        super().__init__(in_channels, out_channels, kernel, padding=0 if causal else kernel // 2, bias=bias)
        self.causal = causal
        self.reach = kernel - 1

    def forward(self, input: Float[Tensor, "B I T"]) -> Float[Tensor, "B O T"]:
        return super().forward(F.pad(input, (self.reach, 0)) if self.causal and self.reach else input)

    def init_state(self, frame: Float[Tensor, "B I"]) -> Float[Tensor, "B I S"]:
        """Zeros for the frames before the first; S is the kernel less one."""
        return frame.new_zeros(*frame.shape, self.reach)

    def step(
        self, frame: Float[Tensor, "B I"], state: Float[Tensor, "B I S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B I S"]]:
        """One frame, by one product of a matrix; meant for a causal convolution, or a kernel of one frame."""
        if not self.reach:
            return F.linear(frame, self.weight[:, :, 0], self.bias), state
        window = torch.cat([state, frame[:, :, None]], dim=2)
        return F.linear(window.flatten(1), self.weight.flatten(1), self.bias), window[:, :, 1:]


class RecentMean(nn.Module):
    """The mean of this frame's descriptor and of those before it, over `window` frames at most.

        g[t] = (v[s] + ... + v[t]) / (t - s + 1),   s = max(0, t - window + 1)

    What a clip of up to `window` frames knows of itself so far, and what a stream that has no end knows of its last
    `window` frames: a network then never sees a mean over more frames than in training.

    Args:
        window: Frames at most.

    Shape:
        (B, C, T) to the same. State (B, C + 1, window - 1): the last descriptors, and in the last channel a one where there
        was a frame, or all zeros before the first.

    Raises:
        ValueError: If the window is empty.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"a mean over {window} frames is none; give at least 1")
        self.window = window

    def forward(self, v: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        frames = v.shape[2]
        place = torch.arange(frames, device=v.device)
        age = place - place[:, None]  # of frame s at frame t, in [s, t]
        seen = ((age >= 0) & (age < self.window)).to(v.dtype)
        return v @ (seen / seen.sum(dim=0))

    def init_state(self, v: Float[Tensor, "B C"]) -> Float[Tensor, "B C+1 S"]:
        """Zeros: no frame was there."""
        return v.new_zeros(v.shape[0], v.shape[1] + 1, self.window - 1)

    def step(
        self, v: Float[Tensor, "B C"], state: Float[Tensor, "B C+1 S"]
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C+1 S"]]:
        """The mean at one more frame, and the next state."""
        window = torch.cat([state, F.pad(v, (0, 1), value=1.0)[:, :, None]], dim=2)
        total = window.sum(dim=2)
        return total[:, :-1] / total[:, -1:], window[:, :, 1:]

    def extra_repr(self) -> str:
        return f"window={self.window}"
