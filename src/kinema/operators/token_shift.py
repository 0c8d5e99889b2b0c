"""Token shift: a temporal shift of tokens within a transformer, by thirds of the channels."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class TokenShift(nn.Module):
    """Move a third of the channels one frame back from the future, and another one frame on from the past.

    With F = floor(D / 3), frames counted from 0 and frames outside the clip zero:

        y[t, c] = x[t + 1, c]   for       c <  F
        y[t, c] = x[t - 1, c]   for 2F <= c < 3F
        y[t, c] = x[t, c]       otherwise

    The idea is that of the temporal shift (Lin, Gan and Han 2019, arXiv:1811.08383); thirds, and the channels in which
    they stand, are those of lucidrains/TimeSformer-pytorch, where a shift stands behind the norm of every attention and
    feed-forward part and leaves class tokens alone. Costs no multiplications and one copy of the tokens.

    Differs from that code in what it does to padding: a frame that is none counts as zero, as one outside the clip does,
    so that nothing of it reaches its neighbours.

    Args:
        dim: Size of D.

    Shape:
        (B, h, w, T, D) to the same; any T.

    Raises:
        ValueError: If there are fewer than three channels, so that none would move.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 3:
            raise ValueError(f"a token shift moves thirds of the channels and dim={dim} has none; give at least 3")
        self.dim = dim

    def forward(
        self, patches: Float[Tensor, "B h w T D"], valid: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B h w T D"]:
        """The shifted tokens.

        Args:
            patches: Tokens.
            valid: False for frames that are padding.
        """
        third = self.dim // 3
        if valid is not None:
            patches = patches.masked_fill(~valid[:, None, None, :, None], 0)
        later, still, earlier, rest = patches.split([third, third, third, self.dim - 3 * third], dim=-1)
        from_future = F.pad(later[..., 1:, :], (0, 0, 0, 1))
        from_past = F.pad(earlier[..., :-1, :], (0, 0, 1, 0))
        return torch.cat([from_future, still, from_past, rest], dim=-1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
