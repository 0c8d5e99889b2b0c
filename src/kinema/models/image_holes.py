"""Holes of networks that were built for images by somebody else: they look at what they are given."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.holes import Batch, Hole, MixedConvolution


class Clips(Batch):
    """How many clips the batch of frames holds, and how many frames a clip."""

    num_frames = 0


class Misfit(ValueError):
    """What a hole was given, or what its operator made of it, said in full."""


class ClipHole(Hole):
    """A hole that looks whether frames come as feature maps, all of them, and leave in the shape in which they came.

    Args:
        operator: On clips.
        clips: How many there are.
        place: Name of the layer behind it.
        channels: Of the features.
    """

    def __init__(self, operator: nn.Module, clips: Clips, place: str, channels: int) -> None:
        super().__init__(operator, clips)
        self.clips = clips
        self.place = place
        self.channels = channels

    def forward(self, frames: Float[Tensor, "BT C H W"]) -> Float[Tensor, "BT C H W"]:
        if frames.ndim != 4 or frames.shape[1] != self.channels:
            raise self.misfit(frames, f"(frames, {self.channels}, height, width)")
        self.check_batch(frames)
        return self.on_clips(self._mixed, frames)

    def check_batch(self, frames: Tensor) -> None:
        given, needed = frames.shape[0], self.clips.num_clips * self.clips.num_frames
        if needed and given != needed:
            raise Misfit(
                f"the network cuts frames into windows before {self.place} ({needed} frames became {given}), so there is "
                "no telling which belong together in time; leave such layers out with 'where'"
            )

    def misfit(self, given: Tensor, needed: str) -> Misfit:
        return Misfit(
            f"the network hands {self.place} something else than feature maps or tokens of frames: shape "
            f"{tuple(given.shape)}, needed is {needed}; leave such layers out with 'where'"
        )

    def _mixed(self, clip: Tensor) -> Tensor:
        mixed: Any = self.operator(clip)
        shape = tuple(mixed.shape) if isinstance(mixed, Tensor) else None
        if shape != tuple(clip.shape):
            raise Misfit(
                f"the operator {type(self.operator).__name__} before {self.place} turned a clip of shape "
                f"{tuple(clip.shape)} into {f'shape {shape}' if shape else type(mixed).__name__}; give an operator that "
                "keeps the shape (B, C, T, H, W)"
            )
        return mixed


class TokenHole(ClipHole):
    """Add what an operator on clips says of the patches to their tokens (BT, N, D); other tokens pass by.

    Tokens lie in rows of a square: transformers of timm that take other images resize their positions by themselves,
    and say so through `dynamic_img_size`, which is not followed here.
    """

    def __init__(self, operator: nn.Module, clips: Clips, place: str, channels: int, num_prefix_tokens: int) -> None:
        super().__init__(operator, clips, place, channels)
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim not in (3, 4) or tokens.shape[-1] != self.channels:
            raise self.misfit(tokens, f"(frames, tokens, {self.channels})")
        if tokens.ndim == 4:  # (BT, h, w, D)
            return tokens + super().forward(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        self.check_batch(tokens)
        side = math.isqrt(tokens.shape[1])
        others = tokens.shape[1] - side * side  # some transformers add their class token in later blocks alone
        if others not in (0, self.num_prefix_tokens):
            raise Misfit(
                f"{tokens.shape[1]} tokens of a frame before {self.place} are no square and its prefix; give square frames"
            )
        prefix, patches = tokens[:, :others], tokens[:, others:]
        said = super().forward(patches.unflatten(1, (side, side)).permute(0, 3, 1, 2))
        return torch.cat([prefix, patches + said.flatten(2).transpose(1, 2)], dim=1)


class PrecededBlock(nn.Module):
    """A transformer block behind an operator."""

    def __init__(self, mixer: TokenHole, block: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.block = block

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(self.mixer(tokens), *args, **kwargs)


class Preceded(MixedConvolution):
    """A convolution behind an operator, which still answers for its own attributes: some networks ask for them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("conv"), name)
