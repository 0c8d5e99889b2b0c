"""UniFormer's blocks: tokens look around themselves in shallow stages, and at the whole clip in deep ones.

Li et al. 2022, "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning", section 3
(arXiv:2201.04676), which calls them multi-head relation aggregators. Every block on feature maps x is

    x = x + position(x)           dynamic position embedding, a depthwise convolution
    x = x + relation(norm1(x))    who hears whom
    x = x + mlp(norm2(x))

    block              relation                                                     norms
    LocalRelation      learnt weights of a tube around each place, by channel       batch norm
    GlobalRelation     softmax over similarities of all tokens of the clip          layer norm
    DividedRelation    the same along time, then within each frame                  layer norm

None of them has a parameter that depends on the size of the maps, so a network takes clips of any length.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from timm.layers.drop import drop_path as drop_branch
from torch import Tensor, nn

from kinema.operators.depthwise import DepthwiseConv3d
from kinema.operators.feed_forward import FeedForward
from kinema.operators.multihead import Attention
from kinema.operators.token_linear import linear_on_tokens
from kinema.shapes import check_clip


class DynamicPosition(DepthwiseConv3d):
    """x + DWConv(x), 3 x 3 x 3 with zeros outside the clip (section 3.3): the zeros at the border tell where a token is.

    Args:
        dim: Size of C.

    Shape:
        (B, C, T, H, W) to the same.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3)

    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return input + super().forward(input)


class _Residual(nn.Module):
    """What the blocks share: position, layer scale and stochastic depth of whole clips."""

    gamma_1: nn.Parameter | None
    gamma_2: nn.Parameter | None

    def __init__(
        self, dim: int, *, dpe: bool, drop_path: float, layer_scale: float | None, scale_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.dim, self.drop_path = dim, drop_path
        self.pos_embed = DynamicPosition(dim) if dpe else nn.Identity()
        for name in ("gamma_1", "gamma_2"):
            scale = None if layer_scale is None else nn.Parameter(torch.full(scale_shape, layer_scale))
            self.register_parameter(name, scale)

    def scaled(self, branch: Tensor, gamma: Tensor | None) -> Tensor:
        return branch if gamma is None else branch * gamma

    def kept(self, branch: Tensor) -> Tensor:
        """The branch, left out for whole clips while training; clips are its first axis."""
        return drop_branch(branch, self.drop_path, training=self.training)


class PointwiseConv(nn.Conv3d):
    """A 1 x 1 x 1 convolution, computed as the linear layer on tokens that it is.

    It leaves channels innermost in memory, where depthwise convolutions are several times faster on a CPU than on maps
    with channels outermost.

    Args:
        in_channels, out_channels: Channels before and after.

    Shape:
        (B, C, T, H, W) to (B, D, T, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, input: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        return linear_on_tokens(input.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class ConvFeedForward(nn.Module):
    """fc2(GELU(fc1(x))) at every place of a map, by 1 x 1 x 1 convolutions.

    Args:
        dim: Size of C.
        hidden: Channels between the two.

    Shape:
        (B, C, T, H, W) to the same.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = PointwiseConv(hidden, dim)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return self.fc2(self.act(self.fc1(x)))


class LocalRelation(_Residual):
    """The local block (section 3.2): the affinity of two tokens is learnt, and depends on their offset alone.

        relation(x) = conv2(tube(conv1(x)))

    where conv1 and conv2 mix the channels of a token and tube is a depthwise convolution. There is nothing between the
    three but their biases.

    Args:
        dim: Size of C.
        tube_size: Frames, rows and columns of the tube, odd; 5 in the paper, which tries 3 to 9.
        mlp_ratio: Hidden channels of the feed-forward part over C.
        dpe: Whether the block has a dynamic position embedding.
        drop_path: Rate of stochastic depth, drawn for each clip and each of the two branches.
        layer_scale: Initial factor on each channel of a branch; no such factors when None.

    Shape:
        (B, C, T, H, W) to the same.

    Raises:
        ValueError: If the tube has no centre.
    """

    def __init__(
        self,
        dim: int,
        *,
        tube_size: int = 5,
        mlp_ratio: float = 4.0,
        dpe: bool = True,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__(dim, dpe=dpe, drop_path=drop_path, layer_scale=layer_scale, scale_shape=(1, dim, 1, 1, 1))
        if not isinstance(tube_size, int) or tube_size < 1 or tube_size % 2 == 0:
            raise ValueError(
                f"tube_size={tube_size} has no centre; give an odd number, one for all three axes, 5 in the paper"
            )
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1 = PointwiseConv(dim, dim)
        self.attn = DepthwiseConv3d(dim, tube_size)
        self.conv2 = PointwiseConv(dim, dim)
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = ConvFeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.dim)
        x = self.pos_embed(x)
        x = x + self.kept(self.scaled(self.conv2(self.attn(self.conv1(self.norm1(x)))), self.gamma_1))
        return x + self.kept(self.scaled(self.mlp(self.norm2(x)), self.gamma_2))


class TokenRelation(_Residual):
    """What the blocks on tokens share: norms, attention and the feed-forward part, with the authors' initial values.

    Linear layers start truncated normal with standard deviation 0.02, their biases at zero.

    Args: as for `GlobalRelation`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        dpe: bool = True,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__(dim, dpe=dpe, drop_path=drop_path, layer_scale=layer_scale, scale_shape=(dim,))
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads, qkv_bias=qkv_bias, scale=qk_scale)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class GlobalRelation(TokenRelation):
    """The global block (section 3.2): joint attention of all tokens of a clip.

    Its cost is quadratic in the number of tokens, so twice the frames cost more than twice.

    Args:
        dim: Size of C.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward part over C.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Of the products of queries and keys; head size ** -0.5 when None.
        dpe: Whether the block has a dynamic position embedding.
        drop_path: Rate of stochastic depth, drawn for each clip and each of the two branches.
        layer_scale: Initial factor on each channel of a branch; no such factors when None.

    Shape:
        (B, C, T, H, W) to the same.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.dim)
        x = self.pos_embed(x)
        tokens = rearrange(x, "b c t h w -> b (t h w) c")
        tokens = tokens + self.kept(self.scaled(self.attn(self.norm1(tokens)), self.gamma_1))
        tokens = tokens + self.kept(self.scaled(self.mlp(self.norm2(tokens)), self.gamma_2))
        return rearrange(tokens, "b (t h w) c -> b c t h w", t=x.shape[2], h=x.shape[3])


