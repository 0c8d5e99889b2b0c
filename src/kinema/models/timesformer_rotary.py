"""TimeSformer with rotary positions: divided attention as lucidrains/TimeSformer-pytorch has it, a network of its own.

It shares the paper's idea (Bertasius, Wang and Torresani 2021, arXiv:2102.05095) and no weights with the authors'
networks, see `kinema.operators.rotary_block`.
"""

from typing import Any, Unpack

from kinema.backbones.timesformer_rotary import RotaryTransformer
from kinema.models.network import SpaceTimeNetwork
from kinema.models.options import TimeSformerRotaryOptions
from kinema.models.tsn import NumClasses
from kinema.operators.rotary import ClipRotary, RotaryLayout
from kinema.operators.rotary_block import RotaryBlock


def timesformer_rotary_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TimeSformerRotaryOptions]
) -> SpaceTimeNetwork:
    """TimeSformer with rotary positions for frames of about 64 pixels."""
    size = {"embed_dim": 64, "depth": 4, "num_heads": 4, "head_dim": 16, "patch_size": 8, "image_size": 64}
    merged: dict[str, Any] = {**size, **options}
    return _timesformer_rotary(num_classes, num_frames, **merged)


def timesformer_rotary(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TimeSformerRotaryOptions]
) -> SpaceTimeNetwork:
    """TimeSformer with rotary positions: 63.6 M parameters, 103.3 GMACs for 8 frames of 224 pixels.

    The sizes are those of the reference's example; no weights of it are published.
    """
    merged: dict[str, Any] = {**options}
    return _timesformer_rotary(num_classes, num_frames, **merged)


def _timesformer_rotary(
    num_classes: NumClasses,
    num_frames: int,
    *,
    rotary: bool = True,
    rotary_layout: RotaryLayout = "interleaved",
    num_heads: int = 8,
    head_dim: int = 64,
    token_shift: bool = False,
    attention_dropout: float = 0.0,
    feed_forward_dropout: float = 0.0,
    dropout: float = 0.0,
    **trunk: Any,
) -> SpaceTimeNetwork:
    if not rotary and rotary_layout != "interleaved":
        raise ValueError(f"rotary_layout={rotary_layout!r} is of no use with rotary=False; leave one of them out")

    def block(dim: int) -> RotaryBlock:
        return RotaryBlock(
            dim,
            num_heads,
            head_dim=head_dim,
            token_shift=token_shift,
            attention_dropout=attention_dropout,
            feed_forward_dropout=feed_forward_dropout,
        )

    turning = ClipRotary(head_dim, layout=rotary_layout) if rotary else None
    backbone = RotaryTransformer(block, turning, num_frames=num_frames, **trunk)
    return SpaceTimeNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)
