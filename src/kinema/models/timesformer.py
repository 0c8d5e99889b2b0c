"""TimeSformer (Bertasius, Wang and Torresani 2021, arXiv:2102.05095): an image transformer that attends to space and time."""

from typing import Any, Unpack

from kinema.backbones.timesformer import SpaceTimeTransformer
from kinema.models.network import SpaceTimeNetwork
from kinema.models.options import TimeSformerNanoOptions, TimeSformerOptions
from kinema.models.tsn import NumClasses
from kinema.operators.attention import SpaceTimeBlock
from kinema.operators.causal_attention import CausalBlock


def timesformer_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TimeSformerNanoOptions]
) -> SpaceTimeNetwork:
    """TimeSformer for frames of about 64 pixels; its size is an option."""
    size = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "image_size": 64}
    merged: dict[str, Any] = {"drop_path": 0.0, "weight_init": "scratch", **size, **options}
    return _timesformer(num_classes, num_frames, **merged)


def timesformer_base(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TimeSformerOptions]
) -> SpaceTimeNetwork:
    """TimeSformer: 121.6 M parameters, 195.8 GMACs for 8 frames of 224 pixels.

    With divided attention; 86.1 M and 140.5 in scheme "space", 86.1 M and 179.6 in "joint". The paper prints 121.4 M and
    85.9 M, which are those with 174 classes.
    """
    merged: dict[str, Any] = {**options}
    return _timesformer(num_classes, num_frames, **merged)


def timesformer_hr(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TimeSformerOptions]
) -> SpaceTimeNetwork:
    """TimeSformer-HR, for large frames: 122.0 M parameters, 1,702.7 GMACs for 16 frames of 448 pixels."""
    merged: dict[str, Any] = {"image_size": 448, **options}
    return _timesformer(num_classes, num_frames, **merged)


def timesformer_large(
    num_classes: NumClasses = 400, num_frames: int = 96, **options: Unpack[TimeSformerOptions]
) -> SpaceTimeNetwork:
    """TimeSformer-L, for long clips: 121.6 M parameters, 2,379.9 GMACs for 96 frames of 224 pixels."""
    merged: dict[str, Any] = {**options}
    return _timesformer(num_classes, num_frames, **merged)


def _timesformer(
    num_classes: NumClasses,
    num_frames: int,
    *,
    attention_scheme: Any = "divided",
    attention_order: Any = "sequential",
    local_border: Any = "clamp",
    class_everywhere: bool = False,
    causal: bool = False,
    num_heads: int = 12,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    dropout: float = 0.0,
    **trunk: Any,
) -> SpaceTimeNetwork:
    """Options of TimeSformer into a network.

    Raises:
        ValueError: If another option does not go with causal attention.
    """
    if causal and attention_scheme != "divided":
        raise ValueError(
            f"attention_scheme={attention_scheme!r} has no causal form; give 'divided' with causal=True, or leave causal out"
        )
    if causal and class_everywhere:
        raise ValueError(
            "class_everywhere=True reads the future through the class token; leave it out of a causal network"
        )

    def block(dim: int, drop_path: float) -> SpaceTimeBlock:
        options: dict[str, Any] = {
            "mlp_ratio": mlp_ratio,
            "qkv_bias": qkv_bias,
            "qk_scale": qk_scale,
            "order": attention_order,
            "drop_path": drop_path,
        }
        if causal:
            ages = trunk.get("position", "space_time") == "space_time"
            return CausalBlock(dim, num_heads, num_frames, ages=ages, **options)
        options |= {"border": local_border, "class_everywhere": class_everywhere}
        return SpaceTimeBlock(dim, num_heads, attention_scheme, **options)

    on_frames = attention_scheme == "space" or causal
    backbone = SpaceTimeTransformer(block, num_frames=num_frames, class_per_frame=on_frames, causal=causal, **trunk)
    return SpaceTimeNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout, head_std=0.02)
