"""TimeSformer's transformer on clips (Bertasius, Wang and Torresani 2021, arXiv:2102.05095), its blocks left open."""

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kinema.backbones.drop_path import check_rate
from kinema.backbones.streaming import StreamState
from kinema.backbones.weight_init import WeightInit, check_weight_init
from kinema.shapes import AttentionMaps, ClipTokens

Position = Literal["none", "space", "space_time"]
POSITIONS: tuple[Position, ...] = get_args(Position)
PositionResize = Literal["smooth", "nearest", "none"]
POSITION_RESIZES: tuple[PositionResize, ...] = get_args(PositionResize)

BlockFactory = Callable[[int, float], nn.Module]
"""Builds a block on `ClipTokens` from the size of the embedding and its rate of stochastic depth."""


class PatchTransformer(nn.Module):
    """What transformers over the patches of clips share: their embedding, and how deep their parameters stand.

    Args:
        in_channels: Channels of the clip.
        embed_dim: Size of D.
        patch_size: Side of a patch in pixels.
    """

    blocks: nn.ModuleList

    def __init__(self, in_channels: int, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.in_channels, self.num_features, self.patch_size = in_channels, embed_dim, patch_size
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)}  # timm's name
        )

    def patches_of(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B h w T D"]:
        """The patches of every frame, embedded.

        Raises:
            ValueError: If frames are no whole number of patches.
        """
        height, width = clip.shape[3:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"frames of {height} x {width} pixels are no whole number of patches of {self.patch_size} x "
                f"{self.patch_size}; resize or crop them"
            )
        maps = self.patch_embed["proj"](rearrange(clip, "b c t h w -> (b t) c h w"))
        return rearrange(maps, "(b t) d h w -> b h w t d", b=clip.shape[0])

    @property
    def num_layers(self) -> int:
        return len(self.blocks)

    def layer_of(self, name: str) -> int:
        """How deep a parameter stands: 0 for the embeddings, 1 to `num_layers` for the blocks, then the last norm.

        Args:
            name: Of the parameter in this backbone, such as "blocks.0.norm1.weight".
        """
        place, *rest = name.split(".")
        if place == "blocks":
            return int(rest[0]) + 1
        return self.num_layers + 1 if place == "norm" else 0


class SpaceTimeTransformer(PatchTransformer):
    """A clip to one vector: patches of every frame, positions in space and time, blocks, and the normalised class token.

        z[p, t] = W x[p, t] + b + e_space[p] + e_time[t],    z_class = c + e_class

    A transformer on frames has a class token for each of them, all equal at first, which are averaged before the last norm,
    and no embedding of time. Names in the state dict are timm's for a ViT, and `time_embed` beside them.

    A causal one likewise, but averages its class tokens behind the last norm, so that what a frame adds to a clip does not
    depend on the others; it runs frame by frame too. Its blocks tell frames apart (`kinema.operators.causal_attention`).

    Initial values `authors` suit a network that gets the weights of an image transformer: class
    token, positions and linear layers truncated normal 0.02, `time_embed` zero. With `scratch` a small network learns motion
    in fewer epochs: linear layers truncated normal 1 / sqrt(inputs), so that a narrow one says as much as a wide one,
    positions 0.3, `time_embed` waves of one to four half periods over the clip, so that frames are told apart, and frames
    near one another are alike. Gates are zero in both.

    Args:
        block: Builds one block, in which alone frames meet. Linear layers that it initialised itself stay so where they are
            named other than qkv, proj, fc1 and fc2.
        embed_dim: Size of D.
        depth: Number of blocks.
        patch_size: Side of a patch in pixels.
        image_size: Side in pixels of the frames whose positions are learnt.
        num_frames: Frames whose positions are learnt.
        in_channels: Channels of the clip.
        position: "space_time", "space" (no embedding of time) or "none".
        position_resize: For clips of other sizes: "smooth" (bicubic in space, linear in time), "nearest" (the authors')
            or "none", which refuses them.
        class_per_frame: Whether every frame has a class token, and time no embedding.
        causal: Whether blocks are of `CausalBlock`, whose window is `num_frames`; needs `class_per_frame`.
        drop_path: Rate of stochastic depth at the last block, rising from 0 at the first.
        checkpointing: Compute every block again in the backward pass instead of keeping what it needs.
        weight_init: Values that parameters start from, "authors" or "scratch", see above.

    Shape:
        (B, in_channels, T, H, W) to (B, D).

    Raises:
        ValueError: If sizes do not fit one another, or an option is unknown.
    """

    def __init__(
        self,
        block: BlockFactory,
        *,
        embed_dim: int = 768,
        depth: int = 12,
        patch_size: int = 16,
        image_size: int = 224,
        num_frames: int = 8,
        in_channels: int = 3,
        position: Position = "space_time",
        position_resize: PositionResize = "smooth",
        class_per_frame: bool = False,
        causal: bool = False,
        drop_path: float = 0.1,
        checkpointing: bool = False,
        weight_init: WeightInit = "authors",
    ) -> None:
        check_rate(drop_path)
        check_weight_init(weight_init)
        if patch_size < 1 or image_size % patch_size:
            raise ValueError(f"patch_size={patch_size} does not divide image_size={image_size}; give a divisor")
        if depth < 1 or num_frames < 1:
            raise ValueError(f"depth={depth} and num_frames={num_frames}: give at least 1 of each")
        for what, value, known in (
            ("position", position, POSITIONS),
            ("position_resize", position_resize, POSITION_RESIZES),
        ):
            if value not in known:
                raise ValueError(f"{what}={value!r} is unknown; give one of {', '.join(known)}")
        super().__init__(in_channels, embed_dim, patch_size)
        assert class_per_frame or not causal
        self.class_per_frame, self.causal, self.num_frames = class_per_frame, causal, num_frames
        self.position_resize, self.checkpointing = position_resize, checkpointing
        side = image_size // patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side + 1, embed_dim)) if position != "none" else None
        in_time = position == "space_time" and not class_per_frame
        self.time_embed = nn.Parameter(torch.zeros(1, num_frames, embed_dim)) if in_time else None
        rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(block(embed_dim, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self._initialise(scratch=weight_init == "scratch")

    def _initialise(self, *, scratch: bool) -> None:
        for name, parameter in self.named_parameters():
            layer = name.rpartition(".")[0].rpartition(".")[2]
            if name in ("cls_token", "pos_embed"):
                nn.init.trunc_normal_(parameter, std=0.3 if scratch and name == "pos_embed" else 0.02)
            elif layer in ("qkv", "proj", "fc1", "fc2") and parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=parameter.shape[1] ** -0.5 if scratch else 0.02)
            elif layer in ("qkv", "fc1", "fc2") or (layer == "proj" and ".attn." in name):
                nn.init.zeros_(parameter)
        if scratch and self.time_embed is not None:
            with torch.no_grad():
                self.time_embed.copy_(_waves(*self.time_embed.shape[1:]))

    def forward(
        self,
        clip: Float[Tensor, "B C T H W"],
        frame_mask: Bool[Tensor, "B T"] | None = None,
        keep: list[AttentionMaps] | None = None,
    ) -> Float[Tensor, "B D"]:
        """The vector of each clip.

        Args:
            clip: Frames of a whole number of patches.
            frame_mask: False for frames that are padding, in a batch of clips of unequal length; at least one frame of
                every clip is none. The others keep the embeddings of time that they have in the padded clip; a short clip
                by itself would get as many, resized from all.
            keep: Gets the attention weights of every block, step by step (`SpaceTimeBlock`); they are not formed otherwise.

        Raises:
            ValueError: If frames are no whole number of patches, positions are missing for them and may not be resized, or
                the mask is of another shape or hides a whole clip.
        """
        if frame_mask is not None:
            check_frame_mask(frame_mask, clip)
        tokens = self.embed(clip)
        for block in self.blocks:
            maps: AttentionMaps | None = None if keep is None else {}
            if self.checkpointing and self.training and torch.is_grad_enabled() and keep is None:
                tokens = checkpoint(block, tokens, frame_mask, use_reentrant=False)
            else:
                tokens = block(tokens, frame_mask, maps)
            if keep is not None and maps is not None:
                keep.append(maps)
        if self.causal:
            return _averaged(self.norm(tokens.classes), frame_mask)
        return self.norm(_averaged(tokens.classes, frame_mask))

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> StreamState:
        """The state before the first frame: keys and values of each block, and which of them are of a frame.

        Raises:
            ValueError: If blocks see frames to come, or the frame is no whole number of patches.
        """
        if not self.causal:
            raise ValueError(
                "this transformer sees all frames of a clip at once, so it cannot run on a stream; build it with "
                "attention_scheme='divided' and causal=True"
            )
        tokens = self.embed(frame[:, :, None])
        state = {"seen": frame.new_zeros(frame.shape[0], self.num_frames - 1)}
        for index, block in enumerate(self.blocks):
            state[f"blocks.{index}.keys_values"] = cast(Any, block).init_state(tokens)
        return state

    def step(self, frame: Float[Tensor, "B C H W"], state: StreamState) -> tuple[Float[Tensor, "B D"], StreamState]:
        """The vector of one frame of each clip, and the next state; the given one is left as it is."""
        seen = F.pad(state["seen"], (0, 1), value=1.0)
        tokens, after = self.embed(frame[:, :, None]), {"seen": seen[:, 1:]}
        for index, block in enumerate(self.blocks):
            name = f"blocks.{index}.keys_values"
            tokens, after[name] = cast(Any, block).step(tokens, state[name], seen)
        return self.norm(tokens.classes[:, 0]), after

    def embed(self, clip: Float[Tensor, "B C T H W"]) -> ClipTokens:
        """The tokens in front of the first block."""
        num_clips, num_frames, patches = clip.shape[0], clip.shape[2], self.patches_of(clip)
        classes = self.cls_token
        if self.pos_embed is not None:
            classes = classes + self.pos_embed[:, :1]
            patches = patches + self._in_space(patches.shape[1], patches.shape[2])[:, :, :, None]
        if self.time_embed is not None:
            patches = patches + self._in_time(num_frames)
        count = num_frames if self.class_per_frame else 1
        return ClipTokens(classes.expand(num_clips, count, -1), patches.contiguous())

    def _in_space(self, height: int, width: int) -> Float[Tensor, "1 h w D"]:
        assert self.pos_embed is not None
        learnt = self.pos_embed[:, 1:]
        side = int(learnt.shape[1] ** 0.5)
        grid = learnt.unflatten(1, (side, side))
        if (height, width) == (side, side):
            return grid
        self._may_resize(f"frames of {height} x {width} patches", f"{side} x {side} patches")
        size = (height, width)
        maps = grid.permute(0, 3, 1, 2)
        if self.position_resize == "nearest":
            return F.interpolate(maps, size=size, mode="nearest").permute(0, 2, 3, 1)
        wide = maps if maps.dtype == torch.float64 else maps.float()  # on a CPU there is no such resizing in 16 bits
        wide = F.interpolate(wide, size=size, mode="bicubic", antialias=True, align_corners=False)
        return wide.to(maps.dtype).permute(0, 2, 3, 1)

    def _in_time(self, num_frames: int) -> Float[Tensor, "1 T D"]:
        assert self.time_embed is not None
        learnt = self.time_embed
        if num_frames == learnt.shape[1]:
            return learnt
        self._may_resize(f"clips of {num_frames} frames", f"{learnt.shape[1]} frames")
        mode = "nearest" if self.position_resize == "nearest" else "linear"
        return F.interpolate(learnt.transpose(1, 2), size=num_frames, mode=mode).transpose(1, 2)

    def _may_resize(self, given: str, learnt: str) -> None:
        if self.position_resize == "none":
            raise ValueError(
                f"positions were learnt for {learnt} and {given} came; give clips of that size, or build the network with "
                "position_resize='smooth'"
            )


def _waves(num_frames: int, channels: int) -> Float[Tensor, "1 T D"]:
    """0.5 cos(pi (k t / T + phase)), k = 1 to 4 by channel and phases random: frames near one another are alike."""
    time = torch.arange(num_frames)[:, None] / num_frames
    half_periods = 1 + torch.arange(channels) % 4
    return 0.5 * torch.cos(torch.pi * (half_periods * time + 2 * torch.rand(channels)))[None]


def _averaged(classes: Float[Tensor, "B K D"], valid: Tensor | None) -> Float[Tensor, "B D"]:
    if valid is None or classes.shape[1] == 1:
        return classes.mean(dim=1)
    weight = valid.to(classes.dtype)[:, :, None]
    return (classes * weight).sum(dim=1) / weight.sum(dim=1)


def check_frame_mask(mask: Tensor, clip: Tensor) -> None:
    """Refuse what does not say for every frame of every clip whether it is one.

    Raises:
        ValueError: If the mask has another shape or type, or hides a whole clip.
    """
    wanted = (clip.shape[0], clip.shape[2])
    if mask.dtype != torch.bool or tuple(mask.shape) != wanted:
        raise ValueError(
            f"frame_mask must say for each frame of each clip whether it is one, as booleans of shape {wanted}; got "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    if not torch.compiler.is_compiling() and not bool(mask.any(dim=1).all()):
        raise ValueError("frame_mask hides every frame of a clip; leave such clips out of the batch")
