"""UniFormer's four stages on clips (Li et al. 2022, section 3.4, arXiv:2201.04676), their blocks left open."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from kinema.backbones.drop_path import check_rate
from kinema.shapes import RankedMaps, check_clip

BlockFactory = Callable[[int, int, float], nn.Module]
"""Builds a block on feature maps from its stage (1 to 4), its place in the stage (from 0), and its rate of stochastic
depth."""
_STRIDE = 32  # pixels of a frame to one place in the maps of the last stage


class PatchEmbedding(nn.Module):
    """Patches that do not overlap in space, each to a token: a convolution, then layer norm over channels.

    Args:
        in_channels, out_channels: Channels of the maps before and after.
        kernel_size: Frames, rows and columns.
        stride: The same of the step.

    Shape:
        (B, C, T, H, W) to (B, D, T', H', W'); time is padded by zeros to keep ceil(T / step) frames.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int, int], stride: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding=(kernel_size[0] // 2, 0, 0))
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D t h w"]:
        return self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1)


class ConvStem(nn.Module):
    """The first embedding of the light networks: two convolutions of 3 x 3 x 3, each of stride 2 in space.

    Args:
        in_channels: Channels of the clip.
        out_channels: Channels after the second; after the first there are half of them.

    Shape:
        (B, C, T, H, W) to (B, D, ceil(T / 2), ceil(H / 4), ceil(W / 4)).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv3d(in_channels, out_channels // 2, 3, stride=(1, 2, 2), padding=1),
            nn.BatchNorm3d(out_channels // 2),
            nn.GELU(),
            nn.Conv3d(out_channels // 2, out_channels, 3, stride=2, padding=1),
            nn.BatchNorm3d(out_channels),
        )

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D t h w"]:
        return self.proj(x)


class UniFormerBackbone(nn.Module):
    """A clip to one vector: four stages of blocks behind an embedding each, batch norm, and the mean over all tokens.

    Frames are halved by the first embedding, rows and columns in the end divided by 32. No parameter depends on the number
    of frames or pixels. Names in the state dict are those of the authors.

    Args:
        block: Builds one block of any stage.
        embed_dims: Channels of the four stages.
        depths: Blocks of the four stages.
        in_channels: Channels of the clip.
        std: The later embeddings see three frames instead of one, and keep all of them ("spatial-temporal downsampling" in
            the authors' code, where it does not downsample time either).
        conv_stem: Two overlapping convolutions instead of the first patch embedding.
        drop_path: Rate of stochastic depth at the last block, rising from 0 at the first.
        checkpointing: How many of the first blocks of each stage are computed again in the backward pass instead of keeping
            what it needs; True for all, False for none. Running statistics of batch norms are counted once, where the
            authors' code counts them twice. A compiled network decides by itself what to keep, and ignores this.
        representation_size: Channels of a linear layer and tanh behind the mean, which then make the vector; None for
            none. (The authors' code has such an option, which stops with an error: it is in front of the mean there, and
            given the list of all widths.)

    Shape:
        (B, in_channels, T, H, W) to (B, num_features), H and W multiples of 32, any T.

    Raises:
        ValueError: If there are not four stages of at least one block, a rate is not in [0, 1), or more blocks shall be
            computed again than there are.
    """

    def __init__(
        self,
        block: BlockFactory,
        *,
        embed_dims: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (3, 4, 8, 3),
        in_channels: int = 3,
        std: bool = False,
        conv_stem: bool = False,
        drop_path: float = 0.1,
        checkpointing: bool | Sequence[int] = False,
        representation_size: int | None = None,
    ) -> None:
        super().__init__()
        check_rate(drop_path)
        if len(depths) != 4 or len(embed_dims) != 4 or min(*depths, *embed_dims) < 1:
            raise ValueError(
                f"depths={tuple(depths)} and embed_dims={tuple(embed_dims)}: a UniFormer has four stages; give four numbers "
                "of at least 1 for each"
            )
        self.in_channels, self.depths = in_channels, tuple(depths)
        self.checkpointing = _recomputed(checkpointing, self.depths)
        seen, step = (3 if std else 1, 2, 2), (1, 2, 2)
        first, second, third, fourth = embed_dims
        self.patch_embed1 = (
            ConvStem(in_channels, first) if conv_stem else PatchEmbedding(in_channels, first, (3, 4, 4), (2, 4, 4))
        )
        self.patch_embed2 = PatchEmbedding(first, second, seen, step)
        self.patch_embed3 = PatchEmbedding(second, third, seen, step)
        self.patch_embed4 = PatchEmbedding(third, fourth, seen, step)
        total = sum(depths)
        rates = iter([drop_path * index / max(total - 1, 1) for index in range(total)])
        self.blocks1, self.blocks2, self.blocks3, self.blocks4 = (
            nn.ModuleList(block(stage, index, next(rates)) for index in range(depth))
            for stage, depth in enumerate(depths, start=1)
        )
        self.norm = nn.BatchNorm3d(fourth)
        self.pre_logits: nn.ModuleDict | None = None
        self.num_features = fourth
        if representation_size is not None:
            if representation_size < 1:
                raise ValueError(f"representation_size={representation_size} is no width; give at least 1, or None")
            self.pre_logits = nn.ModuleDict({"fc": _linear(fourth, representation_size)})
            self.num_features = representation_size

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        """The vector of each clip.

        Raises:
            ValueError: If frames are no multiple of 32 pixels high and wide.
        """
        x = self._first_stages(clip)
        x = self._run(3, self.patch_embed3(x))
        return self._vector(self._run(4, self.patch_embed4(x)))

    def _first_stages(self, clip: Tensor) -> Float[Tensor, "B D T h w"]:
        check_clip(clip, channels=self.in_channels)
        height, width = clip.shape[-2:]
        if height % _STRIDE or width % _STRIDE:
            raise ValueError(
                f"frames of {height} x {width} pixels are not divided evenly by the four stages; resize or crop them to "
                f"multiples of {_STRIDE}"
            )
        if clip.device.type == "cpu":  # the gradient of the first kernel is then several times faster, and all after it
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        x = self._run(1, self.patch_embed1(clip))
        return self._run(2, self.patch_embed2(x))

    def _run(self, stage: int, x: Any) -> Any:
        """All blocks of a stage, on feature maps or on what its blocks take."""
        blocks = (self.blocks1, self.blocks2, self.blocks3, self.blocks4)[stage - 1]
        again = self.checkpointing[stage - 1]
        if not self.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            again = 0
        for index, block in enumerate(blocks):
            if index < again:
                x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_first_and_second_time, block))
            else:
                x = block(x)
        return x

    def _vector(self, maps: Float[Tensor, "B D T h w"]) -> Float[Tensor, "B D"]:
        vector = self.norm(maps).mean(dim=(2, 3, 4))
        return vector if self.pre_logits is None else self.pre_logits["fc"](vector).tanh()


class ClassTokenUniFormer(UniFormerBackbone):
    """The stages of the light networks (Li et al. 2022, arXiv:2201.09450): a class token ranks the tokens of the last two.

    It enters in front of stage 3, passes a linear layer behind it, and picks the tokens that blocks compute; the vector is
    still the mean over all tokens. Scores of stage 3 are averaged over what becomes one token of stage 4, and scaled to
    keep their sum.

    Args: as for `UniFormerBackbone`; blocks of stages 3 and 4 are on `RankedMaps`.
    """

    def __init__(
        self,
        block: BlockFactory,
        *,
        embed_dims: Sequence[int] = (56, 112, 224, 448),
        conv_stem: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(block, embed_dims=embed_dims, conv_stem=conv_stem, **options)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims[2]))
        self.cls_upsample = _linear(embed_dims[2], embed_dims[3])

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        return self.both(clip)[0]

    def both(self, clip: Float[Tensor, "B C T H W"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B C"]]:
        """The vector of each clip, and its class token behind the last block."""
        maps = self.patch_embed3(self._first_stages(clip))
        ranked = self._run(3, RankedMaps(self.cls_token.expand(maps.shape[0], -1, -1), maps, None))
        scores = _pooled(ranked.scores, ranked.maps)
        ranked = self._run(4, RankedMaps(self.cls_upsample(ranked.classes), self.patch_embed4(ranked.maps), scores))
        return self._vector(ranked.maps), ranked.classes[:, 0]


def _pooled(scores: Float[Tensor, "B N"], maps: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B M"]:
    """Scores of four tokens as that of the one that they become."""
    pooled = F.avg_pool2d(scores.unflatten(1, maps.shape[2:]), 2).flatten(1)
    return pooled * (scores.sum(dim=1, keepdim=True) / pooled.sum(dim=1, keepdim=True))


def _linear(in_features: int, out_features: int) -> nn.Linear:
    """With the authors' initial values."""
    layer = nn.Linear(in_features, out_features)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def _recomputed(checkpointing: bool | Sequence[int], depths: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(checkpointing, bool):
        return depths if checkpointing else (0, 0, 0, 0)
    numbers = tuple(checkpointing)
    if len(numbers) != 4 or any(not 0 <= number <= depth for number, depth in zip(numbers, depths, strict=False)):
        raise ValueError(
            f"checkpointing={numbers} does not say how many of the {depths} blocks of each stage are computed again; give "
            "four numbers, none above those, or True for all"
        )
    return numbers


def _first_and_second_time(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms go on normalising by the batch, and leave their running statistics as they are."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # The share of the new batch in the running statistics; without them at all, less would be saved for the gradient.
        norm.momentum = 0.0
        norm.num_batches_tracked = norm.num_batches_tracked.clone() if norm.num_batches_tracked is not None else None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counted
