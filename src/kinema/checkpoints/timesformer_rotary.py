"""TimeSformer with rotary positions as lucidrains/TimeSformer-pytorch names it.

theirs                                       kinema
to_patch_embedding, cls_token, pos_emb       patch_embed.proj, the same
layers.0.{0, 1, 2}.norm                      blocks.0.time.norm, blocks.0.space.norm, blocks.0.norm
layers.0.0.fn.{to_qkv, to_out.0}             blocks.0.time.attn.{qkv, proj}; layers.0.1 is space
layers.0.2.fn.net.{0, 3}                     blocks.0.mlp.{fc1, fc2}
frame_rot_emb, image_rot_emb                 rotary.time, rotary.space
to_out.{0, 1}                                norm, the classifier

With a token shift there is a second .fn.
"""

import math
import re
from collections.abc import Collection, Mapping

from einops import rearrange
from torch import Tensor

from kinema.checkpoints.layout import ROTARY_REFERENCE, TOKEN_SHIFT, Translation, freeze

_RULES = (
    (r"^to_patch_embedding\.", "patch_embed.proj."),
    (r"^frame_rot_emb\.", "rotary.time."),
    (r"^image_rot_emb\.", "rotary.space."),
    (r"^to_out\.0\.", "norm."),
    (r"^to_out\.1\.", "fc."),
    (r"^layers\.(\d+)\.0\.", r"blocks.\1.time."),
    (r"^layers\.(\d+)\.1\.", r"blocks.\1.space."),
    (r"^layers\.(\d+)\.2\.", r"blocks.\1."),
    (r"\.(fn\.){1,2}to_qkv\.", ".attn.qkv."),
    (r"\.(fn\.){1,2}to_out\.0\.", ".attn.proj."),
    (r"\.(fn\.){1,2}net\.0\.", ".mlp.fc1."),
    (r"\.(fn\.){1,2}net\.3\.", ".mlp.fc2."),
)
_EMBEDDING = "to_patch_embedding.weight"


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of that code."""
    return any(re.fullmatch(r"layers\.0\.0\.(fn\.){1,2}to_qkv\.weight", name) for name in names)


def translate(names: Collection[str]) -> Translation:
    """Plain names for theirs. Their rotation in time has a layout of its own, and their token shift shows in the names."""
    plain = {}
    for name in names:
        short = name
        for pattern, replacement in _RULES:
            short = re.sub(pattern, replacement, short)
        plain[short] = name
    shifted = {f"blocks.{found[1]}" for name in names if (found := re.match(r"layers\.(\d+)\.0\.fn\.fn\.", name))}
    rotary = {"rotary.time"} if "frame_rot_emb.inv_freqs" in names else set()
    operators = freeze({TOKEN_SHIFT: shifted, ROTARY_REFERENCE: rotary})
    return Translation("lucidrains/TimeSformer-pytorch", plain, operators)


def with_kernel(tensors: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Their linear layer on the pixels of a patch, row by row with the channel innermost, as the convolution it is.

    Args:
        tensors: Of any checkpoint; another one's are returned as they are.
        channels: Of the clips that the model takes, tried before three.
    """
    weight = tensors.get(_EMBEDDING)
    if weight is None or weight.ndim != 2 or not recognises(tensors):
        return dict(tensors)
    for count in (channels, 3):
        side = math.isqrt(weight.shape[1] // count)
        if side * side * count == weight.shape[1]:
            kernel = rearrange(weight, "d (h w c) -> d c h w", h=side, w=side)
            return {**tensors, _EMBEDDING: kernel}
    return dict(tensors)
