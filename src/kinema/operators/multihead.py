"""Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762), the part that transformers of kinema share."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.token_linear import TokenLinear


class Attention(nn.Module):
    """softmax(scale q k^T) v for each head, then a linear layer.

    Args:
        dim: Size of D.
        num_heads: Must divide D where `head_dim` is None.
        head_dim: Channels d of a head; D / num_heads when None.
        qkv_bias: Whether queries, keys and values have a bias.
        scale: Of the products; head size ** -0.5 when None.

    Shape:
        (..., N, D) to the same.

    Raises:
        ValueError: If the heads do not divide the channels, or have none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or (head_dim is None and dim % num_heads):
            raise ValueError(f"num_heads={num_heads} does not divide {dim} channels; give a divisor")
        head_dim = dim // num_heads if head_dim is None else head_dim
        if head_dim < 1:
            raise ValueError(f"head_dim={head_dim} leaves nothing to compare; give at least 1")
        self.dim, self.num_heads, self.inner = dim, num_heads, num_heads * head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.qkv = TokenLinear(dim, 3 * self.inner, bias=qkv_bias)
        self.proj = TokenLinear(self.inner, dim)

    def forward(
        self,
        tokens: Float[Tensor, "*G N D"],
        mask: Bool[Tensor, "..."] | None = None,
        keep: list[Tensor] | None = None,
    ) -> Float[Tensor, "*G N D"]:
        """Attention of tokens among themselves.

        Args:
            tokens: Any number of groups.
            mask: True where a query may see a key, of a shape that expands to (*G, heads, N, N).
            keep: Gets the weights appended, which are not formed otherwise.
        """
        q, k, v = self._project(tokens, 0, 3)
        return self.merge(self.attend(q, k, v, mask, keep))

    def queries_keys_values(self, tokens: Float[Tensor, "*G N D"]) -> tuple[Tensor, Tensor, Tensor]:
        """All three, each (*G, heads, N, d)."""
        q, k, v = self._project(tokens, 0, 3)
        return q, k, v

    def queries(self, tokens: Float[Tensor, "*G N D"]) -> Float[Tensor, "*G heads N d"]:
        """Queries alone."""
        return self._project(tokens, 0, 1)[0]

    def keys_values(self, tokens: Float[Tensor, "*G M D"]) -> tuple[Tensor, Tensor]:
        """Keys and values alone, each (*G, heads, M, d)."""
        k, v = self._project(tokens, 1, 3)
        return k, v

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, keep: list[Tensor] | None = None
    ) -> Float[Tensor, "*G heads N d"]:
        """softmax(scale q k^T) v."""
        if keep is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        weights = self.weights(q, k, mask)
        keep.append(weights)
        return weights @ v

    def weights(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Float[Tensor, "*G heads N M"]:
        """softmax(scale q k^T), which `attend` never forms."""
        scores = q @ k.transpose(-2, -1) * self.scale
        return (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(dim=-1)

    def merge(self, heads: Float[Tensor, "*G heads N d"]) -> Float[Tensor, "*G N D"]:
        """The last linear layer, on all heads side by side."""
        return self.proj(heads.transpose(-2, -3).flatten(-2))

    def _project(self, tokens: Tensor, first: int, last: int) -> list[Tensor]:
        """Some of queries, keys and values, by the rows of the one layer that makes all three.

        The layer is called, its weights are not read: pruning hooks into the call. Of another one in its place, such as that
        of an adapter, all rows are made.
        """
        rows = first * self.inner, last * self.inner
        if (first, last) == (0, 3):
            made = self.qkv(tokens)
        elif type(self.qkv) is TokenLinear:
            made = self.qkv(tokens, *rows)
        else:
            made = self.qkv(tokens)[..., slice(*rows)]
        parts = made.unflatten(-1, (last - first, self.num_heads, -1))
        return [part.transpose(-2, -3) for part in parts.unbind(-3)]
