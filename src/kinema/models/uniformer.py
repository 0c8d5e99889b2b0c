"""UniFormer (Li et al. 2022, arXiv:2201.04676): convolutions among neighbours first, attention over the clip later.

The light networks XXS and XS are those of its second paper (arXiv:2201.09450).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Unpack

from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.uniformer import ClassTokenUniFormer, UniFormerBackbone
from kinema.models.heads import ClipHead
from kinema.models.network import ClipNetwork, check_input
from kinema.models.options import (
    LightUniFormerOptions,
    PlainUniFormerOptions,
    UniFormerNanoOptions,
)
from kinema.models.tsn import NumClasses
from kinema.operators.relation import DividedRelation, GlobalRelation, LocalRelation
from kinema.operators.token_pruning import PrunedRelation

_HEAD_STD = 0.02  # of the authors' classifiers
DEPTHS_S: dict[str, tuple[int, int, int, int]] = {
    "LLGG": (3, 4, 8, 3),
    "LLLL": (3, 5, 10, 4),
    "LLLG": (3, 5, 10, 3),
    "LGGG": (2, 4, 8, 3),
    "GGGG": (2, 2, 7, 3),
}
"""Blocks of UniFormer-S by the types of its stages, as in the paper's ablation. LLLL and GGGG are printed there (appendix
D); the other two follow from its numbers of parameters. Joint attention in the large maps of the first two stages costs
more here (81 GMACs for LGGG and 216 for GGGG, 16 frames) than the paper prints (39 and 72), and it does not say why."""


class TwoHeadedNetwork(ClipNetwork):
    """A light UniFormer with the second classifier that its authors train it with, on the class token.

        logits = head(mean of tokens)              logits of class token = head_cls(norm_cls(class token))

    Their network gives both while it trains, each of which makes half of the loss, and the first alone in evaluation. Here
    `forward` gives the first in both modes, and both where it is asked to; `kinema.training.UniFormer` asks.

    Args: as for `ClipNetwork`.
    """

    def __init__(
        self, backbone: ClassTokenUniFormer, num_classes: NumClasses, *, num_frames: int, dropout: float
    ) -> None:
        super().__init__(backbone, num_classes, num_frames=num_frames, dropout=dropout, head_std=_HEAD_STD)
        width = backbone.cls_upsample.out_features
        self.norm_cls = nn.LayerNorm(width)
        self.head_cls = ClipHead(width, num_classes, dropout=dropout, init_std=_HEAD_STD)

    def forward(self, clip: Float[Tensor, "B C T H W"], both_heads: bool = False) -> Any:
        """Logits of the clip; with `both_heads` a pair, the second the logits of the class token."""
        if not both_heads:
            return super().forward(clip)
        check_input(clip, channels=self.backbone.in_channels)
        features, classes = self.backbone.both(clip)
        return self.head(features), self.head_cls(self.norm_cls(classes))

    def reset_classifier(self, num_classes: int | Sequence[int]) -> None:
        """Replace both classifiers; a tuple of sizes makes each give a tuple of logits."""
        super().reset_classifier(num_classes)
        self.head_cls.reset_classifier(num_classes)


def uniformer_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[UniFormerNanoOptions]
) -> ClipNetwork:
    """UniFormer for frames of about 64 pixels; its size is an option, and whether it is a light one."""
    size = {"embed_dims": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "head_dim": 16, "drop_path": 0.0}
    merged: dict[str, Any] = {**size, **options}
    if merged.pop("light", False):
        plain = {"split", "std", "stage_types"} & set(options)
        if plain:
            raise ValueError(
                f"light=True and {sorted(plain)[0]} were given; light networks have local blocks, then blocks that prune "
                "tokens: leave one of the two out"
            )
        merged = {"mlp_ratio": 3.0, "class_head": False, **merged}
        return _light(num_classes, num_frames, **merged)
    light = {"prune_ratios", "class_head"} & set(options)
    if light:
        raise ValueError(f"{sorted(light)[0]} is of light networks; give light=True with it, or leave it out")
    return _plain(num_classes, num_frames, **merged)


def uniformer_xxs(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[LightUniFormerOptions]
) -> ClipNetwork:
    """UniFormer-XXS: 9.8 M parameters, 4.2 GMACs for 16 frames of 128 pixels, 6.8 of 160."""
    size = {"embed_dims": (56, 112, 224, 448), "depths": (2, 5, 8, 2), "head_dim": 28, "drop_path": 0.05}
    merged: dict[str, Any] = {**size, **options}
    return _light(num_classes, num_frames, **merged)


def uniformer_xs(
    num_classes: NumClasses = 400, num_frames: int = 32, **options: Unpack[LightUniFormerOptions]
) -> ClipNetwork:
    """UniFormer-XS: 16.1 M parameters; its authors trained it on 32 frames of 192 pixels."""
    size = {"embed_dims": (64, 128, 256, 512), "depths": (3, 5, 9, 3), "head_dim": 32, "drop_path": 0.1}
    merged: dict[str, Any] = {**size, **options}
    return _light(num_classes, num_frames, **merged)


def uniformer_s(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[PlainUniFormerOptions]
) -> ClipNetwork:
    """UniFormer-S: 21.4 M parameters, 17.6 GMACs for 8 frames of 224 pixels, 41.7 for 16, 109.5 for 32."""
    depths = DEPTHS_S.get(options.get("stage_types", "LLGG"), DEPTHS_S["LLGG"])
    merged: dict[str, Any] = {"depths": depths, "drop_path": 0.1, **options}
    return _plain(num_classes, num_frames, **merged)


def uniformer_b(
    num_classes: NumClasses = 400, num_frames: int = 16, **options: Unpack[PlainUniFormerOptions]
) -> ClipNetwork:
    """UniFormer-B: 49.8 M parameters, 40.1 GMACs for 8 frames of 224 pixels, 96.6 for 16, 258.3 for 32."""
    merged: dict[str, Any] = {"depths": (5, 8, 20, 7), "drop_path": 0.3, **options}
    return _plain(num_classes, num_frames, **merged)


def _plain(
    num_classes: NumClasses,
    num_frames: int,
    *,
    embed_dims: Sequence[int] = (64, 128, 320, 512),
    head_dim: int = 64,
    stage_types: str = "LLGG",
    split: bool = False,
    tube_size: int = 5,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    dpe: bool = True,
    layer_scale: float | None = None,
    dropout: float = 0.0,
    **trunk: Any,
) -> ClipNetwork:
    if len(stage_types) != 4 or set(stage_types) - set("LG"):
        raise ValueError(
            f"stage_types={stage_types!r} does not name the four stages; give four letters, L for local and G for global "
            "blocks, LLGG in the paper"
        )
    if split and "G" not in stage_types:
        raise ValueError(
            f"split=True divides global blocks, of which stage_types={stage_types!r} has none; leave it out"
        )
    shared: dict[str, Any] = {"mlp_ratio": mlp_ratio, "dpe": dpe, "layer_scale": layer_scale}

    def block(stage: int, index: int, drop_path: float) -> nn.Module:
        dim = embed_dims[stage - 1]
        if stage_types[stage - 1] == "L":
            return LocalRelation(dim, tube_size=tube_size, drop_path=drop_path, **shared)
        kind = DividedRelation if split else GlobalRelation
        heads = _heads(dim, head_dim, stage)
        return kind(dim, heads, qkv_bias=qkv_bias, qk_scale=qk_scale, drop_path=drop_path, **shared)

    backbone = UniFormerBackbone(block, embed_dims=embed_dims, **trunk)
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout, head_std=_HEAD_STD)


def _light(
    num_classes: NumClasses,
    num_frames: int,
    *,
    embed_dims: Sequence[int],
    depths: Sequence[int],
    head_dim: int,
    prune_ratios: Sequence[Sequence[float]] | None = None,
    class_head: bool = True,
    tube_size: int = 5,
    mlp_ratio: float = 3.0,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    dpe: bool = True,
    layer_scale: float | None = None,
    dropout: float = 0.0,
    **trunk: Any,
) -> ClipNetwork:
    shares = _shares(prune_ratios, depths)
    shared: dict[str, Any] = {"mlp_ratio": mlp_ratio, "dpe": dpe, "layer_scale": layer_scale}

    def block(stage: int, index: int, drop_path: float) -> nn.Module:
        dim = embed_dims[stage - 1]
        if stage < 3:
            return LocalRelation(dim, tube_size=tube_size, drop_path=drop_path, **shared)
        return PrunedRelation(
            dim,
            _heads(dim, head_dim, stage),
            share=shares[stage - 3][index],
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop_path=drop_path,
            **shared,
        )

    backbone = ClassTokenUniFormer(block, embed_dims=embed_dims, depths=depths, **trunk)
    network = TwoHeadedNetwork if class_head else partial(ClipNetwork, head_std=_HEAD_STD)
    return network(backbone, num_classes, num_frames=num_frames, dropout=dropout)


def _heads(dim: int, head_dim: int, stage: int) -> int:
    if head_dim < 1 or dim % head_dim:
        raise ValueError(f"head_dim={head_dim} does not divide the {dim} channels of stage {stage}; give a divisor")
    return dim // head_dim


def _shares(prune_ratios: Sequence[Sequence[float]] | None, depths: Sequence[int]) -> list[list[float]]:
    """The share of tokens that each block of stages 3 and 4 keeps, checked."""
    third, fourth = depths[2:] if len(depths) == 4 else (1, 1)
    if prune_ratios is None:
        return [[1.0] + [0.5] * (third - 1), [0.5] * fourth]
    shares = [list(stage) for stage in prune_ratios]
    if [len(stage) for stage in shares] != [third, fourth]:
        raise ValueError(
            f"prune_ratios={shares} is not for stages of {third} and {fourth} blocks; give a share for each block of stage 3, "
            "and for each of stage 4"
        )
    if shares[0][0] != 1:
        raise ValueError(
            f"prune_ratios={shares} prunes tokens in the first block of stage 3, which nobody has scored yet; start with 1"
        )
    return shares
