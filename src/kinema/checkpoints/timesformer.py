"""TimeSformer and the image transformers it starts from, as everybody names them.

authors (facebookresearch/TimeSformer)      kinema
blocks.0.norm1, .attn, .norm2, .mlp         the same: they are timm's names of a ViT
blocks.0.temporal_norm1                     blocks.0.gated.time.norm
blocks.0.temporal_attn, .temporal_fc        blocks.0.gated.time.attn, .fc

Hugging Face (transformers)                 timesformer.embeddings, timesformer.encoder.layer.0, classifier
mmaction2                                   backbone.transformer_layers.layers.0.attentions.{0, 1}, .ffns.0, .norms
"""

import re
from collections.abc import Collection

from kinema.checkpoints.layout import Translation

NOT_COMMERCIAL = "TimeSformer's published weights are licensed for non-commercial use alone (CC BY-NC 4.0)"
BGR = (
    "174 classes: if these are the authors' weights for Something-Something, they were trained on BGR pictures; use "
    "Normalisation(bgr=True)"
)

_AUTHORS = (
    (r"\.temporal_norm1\.", ".gated.time.norm."),
    (r"\.temporal_attn\.", ".gated.time.attn."),
    (r"\.temporal_fc\.", ".gated.time.fc."),
    (r"^head\.", "fc."),
)
_HUGGING_FACE = (
    (r"^timesformer\.embeddings\.position_embeddings$", "pos_embed"),
    (r"^timesformer\.embeddings\.time_embeddings$", "time_embed"),
    (r"^timesformer\.embeddings\.cls_token$", "cls_token"),
    (r"^timesformer\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^timesformer\.layernorm\.", "norm."),
    (r"^timesformer\.encoder\.layer\.", "blocks."),
    (r"\.temporal_attention\.attention\.qkv\.", ".gated.time.attn.qkv."),
    (r"\.temporal_attention\.output\.dense\.", ".gated.time.attn.proj."),
    (r"\.temporal_layernorm\.", ".gated.time.norm."),
    (r"\.temporal_dense\.", ".gated.time.fc."),
    (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^classifier\.", "fc."),
)
_MMACTION2 = (
    (r"^cls_head\.fc_cls\.", "fc."),
    (r"^backbone\.", ""),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^transformer_layers\.layers\.", "blocks."),
    (r"\.ffns\.0\.norm\.", ".norm2."),
    (r"\.norms\.0\.", ".norm1."),
    (r"\.norms\.1\.", ".norm2."),
    (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
)
_MMACTION2_DIVIDED = (
    (r"\.attentions\.0\.temporal_fc\.", ".gated.time.fc."),
    (r"\.attentions\.0\.", ".gated.time."),
    (r"\.attentions\.1\.norm\.", ".norm1."),
    (r"\.attentions\.1\.", "."),
)
_IMAGE = "blocks.0.attn.qkv.weight"
_OF_MMACTION2 = "backbone.transformer_layers.layers.0.attentions.0.attn.in_proj_weight"
_OF_HUGGING_FACE = "timesformer.embeddings.cls_token"


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a TimeSformer, or of a ViT of timm that is none of CLIP's."""
    plain_vit = {_IMAGE, "cls_token", "pos_embed"} <= set(names) and "norm_pre.weight" not in names
    return plain_vit or _OF_MMACTION2 in names or _OF_HUGGING_FACE in names


def translate(names: Collection[str]) -> Translation:
    """Plain names for those of any of them."""
    if _OF_HUGGING_FACE in names:
        origin, rules = "Hugging Face's TimeSformer", _HUGGING_FACE
    elif _OF_MMACTION2 in names:
        divided = any(".attentions.1." in name for name in names)
        rules = (*_MMACTION2, *(_MMACTION2_DIVIDED if divided else ((r"\.attentions\.0\.", "."),)))
        origin = "mmaction2"
    else:
        video = any(name == "time_embed" or ".temporal_attn." in name for name in names)
        origin, rules = "the TimeSformer authors' code" if video else "timm", _AUTHORS
    plain = {}
    for name in names:
        short = name
        for pattern, replacement in rules:
            short = re.sub(pattern, replacement, short)
        plain[short] = name
    notes = () if origin == "timm" else (NOT_COMMERCIAL,)
    return Translation(origin, plain, {}, tells_shift=False, notes=notes)
