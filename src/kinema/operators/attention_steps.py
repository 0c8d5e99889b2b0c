"""The ways in which the patches of a clip see one another: the steps of `kinema.operators.attention`."""

from typing import Literal, get_args

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from timm.layers.drop import drop_path
from torch import Tensor, nn

from kinema.operators.multihead import Attention

Border = Literal["clamp", "truncate"]
BORDERS: tuple[Border, ...] = get_args(Border)
GROUPS: dict[str, tuple[str, str]] = {
    "time": ("(b h w)", "t"),
    "space": ("(b t)", "(h w)"),
    "width": ("(b t h)", "w"),
    "height": ("(b t w)", "h"),
    "joint": ("b", "(h w t)"),
}
"""The steps in which attention is dense within groups of patches: what tells groups apart, and what is within one."""

Said = tuple[Tensor | None, Tensor]


class StepAttention:
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