class DividedRelation(TokenRelation):
    """The divided block of the paper's ablation: attention along time, then attention within a frame.

        a = x + attn_time(norm_time(x))
        y = x + attn(norm1(a))

    What a token hears from other frames goes into the attention within frames and nowhere else: the sum y starts from x
    and not from a. So it is in the authors' code; TimeSformer's divided attention starts from a.

    At first queries, keys and values of attn_time are zero and all its output weights are one, as in the authors' code,
    so that a is x.

    Differs from the authors' code in stochastic depth, which is drawn for whole clips; theirs is drawn for each place in
    the first attention and for each frame in the second.

    Args, Shape and Raises: as for `GlobalRelation`. Layer scale is on y's attention and on the feed-forward part.
    """

    def __init__(
        self, dim: int, num_heads: int, *, qkv_bias: bool = True, qk_scale: float | None = None, **options: Any
    ) -> None:
        super().__init__(dim, num_heads, qkv_bias=qkv_bias, qk_scale=qk_scale, **options)
        self.t_norm = nn.LayerNorm(dim, eps=1e-6)
        self.t_attn = Attention(dim, num_heads, qkv_bias=qkv_bias, scale=qk_scale)
        nn.init.zeros_(self.t_attn.qkv.weight)
        nn.init.ones_(self.t_attn.proj.weight)
        for bias in (self.t_attn.qkv.bias, self.t_attn.proj.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.dim)
        x = self.pos_embed(x)
        sizes = {"b": x.shape[0], "h": x.shape[3], "w": x.shape[4]}
        along_time = rearrange(x, "b c t h w -> (b h w) t c")
        heard = rearrange(self.t_attn(self.t_norm(along_time)), "(b h w) t c -> b (t h w) c", **sizes)
        tokens = rearrange(x, "b c t h w -> b (t h w) c")
        frames = rearrange(self.norm1(tokens + self.kept(heard)), "b (t n) c -> (b t) n c", t=x.shape[2])
        said = rearrange(self.attn(frames), "(b t) n c -> b (t n) c", b=x.shape[0])
        tokens = tokens + self.kept(self.scaled(said, self.gamma_1))
        tokens = tokens + self.kept(self.scaled(self.mlp(self.norm2(tokens)), self.gamma_2))
        return rearrange(tokens, "b (t h w) c -> b c t h w", t=x.shape[2], h=x.shape[3])
