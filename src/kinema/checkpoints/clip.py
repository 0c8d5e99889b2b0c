"""Image transformers of CLIP (Radford et al. 2021, arXiv:2103.00020) as OpenAI and OpenCLIP name them, and as timm does.

    OpenAI, OpenCLIP                        timm, and kinema
    visual.class_embedding                  cls_token
    visual.positional_embedding             pos_embed
    visual.conv1, .ln_pre, .ln_post         patch_embed.proj, norm_pre, norm (fc_norm in kinema)
    visual.transformer.resblocks.0.attn     blocks.0.attn, in_proj_weight and out_proj being qkv and proj
    .ln_1, .ln_2, .mlp.c_fc, .mlp.c_proj    norm1, norm2, mlp.fc1, mlp.fc2

What belongs to the text, and the projection into the space of texts, has no place in a video network.
"""

import re
from collections.abc import Collection

from kinema.checkpoints.layout import Translation

_OPENAI = (
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "fc_norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
_TIMM = ((r"^norm\.", "fc_norm."), (r"^head\.", "fc."))


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a CLIP whose image side is a transformer, or of that side in timm."""
    return "visual.class_embedding" in names or {"patch_embed.proj.weight", "norm_pre.weight"} <= set(names)


def translate(names: Collection[str]) -> Translation:
    """Plain names for those of either; names of the text side get a plain name that no network has."""
    openai = "visual.class_embedding" in names
    plain = {}
    for name in names:
        short = name if not openai or name.startswith("visual.") else f"text.{name}"
        short = short.removeprefix("visual.")
        for pattern, replacement in _OPENAI if openai else _TIMM:
            short = re.sub(pattern, replacement, short)
        plain[short] = name
    return Translation("CLIP" if openai else "timm", plain, {}, tells_shift=False)
