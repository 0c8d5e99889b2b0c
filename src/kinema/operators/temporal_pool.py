"""Temporal max pooling, the option of the TSM code that halves the frames inside a network."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.shapes import check_clip


class TemporalMaxPool(nn.Module):
    """Keep every second frame, each the maximum over itself and its two neighbours.

        y[t] = max(x[2t - 1], x[2t], x[2t + 1])     frames outside the clip left out

    Source: the `temporal_pool` option of Lin, Gan and Han 2019 (code only; no number was published). Their version
    needs an even T; this one takes any. Reads the future: not for causal networks.

    Shape:
        (B, C, T, H, W) to (B, C, ceil(T / 2), H, W).
    """

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C U H W"]:
        check_clip(x)
        return F.max_pool3d(x, kernel_size=(3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
