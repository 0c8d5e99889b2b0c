"""The feed-forward part of a transformer's block, gated (Shazeer 2020, arXiv:2002.05202)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.token_linear import TokenLinear


class GatedFeedForward(nn.Module):
    """fc2(u GELU(g)) with (u, g) = fc1(x), token by token: the paper's GEGLU, here with biases.

    Args:
        dim: Size of D.
        hidden: Channels of u and of g each.
        dropout: Rate of dropping a channel between the two layers.

    Shape:
        (..., D) to the same.
    """

    def __init__(self, dim: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = TokenLinear(dim, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = TokenLinear(hidden, dim)

    def forward(self, tokens: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        value, gate = self.fc1(tokens).chunk(2, dim=-1)
        return self.fc2(self.dropout(value * F.gelu(gate)))
