"""Divided attention in which the class token sees the clip and every patch sees it, and positions may be rotations.

The variant of TimeSformer (Bertasius, Wang and Torresani 2021, section 3, arXiv:2102.05095) that is widespread through
lucidrains/TimeSformer-pytorch. Unlike the authors' (`kinema.operators.attention`) it has no gates, its class token is a
key of every patch in both steps, as in equation 6 of the paper, its feed-forward part is gated, tokens may be shifted in
time in front of every part, and queries and keys may be rotated instead of positions being added to tokens.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.operators.gated_feed_forward import GatedFeedForward
from kinema.operators.multihead import Attention
from kinema.operators.rotary import ClipRotation, Rotation, rotate
from kinema.operators.token_shift import TokenShift
from kinema.shapes import AttentionMaps, ClipTokens


class RotaryBlock(nn.Module):
    """A pre-norm transformer block: attention over time, over space, then the feed-forward part.

        z = z + attn_time(shift(norm(z)))
        z = z + attn_space(shift(norm(z)))
        z = z + mlp(shift(norm(z)))

    Args:
        dim: Size of D.
        num_heads: Attention heads of each step.
        head_dim: Channels of a head.
        mlp_ratio: Hidden channels of the feed-forward part over D.
        token_shift: Whether patches are shifted in time in front of all three (`TokenShift`).
        attention_dropout: Rate of dropping a channel of what attention adds (not a weight of it, as in the reference).
        feed_forward_dropout: Rate of dropping a hidden channel of the feed-forward part.

    Shape:
        `ClipTokens` with one class token for a clip, to the same.

    Raises:
        ValueError: If there are no heads, or too few channels for a shift.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        head_dim: int = 64,
        mlp_ratio: float = 4.0,
        token_shift: bool = False,
        attention_dropout: float = 0.0,
        feed_forward_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shift = TokenShift(dim) if token_shift else None

        def step(outer: str, inner: str) -> GroupStep:
            return GroupStep(dim, num_heads, head_dim, outer, inner, dropout=attention_dropout)

        self.time = step("(b h w)", "t")
        self.space = step("(b t)", "(h w)")
        self.norm = nn.LayerNorm(dim)
        self.mlp = GatedFeedForward(dim, int(dim * mlp_ratio), dropout=feed_forward_dropout)

    def forward(
        self,
        tokens: ClipTokens,
        rotation: ClipRotation | None = None,
        valid: Bool[Tensor, "B T"] | None = None,
        keep: AttentionMaps | None = None,
    ) -> ClipTokens:
        """The tokens after the block.

        Args:
            tokens: Before it.
            rotation: Of queries and keys; None where positions are in the tokens.
            valid: False for frames that are padding. They are no keys of other frames nor of the class token, and are zero
                to a shift.
            keep: Gets the attention weights: "time" (B * h * w, heads, T, 1 + T) and "space" (B * T, heads, N, 1 + N), the
                class token first among keys, and what it sees itself as "class_in_time" and "class_in_space",
                (B, heads, 1, 1 + N * T), patches in the order of rows, columns and frames.
        """
        for name, step in (("time", self.time), ("space", self.space)):
            turn = None if rotation is None else getattr(rotation, name)
            seen = self._prepared(step.norm, tokens, valid)
            said = step(seen, turn, valid, keep, name)
            tokens = ClipTokens(tokens.classes + said.classes, tokens.patches + said.patches)
        classes, patches = self._prepared(self.norm, tokens, valid)
        return ClipTokens(tokens.classes + self.mlp(classes), tokens.patches + self.mlp(patches))

    def _prepared(self, norm: nn.Module, tokens: ClipTokens, valid: Tensor | None) -> ClipTokens:
        """Tokens as a part of the block sees them."""
        patches = norm(tokens.patches)
        return ClipTokens(norm(tokens.classes), patches if self.shift is None else self.shift(patches, valid))


class GroupStep(nn.Module):
    """Attention of patches within groups and at the class token, and of the class token at all tokens of the clip.

    The class token's queries and keys are not rotated, and it sees the keys of patches as they were before.

    Args:
        dim: Size of D.
        num_heads: Attention heads.
        head_dim: Channels of a head.
        outer: What tells groups apart, as einops writes it: "(b h w)".
        inner: What is within one: "t".
        dropout: Rate of dropping a channel of the result.

    Shape:
        Normalised `ClipTokens` to what is added to the tokens. `norm` is here for its name alone.
    """

    def __init__(
        self, dim: int, num_heads: int, head_dim: int, outer: str, inner: str, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.outer, self.inner = outer, inner
        self.norm = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, head_dim=head_dim, qkv_bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: ClipTokens,
        rotation: Rotation | None,
        valid: Bool[Tensor, "B T"] | None,
        keep: AttentionMaps | None,
        name: str,
    ) -> ClipTokens:
        batch, height, width, num_frames, _ = tokens.patches.shape
        sizes = {"b": batch, "h": height, "w": width, "t": num_frames}
        grouped = rearrange(tokens.patches, f"b h w t d -> {self.outer} {self.inner} d")
        q, k, v = self.attn.queries_keys_values(grouped)
        of_class = self.attn.queries_keys_values(tokens.classes)

        of_clip = [rearrange(part, f"{self.outer} n {self.inner} d -> b n (h w t) d", **sizes) for part in (k, v)]
        mask = None if valid is None else repeat(valid, "b t -> b 1 1 (h w t)", h=height, w=width)
        classes = self._attend(of_class[0], of_class, of_clip, mask, keep, f"class_in_{name}")

        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        groups = {axis: sizes[axis] for axis in "hwt" if axis in self.outer}
        copies = [repeat(part, f"b n s d -> {self.outer} n s d", **groups) for part in of_class]
        mask = None
        if valid is not None and "t" in self.inner:  # all patches of a group in space are of one frame
            mask = repeat(valid, f"b t -> {self.outer} 1 1 {self.inner}", **groups)
        patches = self._attend(q, copies, [k, v], mask, keep, name)
        return ClipTokens(classes, rearrange(patches, f"{self.outer} {self.inner} d -> b h w t d", **sizes))

    def _attend(
        self,
        q: Float[Tensor, "G n Q d"],
        of_class: tuple[Tensor, Tensor, Tensor] | list[Tensor],
        of_patches: list[Tensor],
        mask: Tensor | None,
        keep: AttentionMaps | None,
        name: str,
    ) -> Float[Tensor, "G Q D"]:
        """Attention at the class token and at patches."""
        keys, values = (torch.cat(parts, dim=2) for parts in zip(of_class[1:], of_patches, strict=True))
        if mask is not None:
            mask = nn.functional.pad(mask, (1, 0), value=True)
        weights: list[Tensor] | None = None if keep is None else []
        said = self.dropout(self.attn.merge(self.attn.attend(q, keys, values, mask, weights)))
        if keep is not None and weights:
            keep[name] = weights[0]
        return said
