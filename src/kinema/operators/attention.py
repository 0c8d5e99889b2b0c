"""The space-time attention schemes of TimeSformer: which tokens of a clip see which.

Bertasius, Wang and Torresani 2021 (arXiv:2102.05095), section 3 and figure 2. A scheme is a list of steps, and a step is
attention with its own projections in which a patch sees some of the others:

    scheme          steps                  a patch sees, in each step
    space           space                  its frame
    joint           joint                  the clip
    divided         time, space            its place in every frame; its frame
    local_global    local, global          a window of half the height and half the width in every frame; every second
                                           row and column of every second frame
    axial           time, width, height    its place in every frame; its row; its column

The last step is that of the image transformer whose weights a network starts from. Those before it are gated: a linear
layer behind them is zero at first, so the network is then what its last step alone makes: with space and divided, the image
transformer on every frame; with joint, one that sees all frames at once; with local_global and axial none that was trained,
for their last step sees other patches than an image transformer does.

The authors released space, joint and divided, which are as in their code. local_global and axial follow the paper and
its parameter counts (one gated step and two). What the paper leaves open is decided thus:

* Windows of local attention stay inside the frame, so every patch has the same number of keys; `border="truncate"` cuts
  them off instead. A window of even size has one more patch before its centre than behind.
* Class tokens, as in the authors' code of divided: gated steps leave them out. In the last step they are copied into
  every group (frame, column, clip), and what the groups say of them is averaged; in global attention they see, and are
  seen, beside the strided keys. With `class_everywhere` each step does what equation 6 of the paper says: the class token is
  a key of every patch, and sees all tokens.

Attention weights, where they are kept, are (groups, heads, queries, keys). The clip is the outermost axis of groups, patches
are in the order that is written here, their last axis changing fastest, and a class token, where a step has one, is the
first query and the first key:

    step     groups            queries and keys     numbers for h x w patches of T frames
    time     clip, row, column   T                    (B h w, heads, T, T)
    space    clip, frame         class, h w           (B T, heads, 1 + h w, 1 + h w)
    width    clip, frame, row    class, w             (B T h, heads, 1 + w, 1 + w)
    height   clip, frame, column class, h             (B T w, heads, 1 + h, 1 + h)
    joint    clip                class, h w T         (B, heads, 1 + h w T, 1 + h w T)
    local    clip                h w T; all patches of the clip, those outside the window at zero
    global   clip                class, h w T; class, then rows 0, 2, ..., columns 0, 2, ... and frames 0, 2, ...

Gated steps have a class token only with `class_everywhere`, and the rows of the class token itself are then left out.
"""

from typing import Any, Literal, get_args

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from timm.layers.drop import drop_path
from torch import Tensor, nn

from kinema.operators.feed_forward import FeedForward
from kinema.operators.multihead import Attention
from kinema.operators.token_linear import TokenLinear
from kinema.shapes import AttentionMaps, ClipTokens

AttentionScheme = Literal["space", "joint", "divided", "local_global", "axial"]
SCHEMES: tuple[AttentionScheme, ...] = get_args(AttentionScheme)
Step = Literal["space", "joint", "time", "width", "height", "local", "global"]
Order = Literal["sequential", "reversed", "parallel"]
ORDERS: tuple[Order, ...] = get_args(Order)
Border = Literal["clamp", "truncate"]
BORDERS: tuple[Border, ...] = get_args(Border)
STEPS: dict[AttentionScheme, tuple[Step, ...]] = {
    "space": ("space",),
    "joint": ("joint",),
    "divided": ("time", "space"),
    "local_global": ("local", "global"),
    "axial": ("time", "width", "height"),
}
_GROUPS: dict[str, tuple[str, str]] = {
    "time": ("(b h w)", "t"),
    "space": ("(b t)", "(h w)"),
    "width": ("(b t h)", "w"),
    "height": ("(b t w)", "h"),
    "joint": ("b", "(h w t)"),
}
"""The steps in which attention is dense within groups of patches: what tells groups apart, and what is within one."""


