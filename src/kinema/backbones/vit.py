"""Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) as CLIP trains it (arXiv:2103.00020), on every frame."""

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from kinema.backbones.drop_path import ClipDropPath, check_rate, drop_whole_clips
from kinema.backbones.holes import Batch, Hole, LayerFactory, OperatorFactory


class Grid(Batch):
    """What the holes of a transformer share: the count of clips, and how many patches a frame is high and wide."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = (0, 0)


class TokenHole(Hole):
    """Add what an operator says of the patches of a clip to their tokens; the class tokens pass by.

        patches = patches + drop_path(operator(patches))

    Args:
        operator: Module from (B, D, T, h, w) to the same shape.
        grid: Shared by the backbone.
        drop_path: Rate of stochastic depth, drawn for each clip.
    """

    def __init__(self, operator: nn.Module, grid: Grid, drop_path: float = 0.0) -> None:
        super().__init__(operator, grid)
        self._grid = grid
        self.drop_path = ClipDropPath(drop_path, grid)

    def forward(self, tokens: Float[Tensor, "BT N+1 D"]) -> Float[Tensor, "BT N+1 D"]:
        class_token, patches = tokens[:, :1], tokens[:, 1:]
        maps = rearrange(patches, "b (h w) d -> b d h w", h=self._grid.patches[0])
        said = rearrange(super().forward(maps), "b d h w -> b (h w) d")
        return torch.cat([class_token, patches + self.drop_path(said)], dim=1)


class HoledBlock(Block):
    """timm's pre-norm block with a hole in front of the attention and one between attention and MLP.

    x = before(x);  x = x + attention(norm1(x));  x = between(x);  x = x + mlp(norm2(x))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before: nn.Module = nn.Identity()
        self.between: nn.Module = nn.Identity()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        x = self.before(x)
        x = x + self.drop_path1(self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal))
        x = self.between(x)
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class CLIPBackbone(nn.Module):
    """A clip to one vector: class tokens of all frames averaged, then the last norm.

    Frames meet only in the operators that fill the holes: attention sees one frame, and no embedding tells one frame from
    another.

    Args:
        trunk: timm's transformer, of `HoledBlock`.
        in_channels: Channels of the clip.
        drop_path: Rate of stochastic depth of every block, also for its operators.
        stem: Builds what takes the place of the patch embedding, from that convolution; may change the number of frames.
        before: Builds the operator in front of the attention of one block, from the size of the embedding.
        between: Builds the one between attention and MLP.

    Shape:
        (B, in_channels, T, H, W) to (B, num_features). Position embeddings are resized (bicubic) for frames of another
        size than the one the network was built for.

    Raises:
        ValueError: If a frame is not a whole number of patches.
    """

    def __init__(
        self,
        trunk: VisionTransformer,
        *,
        in_channels: int = 3,
        drop_path: Sequence[float],
        stem: LayerFactory | None = None,
        before: OperatorFactory | None = None,
        between: OperatorFactory | None = None,
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.num_features = trunk.embed_dim
        self.in_channels = in_channels
        self._grid = Grid()
        drop_whole_clips(trunk, self._grid)
        if stem is not None:
            trunk.patch_embed.proj = Hole(stem(trunk.patch_embed.proj), self._grid)  # pyrefly: ignore
        for block, rate in zip(trunk.blocks, drop_path, strict=True):
            assert isinstance(block, HoledBlock)
            for name, factory in (("before", before), ("between", between)):
                if factory is not None:
                    block.set_submodule(name, TokenHole(factory(trunk.embed_dim), self._grid, rate))

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        num_clips, _, _, height, width = clip.shape
        patch_height, patch_width = self.trunk.patch_embed.patch_size
        if height % patch_height or width % patch_width:
            raise ValueError(
                f"frames of {height} x {width} pixels are no whole number of patches of {patch_height} x {patch_width}; "
                "resize or crop them"
            )
        self._grid.num_clips = num_clips
        self._grid.patches = height // patch_height, width // patch_width
        tokens = self.trunk.forward_features(rearrange(clip, "b c t h w -> (b t) c h w"))
        self._grid.recall_behind(tokens)
        class_tokens = tokens[:, :1].unflatten(0, (num_clips, -1)).mean(dim=1)
        return self.trunk.forward_head(class_tokens, pre_logits=True)

    @property
    def num_layers(self) -> int:
        return len(self.trunk.blocks)

    def layer_of(self, name: str) -> int:
        """How deep a parameter stands: 0 for the embeddings, 1 to `num_layers` for the blocks, then the last norm.

        Args:
            name: Of the parameter in this backbone, such as "trunk.blocks.0.norm1.weight".
        """
        _, place, *rest = name.split(".")
        if place == "blocks":
            return int(rest[0]) + 1
        return self.num_layers + 1 if place == "fc_norm" else 0


def clip_vit(
    *,
    embed_dim: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    patch_size: int = 16,
    image_size: int = 224,
    drop_path: float = 0.0,
    in_channels: int = 3,
    stem: LayerFactory | None = None,
    before: OperatorFactory | None = None,
    between: OperatorFactory | None = None,
) -> CLIPBackbone:
    """The image encoder of CLIP without its projection: a norm behind the embeddings, no bias of patches, QuickGELU.

    Initial values are those of TAdaFormer's authors: linear layers N(0, 0.02), but the joint projection of queries, keys
    and values Xavier-uniform; class token and positions N(0, 1 / embed_dim).

    Args:
        embed_dim: Size of D.
        depth: Number of blocks.
        num_heads: Attention heads of a block.
        patch_size: Side of a patch in pixels.
        image_size: Side of the frames in pixels whose positions are learnt.
        drop_path: Rate of stochastic depth at the last block, rising from 0 at the first; drawn for each clip.
        in_channels: Channels of the clip.
        stem, before, between: See `CLIPBackbone`.

    Raises:
        ValueError: If the heads do not divide the embedding or the patches the image, or the rate is not in [0, 1).
    """
    check_rate(drop_path)
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(f"num_heads={num_heads} does not divide embed_dim={embed_dim}; give a divisor")
    if patch_size < 1 or image_size % patch_size:
        raise ValueError(f"patch_size={patch_size} does not divide image_size={image_size}; give a divisor")
    if depth < 1:
        raise ValueError(f"depth={depth} leaves no block; give at least 1")
    trunk = VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=in_channels,
        num_classes=0,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        pre_norm=True,
        fc_norm=True,  # behind the pooling, here of class tokens over frames
        dynamic_img_size=True,
        drop_path_rate=drop_path,
        norm_layer=nn.LayerNorm,
        act_layer="quick_gelu",
        block_fn=HoledBlock,
    )
    assert trunk.pos_embed is not None and trunk.cls_token is not None
    for token in (trunk.pos_embed, trunk.cls_token):
        nn.init.normal_(token, std=embed_dim**-0.5)
    for block in trunk.blocks:
        nn.init.xavier_uniform_(block.attn.qkv.weight)  # pyrefly: ignore
    rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
    return CLIPBackbone(trunk, in_channels=in_channels, drop_path=rates, stem=stem, before=before, between=between)
