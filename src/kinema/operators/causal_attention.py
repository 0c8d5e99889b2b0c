"""Attention over time that sees the past alone: divided attention for streams, with a cache of keys and values.

TimeSformer (Bertasius, Wang and Torresani 2021, arXiv:2102.05095) has no causal form; this is ours, and its weights are
trained here. It keeps divided attention, time before space, and changes what a stream cannot have:

* A patch sees its own place in this frame and in the `window` - 1 frames before it, a window that slides along a stream and
  along a clip alike. What it was at one frame is final, so its keys and values are kept and never computed again.
* Every frame has a class token of its own, as in scheme "space": one for the clip would change what every frame is, as
  often as a frame is added. Attention over time leaves it out, as in the authors' divided attention.
* Frames have no embedding of their place in a clip, for in a stream there is none, but scores have a learnt number for each
  head and age, as the relative positions of Raffel et al. 2020 (section 2.1, arXiv:1910.10683) without their buckets. It
  starts as in Press et al. 2022 (section 3, arXiv:2108.12409): heads that look back far and less far.
"""

from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from timm.layers.drop import drop_path
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.attention import GatedStep, SpaceTimeBlock
from kinema.operators.multihead import Attention
from kinema.shapes import AttentionMaps, ClipTokens


class CausalTimeAttention(Attention):
    """Every patch attends to its place in this frame and in those before it.

        y_t = proj( sum over a of w[t, a] v_{t - a} ),   a = 0 .. window - 1, frames before the first left out
        w[t, .] = softmax over a of (scale q_t . k_{t - a} + e_a)

    Args:
        dim, num_heads, qkv_bias, scale: As for `Attention`.
        window: Frames that a patch sees.
        ages: Whether there is an e, one number for each head and age; without it the frames before this are a set.

    Shape:
        (B, h, w, T, D) to the same; any T. State (B, 2, h w, heads, window - 1, D / heads): keys and values, oldest first.

    Raises:
        ValueError: If the window is empty, or the heads do not divide the channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        *,
        qkv_bias: bool = True,
        scale: float | None = None,
        ages: bool = True,
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias=qkv_bias, scale=scale)
        if window < 1:
            raise ValueError(f"a window of {window} frames does not hold this one; give at least 1")
        self.window = window
        self.age_bias = nn.Parameter(torch.zeros(num_heads, window)) if ages else None
        if self.age_bias is not None:
            slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)
            with torch.no_grad():
                self.age_bias.copy_(-slopes[:, None] * torch.arange(window))

    def over_clip(
        self,
        patches: Float[Tensor, "B h w T D"],
        valid: Bool[Tensor, "B T"] | None = None,
        keep: AttentionMaps | None = None,
        drop: float = 0.0,
    ) -> Float[Tensor, "B h w T D"]:
        """All frames of clips.

        Args:
            patches: Normalised tokens.
            valid: False for frames that are padding, which no other frame sees.
            keep: Gets the weights as "time", (B h w, heads, T, T).
            drop: Rate of leaving out what a place hears, drawn for each place of each clip.
        """
        batch, height, width, num_frames, _ = patches.shape
        tokens = rearrange(patches, "b h w t d -> (b h w) t d")
        q, k, v = self.queries_keys_values(tokens)
        place = torch.arange(num_frames, device=patches.device)
        age = place[:, None] - place
        bias = self._bias(age.clamp(0, self.window - 1), q)
        hidden = (age < 0) | (age >= self.window)
        if valid is not None:
            padding = ~valid[:, None, :] & (age != 0)  # even padding sees itself, or it would see nothing at all
            hidden = repeat(hidden | padding, "b t s -> (b h w) 1 t s", h=height, w=width)
        scores = bias.masked_fill(hidden, float("-inf"))
        if keep is None:
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=scores, scale=self.scale)
        else:
            keep["time"] = (q @ k.transpose(-2, -1) * self.scale + scores).softmax(dim=-1)
            heads = keep["time"] @ v
        said = drop_path(self.merge(heads), drop, training=drop > 0)
        return rearrange(said, "(b h w) t d -> b h w t d", b=batch, h=height)

    def init_state(self, patches: Float[Tensor, "B h w 1 D"]) -> Float[Tensor, "B 2 N heads S d"]:
        """Zeros: no frame was there."""
        batch, height, width = patches.shape[:3]
        size = batch, 2, height * width, self.num_heads, self.window - 1, self.inner // self.num_heads
        return patches.new_zeros(size)

    def step(
        self,
        patches: Float[Tensor, "B h w 1 D"],
        state: Float[Tensor, "B 2 N heads S d"],
        seen: Float[Tensor, "B S+1"],
    ) -> tuple[Float[Tensor, "B h w 1 D"], Float[Tensor, "B 2 N heads S d"]]:
        """One frame.

        Args:
            patches: Normalised tokens.
            state: Keys and values of the frames before.
            seen: One for each frame of the window that was there, oldest first, this one last; else zero.

        Returns:
            What the patches hear; and the next state, a part of what this step looked at, so that nothing is copied twice.
        """
        q, k, v = (part.flatten(1, 2) for part in self.queries_keys_values(patches))
        window = torch.cat([state, torch.stack([k, v], dim=1)], dim=4)
        age = torch.arange(self.window - 1, -1, -1, device=patches.device)
        scores = (
            self._bias(age, q)[:, None]
            + torch.zeros_like(seen).masked_fill(seen == 0, float("-inf"))[:, None, None, None]
        )
        # ONNX has attention for four axes alone.
        scores = scores.expand(-1, q.shape[1], -1, -1, -1).flatten(0, 1)
        k, v = (part.flatten(0, 1) for part in window.unbind(1))
        heads = F.scaled_dot_product_attention(q.flatten(0, 1), k, v, attn_mask=scores, scale=self.scale)
        said = self.merge(heads).unflatten(0, patches.shape[:1] + q.shape[1:2])
        return said.unflatten(1, patches.shape[1:3]), window[..., 1:, :]

    def _bias(self, age: Tensor, like: Tensor) -> Tensor:
        """What is added to scores at given ages, heads first."""
        if self.age_bias is None:
            return like.new_zeros(1, *age.shape)
        return self.age_bias[:, age].to(like.dtype)


class CausalBlock(SpaceTimeBlock):
    """A block of divided attention whose attention over time sees the past alone, also frame by frame.

    Args:
        dim, num_heads: As for `SpaceTimeBlock`.
        window: Frames that a patch sees, this one among them.
        ages: Whether frames are told apart by their age.
        qkv_bias, qk_scale, others: As for `SpaceTimeBlock`, without scheme and class_everywhere.

    Shape:
        `ClipTokens` with a class token for each frame, to the same.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: int,
        *,
        ages: bool = True,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(dim, num_heads, "divided", qkv_bias=qkv_bias, qk_scale=qk_scale, **options)
        attn = CausalTimeAttention(dim, num_heads, window, qkv_bias=qkv_bias, scale=qk_scale, ages=ages)
        self.gated["time"] = GatedStep(dim, attn)
        self.class_per_frame = True

    def init_state(self, tokens: ClipTokens) -> Float[Tensor, "B 2 N heads S d"]:
        """Zeros; tokens are those of one frame."""
        return self._time.attn.init_state(tokens.patches)

    def step(
        self, tokens: ClipTokens, state: Float[Tensor, "B 2 N heads S d"], seen: Float[Tensor, "B S+1"]
    ) -> tuple[ClipTokens, Float[Tensor, "B 2 N heads S d"]]:
        """The tokens of one frame after the block, and the next state; `seen` as for `CausalTimeAttention.step`."""
        after = state

        def say(step: str, given: ClipTokens) -> tuple[Tensor | None, Tensor]:
            nonlocal after
            if step != "time":
                return super(CausalBlock, self)._say(step, given, None, None)
            said, after = self._time.attn.step(self._time.norm(given.patches), state, seen)
            return None, self._time.fc(said)

        return self._through(tokens, say), after

    @property
    def _time(self) -> Any:
        return self.gated["time"]

    def _say(
        self, step: str, tokens: ClipTokens, valid: Tensor | None, keep: AttentionMaps | None
    ) -> tuple[Tensor | None, Tensor]:
        if step != "time":
            return super()._say(step, tokens, valid, keep)
        drop = self.drop_path if self.training else 0.0
        return None, self._time.fc(self._time.attn.over_clip(self._time.norm(tokens.patches), valid, keep, drop))
