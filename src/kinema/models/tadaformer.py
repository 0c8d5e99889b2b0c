"""TAdaFormer: the image transformer of CLIP with calibrated blocks beside it (Huang et al. 2023, arXiv:2308.05787).

With `double`, the second block of the last layer changes patch tokens that nobody reads any more, for the classifier sees
class tokens alone: it costs what the others cost and learns nothing. The authors' checkpoints hold it, so it is here.
"""

from functools import partial
from typing import Any, Unpack

from kinema.backbones.vit import clip_vit
from kinema.models.network import ClipNetwork
from kinema.models.options import TAdaFormerNanoOptions, TAdaFormerOptions
from kinema.models.tsn import NumClasses
from kinema.operators.tada_block import TAdaBlock
from kinema.operators.tubelet import TubeletConv


def tadaformer_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TAdaFormerNanoOptions]
) -> ClipNetwork:
    """TAdaFormer for frames of about 64 pixels; its size is an option."""
    size = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "image_size": 64, "routing_head_dim": None}
    merged: dict[str, Any] = {**size, **options}
    return _tadaformer(num_classes, num_frames, **merged)


def tadaformer_b16(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaFormerOptions]
) -> ClipNetwork:
    """TAdaFormer-B/16: 104.2 M parameters, 153.6 GMACs for 16 frames of 224 pixels.

    135.1 M and 187.0 GMACs with `enhanced` and `double`, as the authors train it on Something-Something.
    """
    return _tadaformer(num_classes, num_frames, embed_dim=768, depth=12, num_heads=12, patch_size=16, **options)


def tadaformer_l14(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[TAdaFormerOptions]
) -> ClipNetwork:
    """TAdaFormer-L/14: 364.8 M parameters, 702.6 GMACs for 16 frames of 224 pixels.

    475.0 M and 857.7 GMACs with `enhanced` and `double`, as the authors train it on Something-Something.
    """
    return _tadaformer(num_classes, num_frames, embed_dim=1024, depth=24, num_heads=16, patch_size=14, **options)


def _tadaformer(
    num_classes: NumClasses,
    num_frames: int,
    *,
    enhanced: bool = False,
    double: bool = False,
    drop_path: float = 0.0,
    dropout: float = 0.5,
    in_channels: int = 3,
    image_size: int = 224,
    embed_dim: int,
    depth: int,
    num_heads: int,
    patch_size: int,
    **block_options: Any,
) -> ClipNetwork:
    # The stem halves the frames.
    block = partial(TAdaBlock, enhanced=enhanced, num_frames=(num_frames + 1) // 2, **block_options)
    backbone = clip_vit(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        patch_size=patch_size,
        image_size=image_size,
        drop_path=drop_path,
        in_channels=in_channels,
        stem=TubeletConv.like,  # pyrefly: ignore
        before=block,
        between=block if double else None,
    )
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)
