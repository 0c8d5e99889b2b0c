"""The axis letters of the project, and the two folds between clips and frames.

B clips, C channels, T frames, H W pixels, N tokens per frame, D embedding, K classes, V views.
A clip is always `(B, C, T, H, W)`. Networks built from per-frame backbones fold time into the batch inside;
a folded `(B*T, C, H, W)` tensor never crosses the public boundary of a module. Transformers have `ClipTokens` inside.

The folds are not written with einops: networks call them by the dozen, and torch.compile traces through einops' own code,
which takes most of its time.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


def fold_time(clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "BT C H W"]:
    """Put the frames of all clips in one batch, the frames of a clip side by side."""
    return clip.transpose(1, 2).flatten(0, 1)


def unfold_time(frames: Float[Tensor, "BT C H W"], num_frames: int) -> Float[Tensor, "B C T H W"]:
    """Undo `fold_time`; a view of `frames`, nothing is copied.

    Raises:
        ValueError: If the batch is not a whole number of clips of `num_frames` frames.
    """
    if frames.shape[0] % num_frames:
        raise ValueError(
            f"a batch of {frames.shape[0]} frames is not a whole number of clips of {num_frames} frames; "
            f"fold a (B, C, {num_frames}, H, W) clip with fold_time"
        )
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2)


def check_clip(clip: Tensor, *, channels: int | None = None) -> None:
    """Refuse what would run silently on wrong axes.

    Raises:
        ValueError: If `clip` is not `(B, C, T, H, W)`, or has another number of channels than `channels`.
    """
    if clip.ndim != 5:
        raise ValueError(
            f"expected a clip (B, C, T, H, W) with 5 axes, got shape {tuple(clip.shape)}; "
            "unfold frames with kinema.shapes.unfold_time, or add the batch axis with clip[None]"
        )
    if channels is not None and clip.shape[1] != channels:
        raise ValueError(
            f"expected {channels} channels on axis 1 of a clip (B, C, T, H, W), got shape {tuple(clip.shape)}; "
            "permute the axes or build the module for this number of channels"
        )


class ClipTokens(NamedTuple):
    """The tokens of a batch of clips, between the blocks of a transformer.

    Args:
        classes: Class tokens, one for a clip, or one for each of its frames.
        patches: Patch tokens of a grid of h x w; time is the innermost axis.
    """

    classes: Float[Tensor, "B K D"]
    patches: Float[Tensor, "B h w T D"]


class RankedMaps(NamedTuple):
    """Feature maps of a batch of clips and what a class token makes of them, between blocks that prune tokens.

    Args:
        classes: The class token of each clip.
        maps: Feature maps, whose places are the tokens.
        scores: How much the class token has looked at each token so far, tokens in the order (T, H, W), W innermost;
            None before the first block.
    """

    classes: Float[Tensor, "B 1 C"]
    maps: Float[Tensor, "B C T H W"]
    scores: Float[Tensor, "B N"] | None


AttentionMaps = dict[str, Tensor]
"""Name of an attention step to its weights, (..., heads, queries, keys)."""
