"""The feed-forward part of a transformer's block."""

from jaxtyping import Float
from torch import Tensor, nn

from kinema.operators.token_linear import TokenLinear


class FeedForward(nn.Module):
    """fc2(GELU(fc1(x))), token by token.

    Args:
        dim: Size of D.
        hidden: Channels between the two layers.

    Shape:
        (..., D) to the same.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = TokenLinear(hidden, dim)

    def forward(self, tokens: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        return self.fc2(self.act(self.fc1(tokens)))