class SpaceTimeBlock(nn.Module):
    """A pre-norm transformer block whose attention is a list of steps.

        z = z + fc(attn(norm(z)))        for each gated step
        z = z + attn(norm1(z))           the last step, without a gate
        z = z + mlp(norm2(z))

    Args:
        dim: Size of D.
        num_heads: Attention heads of each step.
        scheme: Which steps, see above.
        mlp_ratio: Hidden channels of the feed-forward part over D.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Of the products of queries and keys; head size ** -0.5 when None.
        order: "sequential"; "reversed", the last step first (space-then-time for divided); or "parallel", all steps from
            the same tokens and their results added (section 4.1 of the paper tries all three for divided).
        border: Of local attention.
        class_everywhere: The literal rule of the paper for class tokens.
        drop_path: Rate of stochastic depth, drawn as in the authors' code: for every group of a step, and for every clip
            (every frame in scheme "space") of the feed-forward part.

    Shape:
        `ClipTokens` to the same; scheme "space" has a class token for each frame, the others for each clip.

    Raises:
        ValueError: On an unknown scheme, order or border, and on `class_everywhere` for scheme "space".
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        scheme: AttentionScheme,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        order: Order = "sequential",
        border: Border = "clamp",
        class_everywhere: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        for what, value, known in (("scheme", scheme, SCHEMES), ("order", order, ORDERS), ("border", border, BORDERS)):
            if value not in known:
                raise ValueError(f"attention {what} {value!r} is unknown; give one of {', '.join(known)}")
        if class_everywhere and scheme == "space":
            raise ValueError(
                "class_everywhere is about one class token for a clip; scheme 'space' has one for each frame, so leave it out"
            )
        *gated, self.main = STEPS[scheme]
        self.order, self.border, self.class_everywhere, self.drop_path = order, border, class_everywhere, drop_path

        def attention() -> Attention:
            return Attention(dim, num_heads, qkv_bias=qkv_bias, scale=qk_scale)

        self.gated = nn.ModuleDict({step: GatedStep(dim, attention()) for step in gated})
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))

    def forward(
        self, tokens: ClipTokens, valid: Bool[Tensor, "B T"] | None = None, keep: AttentionMaps | None = None
    ) -> ClipTokens:
        """The tokens after the block.

        Args:
            tokens: Before it.
            valid: False for frames that are padding. They are no keys of any patch of another frame, and have no say in the
                average of class tokens.
            keep: Gets the attention weights of each step, (groups, heads, queries, keys), see the top of this file.

        Raises:
            ValueError: If there is another number of class tokens than the scheme has, or `valid` is of another shape.
        """
        self._check(tokens, valid)
        steps = [*self.gated, self.main]
        if self.order == "reversed":
            steps = [self.main, *self.gated]
        start = tokens
        for name in steps:
            classes, patches = self._say(name, start if self.order == "parallel" else tokens, valid, keep)
            tokens = ClipTokens(
                tokens.classes if classes is None else tokens.classes + classes, tokens.patches + patches
            )
        said = self._drop_frames(ClipTokens(*(self.mlp(self.norm2(part)) for part in tokens)))
        return ClipTokens(tokens.classes + said.classes, tokens.patches + said.patches)

    def _check(self, tokens: ClipTokens, valid: Tensor | None) -> None:
        if not isinstance(tokens, ClipTokens) or tokens.patches.ndim != 5 or tokens.classes.ndim != 3:
            raise ValueError(
                "a space-time block takes kinema.shapes.ClipTokens(classes, patches) of shapes (B, classes, D) and "
                f"(B, h, w, T, D); got {type(tokens).__name__}"
                + (f" of {[tuple(part.shape) for part in tokens]}" if isinstance(tokens, ClipTokens) else "")
            )
        batch, _, _, num_frames, _ = tokens.patches.shape
        wanted = num_frames if self.main == "space" and not self.gated else 1
        if tokens.classes.shape[:2] != (batch, wanted):
            raise ValueError(
                f"{tuple(tokens.classes.shape[:2])} class tokens came with {batch} clips of {num_frames} frames; this scheme "
                f"has {'one for each frame' if wanted > 1 else 'one for each clip'}: give ({batch}, {wanted}, D)"
            )
        if valid is not None and valid.shape != (batch, num_frames):
            raise ValueError(
                f"valid must be of shape {(batch, num_frames)}, one value for each frame; got {tuple(valid.shape)}"
            )

    def _say(
        self, step: str, tokens: ClipTokens, valid: Tensor | None, keep: AttentionMaps | None
    ) -> tuple[Tensor | None, Tensor]:
        """What one step adds to class tokens (None for nothing) and patches."""
        gate: Any = self.gated[step] if step in self.gated else None  # noqa: SIM401, a ModuleDict has no get
        norm, attn = (self.norm1, self.attn) if gate is None else (gate.norm, gate.attn)
        look = _Look(attn, self.drop_path if self.training else 0.0, valid, None if keep is None else [])
        classes = norm(tokens.classes) if gate is None or self.class_everywhere else None
        patches = norm(tokens.patches)
        if step == "local":
            said = look.locally(classes, patches, self.border)
        elif step == "global":
            said = look.globally(classes, patches)
        elif classes is None or not self.class_everywhere:
            said = look.within_groups(classes, patches, _GROUPS[step])
        else:
            said = look.within_groups_and_at_classes(classes, patches, _GROUPS[step])
        if keep is not None and look.keep:
            keep[step] = look.keep[0]
        if gate is None:
            return said
        return None if said[0] is None else gate.fc(said[0]), gate.fc(said[1])

    def _drop_frames(self, said: ClipTokens) -> ClipTokens:
        if self.drop_path == 0 or not self.training:
            return said
        batch, count, _ = said.classes.shape
        drawn = drop_path(said.classes.new_ones(batch * count), self.drop_path, training=True).view(batch, count, 1)
        return ClipTokens(said.classes * drawn, said.patches * drawn[:, None, None])


class GatedStep(nn.Module):
    """Norm, attention, and a linear layer that starts at zero.

    Args:
        dim: Size of D.
        attn: The attention.
    """

    def __init__(self, dim: int, attn: Attention) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.fc = TokenLinear(dim, dim)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)


Said = tuple[Tensor | None, Tensor]


class _Look:
    """One step's attention over the normalised tokens of clips: the ways in which patches see others."""

    def __init__(self, attn: Attention, rate: float, valid: Tensor | None, keep: list[Tensor] | None) -> None:
        self.attn, self.rate, self.valid, self.keep = attn, rate, valid, keep

    def _drop(self, x: Tensor) -> Tensor:
        return drop_path(x, self.rate, training=self.rate > 0)

    def within_groups(self, classes: Tensor | None, patches: Tensor, pattern: tuple[str, str]) -> Said:
        """Each group by itself; class tokens, if any, copied into every group and averaged over them."""
        outer, inner = pattern
        sizes = _axes(patches)
        tokens = rearrange(patches, f"b h w t d -> {outer} {inner} d")
        if classes is not None:
            tokens = torch.cat([self._copies(classes, outer, sizes), tokens], dim=1)
        said = self._drop(self.attn(tokens, self._mask(outer, inner, sizes, classes is not None), self.keep))
        if classes is None:
            return None, rearrange(said, f"{outer} {inner} d -> b h w t d", **sizes)
        said_classes, said_patches = said[:, :1], said[:, 1:]
        per_frame = rearrange(said_classes, f"{outer} 1 d -> b ({_rest(outer)}) d", **_sizes(outer, sizes))
        return (
            self._averaged(per_frame, outer, sizes, classes.shape[1]),
            rearrange(said_patches, f"{outer} {inner} d -> b h w t d", **sizes),
        )

    def _copies(self, classes: Tensor, outer: str, sizes: dict[str, int]) -> Tensor:
        if classes.shape[1] > 1:  # one of its own for each frame
            return rearrange(classes, "b t d -> (b t) 1 d")
        return repeat(classes, f"b 1 d -> {outer} 1 d", **_sizes(outer, sizes))

    def _averaged(self, classes: Tensor, outer: str, sizes: dict[str, int], wanted: int) -> Tensor:
        """(B, groups, D) to as many class tokens as there were."""
        if wanted > 1:
            return classes
        if self.valid is None or "t" not in outer:
            return classes.mean(dim=1, keepdim=True)
        weight = self.valid.to(classes.dtype).repeat_interleave(classes.shape[1] // sizes["t"], dim=1)[:, :, None]
        return (classes * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)

    def _mask(self, outer: str, inner: str, sizes: dict[str, int], with_class: bool) -> Tensor | None:
        """Keys of frames that are padding, hidden where a group holds several frames: (groups, 1, 1, keys)."""
        if self.valid is None or "t" not in inner:
            return None
        seen = repeat(self.valid, f"b t -> {outer} 1 1 {inner}", **{k: v for k, v in sizes.items() if k in "hw"})
        return nn.functional.pad(seen, (1, 0), value=True) if with_class else seen

    def within_groups_and_at_classes(self, classes: Tensor, patches: Tensor, pattern: tuple[str, str]) -> Said:
        """Each group with the class token of the clip as one more key; the class token sees all tokens."""
        outer, inner = pattern
        sizes = _axes(patches)
        (q_class, q), (k_class, k), (v_class, v) = self._projected(classes, patches)
        grouped = [rearrange(part, f"b n h w t d -> {outer} n {inner} d") for part in (q, k, v)]
        copies = [repeat(part, f"b n 1 d -> {outer} n 1 d", **_sizes(outer, sizes)) for part in (k_class, v_class)]
        keys = torch.cat([copies[0], grouped[1]], dim=2)
        values = torch.cat([copies[1], grouped[2]], dim=2)
        heads = self.attn.attend(grouped[0], keys, values, self._mask(outer, inner, sizes, True), self.keep)
        said = self._drop(self.attn.merge(heads))
        return (
            self._class_says(q_class, (k_class, k), (v_class, v)),
            rearrange(said, f"{outer} {inner} d -> b h w t d", **sizes),
        )

    def _projected(self, classes: Tensor, patches: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Queries, keys and values, each of class tokens (B, heads, 1, d) and of patches (B, heads, h, w, T, d)."""
        of_classes = (self.attn.queries(classes), *self.attn.keys_values(classes))
        return list(zip(of_classes, self._of_patches(patches), strict=True))

    def _of_patches(self, patches: Tensor) -> list[Tensor]:
        flat = patches.flatten(1, 3)
        parts = (self.attn.queries(flat), *self.attn.keys_values(flat))
        return [part.unflatten(2, patches.shape[1:4]) for part in parts]

    def _class_says(self, q: Tensor, k: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor]) -> Tensor:
        """What the class token says that sees all tokens of the clip."""
        keys = torch.cat([k[0], k[1].flatten(2, 4)], dim=2)
        values = torch.cat([v[0], v[1].flatten(2, 4)], dim=2)
        mask = None
        if self.valid is not None:
            mask = repeat(self.valid, "b t -> b 1 1 (n t)", n=k[1].shape[2] * k[1].shape[3])
            mask = nn.functional.pad(mask, (1, 0), value=True)
        return self._drop(self.attn.merge(self.attn.attend(q, keys, values, mask)))

    def globally(self, classes: Tensor | None, patches: Tensor) -> Said:
        """Every token sees the class token and every second patch of every second frame."""
        batch, height, width, num_frames, _ = patches.shape
        strided = patches[:, ::2, ::2, ::2].flatten(1, 3)
        tokens, seen = patches.flatten(1, 3), strided
        if classes is not None:
            tokens, seen = torch.cat([classes, tokens], dim=1), torch.cat([classes, strided], dim=1)
        mask = None
        if self.valid is not None:
            mask = repeat(self.valid[:, ::2], "b t -> b 1 1 (n t)", n=strided.shape[1] // ((num_frames + 1) // 2))
            mask = nn.functional.pad(mask, (1, 0), value=True) if classes is not None else mask
        heads = self.attn.attend(self.attn.queries(tokens), *self.attn.keys_values(seen), mask, self.keep)
        said = self._drop(self.attn.merge(heads))
        if classes is None:
            return None, said.view(batch, height, width, num_frames, -1)
        return said[:, :1], said[:, 1:].reshape(batch, height, width, num_frames, -1)

    def locally(self, classes: Tensor | None, patches: Tensor, border: Border) -> Said:
        """A patch sees the window around its place, in every frame.

        Patches of neighbouring rows whose windows span the same rows are computed together, their windows told apart
        by a mask over columns; that is a third of the work of a mask over the clip, and nothing is copied together.
        """
        _, height, width, num_frames, _ = patches.shape
        if height % 2 or width % 2:
            raise ValueError(
                f"frames of {height} x {width} patches have no half for the windows of local attention; give frames of an "
                "even number of patches in height and width"
            )
        q, k, v = self._of_patches(patches)
        rows, columns = windows(height, border), windows(width, border)
        near = torch.tensor([[first <= key < last for key in range(width)] for first, last in columns], device=q.device)
        of_classes = None if classes is None else (self.attn.queries(classes), *self.attn.keys_values(classes))
        parts: list[Tensor] = []
        kept: list[Tensor] = []
        start = 0
        while start < height:
            stop = next((row for row in range(start, height) if rows[row] != rows[start]), height)
            first, last = rows[start]
            keys, values = (part[:, :, first:last].flatten(2, 4) for part in (k, v))
            # (rows w T) queries by (window's rows w T) keys; the same for every row, and every frame but padding
            sizes = {"r": stop - start, "s": last - first, "t": num_frames, "f": num_frames}
            mask = repeat(near, "w u -> (r w t) (s u f)", **sizes)
            if self.valid is not None:
                frames = repeat(self.valid, "b f -> b 1 1 (s f)", s=(last - first) * width)
                mask = mask & frames
            if of_classes is not None:
                keys, values = torch.cat([of_classes[1], keys], dim=2), torch.cat([of_classes[2], values], dim=2)
                mask = nn.functional.pad(mask, (1, 0), value=True)
            weights: list[Tensor] | None = None if self.keep is None else []
            heads = self.attn.attend(q[:, :, start:stop].flatten(2, 4), keys, values, mask, weights)
            parts.append(heads.unflatten(2, (stop - start, width, num_frames)))
            if weights:
                before, total = first * width * num_frames, height * width * num_frames
                kept.append(_spread(weights[0], of_classes is not None, before, total))
            start = stop
        if self.keep is not None:
            self.keep.append(torch.cat(kept, dim=2))
        said = self._drop(self.attn.merge(torch.cat(parts, dim=2).flatten(2, 4))).view_as(patches)
        if of_classes is None:
            return None, said
        return self._class_says(of_classes[0], (of_classes[1], k), (of_classes[2], v)), said


def windows(size: int, border: Border) -> list[tuple[int, int]]:
    """First and last (exclusive) place of the window of half the size around every place along one axis."""
    half = size // 2
    spans = []
    for place in range(size):
        first = place - half // 2
        if border == "clamp":
            first = min(max(first, 0), size - half)
        spans.append((max(first, 0), min(first + half, size)))
    return spans


def _spread(weights: Tensor, with_class: bool, before: int, total: int) -> Tensor:
    """Weights of some keys in a row, put among all keys of the clip."""
    classes, patches = weights[..., : int(with_class)], weights[..., int(with_class) :]
    return torch.cat([classes, nn.functional.pad(patches, (before, total - before - patches.shape[-1]))], dim=-1)


def _axes(patches: Float[Tensor, "B h w T D"]) -> dict[str, int]:
    batch, height, width, num_frames, _ = patches.shape
    return {"b": batch, "h": height, "w": width, "t": num_frames}


def _rest(outer: str) -> str:
    """What tells groups of one clip apart: "t h" for "(b t h)", "1" for "b"."""
    return outer.strip("()").removeprefix("b").strip() or "1"


def _sizes(outer: str, sizes: dict[str, int]) -> dict[str, int]:
    return {axis: sizes[axis] for axis in _rest(outer).split() if axis in sizes}
