"""Global relation of the tokens that a class token looks at most: the block of the light UniFormers.

Li et al. 2022, "UniFormer: Unifying Convolution and Self-attention for Visual Recognition" (arXiv:2201.09450), the part on
light networks, after Evo-ViT's slow and fast update of tokens (Xu et al. 2022, arXiv:2108.01390).
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from kinema.operators.relation import TokenRelation
from kinema.shapes import RankedMaps, check_clip


class PrunedRelation(TokenRelation):
    """A global block that computes the tokens of the highest scores, and lets one token stand for all others.

        r    = sum over others of (s / sum of s) x           the representative, weighted by scores
        z    = [class; kept; r]
        z'   = z + attn(norm1(z)),   z'' = z' + mlp(norm2(z'))
        kept <- z''                                          slow update
        x    <- x + (z'' - z)_r   for all others             fast update
        s    <- (1 - a) s + a (attention of the class token to the kept, mean over heads)

    int(share * N) of N tokens are kept, and every token returns to its place. With share 1 all tokens are computed together
    with the class token, and all scores are updated. Scores carry gradients, through the weights of the representative.

    Differs from the authors' code in handing scores from block to block, where theirs has global variables of the module
    (one network at a time, not compiled); in sorting by whole indices, where theirs go through the type of the features
    (wrong from 2049 tokens on in half precision); and in sums of scores in 32 bits at least. The results are the same.

    Args:
        dim, num_heads: As for `GlobalRelation`.
        share: Share of the tokens kept, in (0, 1].
        trade_off: a, in [0, 1]. The first block to score tokens has a = 1.
        options: As for `GlobalRelation`. The fast update is never dropped by stochastic depth, as in the authors' code.

    Shape:
        A `RankedMaps` to the same; C = dim.

    Raises:
        ValueError: If a share is out of its range, the heads do not divide the channels, tokens shall be pruned that nobody
            has scored, or scores are of another number of tokens.
    """

    def __init__(self, dim: int, num_heads: int, *, share: float = 0.5, trade_off: float = 0.5, **options: Any) -> None:
        super().__init__(dim, num_heads, **options)
        if not 0 < share <= 1:
            raise ValueError(f"a block that keeps a share of {share} of the tokens is none; give a number in (0, 1]")
        if not 0 <= trade_off <= 1:
            raise ValueError(f"trade_off={trade_off} is no share of a score; give a number in [0, 1]")
        self.share, self.trade_off = share, trade_off

    def forward(self, ranked: RankedMaps) -> RankedMaps:
        classes, maps, scores = ranked
        check_clip(maps, channels=self.dim)
        maps = self.pos_embed(maps)
        tokens = rearrange(maps, "b c t h w -> b (t h w) c")
        if scores is not None and scores.shape != tokens.shape[:2]:
            raise ValueError(
                f"scores of shape {tuple(scores.shape)} came with {tokens.shape[1]} tokens of {tokens.shape[0]} clips; give "
                "one score for each token, pooled as the maps are"
            )
        if self.share == 1:
            classes, tokens, scores = self._all(classes, tokens, scores)
        elif scores is None:
            raise ValueError(
                f"no scores came for a block that keeps a share of {self.share} of the tokens; let a block of share 1 "
                "go first"
            )
        else:
            classes, tokens, scores = self._some(classes, tokens, scores)
        maps = rearrange(tokens, "b (t h w) c -> b c t h w", t=maps.shape[2], h=maps.shape[3])
        return RankedMaps(classes, maps, scores)

    def _all(self, classes: Tensor, tokens: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        together, _, looks = self._computed(torch.cat([classes, tokens], dim=1))
        scores = looks[:, 1:] if scores is None else self._updated(scores, looks[:, 1:])
        return together[:, :1], together[:, 1:], scores

    def _some(self, classes: Tensor, tokens: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        order = scores.argsort(dim=1, descending=True, stable=True)
        num_kept = int(tokens.shape[1] * self.share)
        sorted_tokens, sorted_scores = taken(tokens, order), scores.gather(1, order)
        others, weights = sorted_tokens[:, num_kept:], sorted_scores[:, num_kept:]
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(tokens.dtype)
        representative = (weights[:, :, None] * others).sum(dim=1, keepdim=True)
        together, change, looks = self._computed(
            torch.cat([classes, sorted_tokens[:, :num_kept], representative], dim=1)
        )
        tokens = put_back(torch.cat([together[:, 1:-1], others + change[:, -1:]], dim=1), order)
        kept_scores = self._updated(sorted_scores[:, :num_kept], looks[:, 1:-1])
        scores = torch.zeros_like(scores).scatter(
            1, order, torch.cat([kept_scores, sorted_scores[:, num_kept:]], dim=1)
        )
        return together[:, :1], tokens, scores

    def _computed(self, tokens: Float[Tensor, "B M C"]) -> tuple[Tensor, Tensor, Float[Tensor, "B M"]]:
        """Tokens after both branches, what the branches said before any was dropped, and the looks of the first token."""
        normed = self.norm1(tokens)
        q, (k, v) = self.attn.queries(normed), self.attn.keys_values(normed)
        looks = self.attn.weights(q[:, :, :1], k)[:, :, 0].mean(dim=1)
        said = self.scaled(self.attn.merge(self.attn.attend(q, k, v)), self.gamma_1)
        tokens = tokens + self.kept(said)
        told = self.scaled(self.mlp(self.norm2(tokens)), self.gamma_2)
        return tokens + self.kept(told), said + told, looks.to(torch.promote_types(looks.dtype, torch.float32))

    def _updated(self, scores: Tensor, looks: Tensor) -> Tensor:
        return (1 - self.trade_off) * scores + self.trade_off * looks

    def extra_repr(self) -> str:
        return f"share={self.share}, trade_off={self.trade_off}"


def taken(tokens: Float[Tensor, "B N C"], order: Int[Tensor, "B M"]) -> Float[Tensor, "B M C"]:
    """Tokens in another order, one for each clip: token m of the result is token order[m]."""
    return tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))


def put_back(tokens: Float[Tensor, "B N C"], order: Int[Tensor, "B N"]) -> Float[Tensor, "B N C"]:
    """Undo `taken` with all tokens: token m goes to place order[m]."""
    return torch.zeros_like(tokens).scatter(1, order[:, :, None].expand_as(tokens), tokens)
