"""The transformer of timesformer_rotary on clips: patches, one class token, blocks left open, positions as rotations."""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.backbones.timesformer import PatchTransformer, check_frame_mask
from kinema.shapes import AttentionMaps, ClipTokens

RotaryBlockFactory = Callable[[int], nn.Module]
"""Builds a block on `ClipTokens` from the size of the embedding; it also takes the rotation of queries and keys."""


class RotaryTransformer(PatchTransformer):
    """A clip to one vector: patches of every frame, a class token for the clip, blocks, and the class token normalised.

        z[p, t] = W x[p, t] + b,    z_class = c

    and, where there is no rotation, e[t, p] added to each and e_class to the class token.

    The transformer of lucidrains/TimeSformer-pytorch, with its initial values: class token and learnt positions standard
    normal, linear layers as torch's. Differs in storing the patch embedding as the convolution that it is.

    Args:
        block: Builds one block, in which alone frames and patches meet.
        rotary: From numbers of rows, columns and frames to a rotation, which every block gets; None for learnt positions.
        embed_dim: Size of D.
        depth: Number of blocks.
        patch_size: Side of a patch in pixels.
        image_size: Side in pixels of the frames whose positions are learnt; without effect on rotations, which are there
            for frames of any size and clips of any length.
        num_frames: Frames whose positions are learnt, likewise. A shorter clip takes the first of them.
        in_channels: Channels of the clip.

    Shape:
        (B, in_channels, T, H, W) to (B, D).

    Raises:
        ValueError: If sizes do not fit one another.
    """

    def __init__(
        self,
        block: RotaryBlockFactory,
        rotary: nn.Module | None = None,
        *,
        embed_dim: int = 512,
        depth: int = 12,
        patch_size: int = 16,
        image_size: int = 224,
        num_frames: int = 8,
        in_channels: int = 3,
    ) -> None:
        if patch_size < 1 or image_size < 1 or image_size % patch_size:
            raise ValueError(f"patch_size={patch_size} does not divide image_size={image_size}; give a divisor")
        if depth < 1 or num_frames < 1:
            raise ValueError(f"depth={depth} and num_frames={num_frames}: give at least 1 of each")
        super().__init__(in_channels, embed_dim, patch_size)
        self.side, self.num_frames = image_size // patch_size, num_frames
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.rotary = rotary
        self.pos_emb = nn.Embedding(1 + num_frames * self.side**2, embed_dim) if rotary is None else None
        self.blocks = nn.ModuleList(block(embed_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim)

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
                every clip is none.
            keep: Gets the attention weights of every block (`RotaryBlock`); they are not formed otherwise.

        Raises:
            ValueError: If frames are no whole number of patches, no positions are learnt for them, or the mask is of
                another shape or hides a whole clip.
        """
        if frame_mask is not None:
            check_frame_mask(frame_mask, clip)
        tokens = self.embed(clip)
        rotation = None if self.rotary is None else self.rotary(*tokens.patches.shape[1:4])
        for block in self.blocks:
            maps: AttentionMaps | None = None if keep is None else {}
            tokens = block(tokens, rotation, frame_mask, maps)
            if keep is not None and maps is not None:
                keep.append(maps)
        return self.norm(tokens.classes[:, 0])

    def embed(self, clip: Float[Tensor, "B C T H W"]) -> ClipTokens:
        """The tokens in front of the first block."""
        patches = self.patches_of(clip)
        classes = self.cls_token
        if self.pos_emb is not None:
            of_class, of_patches = self._positions(self.pos_emb, *patches.shape[1:4])
            classes, patches = classes + of_class, patches + of_patches
        return ClipTokens(classes.expand(clip.shape[0], -1, -1), patches.contiguous())

    def _positions(self, table: nn.Embedding, height: int, width: int, num_frames: int) -> tuple[Tensor, Tensor]:
        """Of the class token, and of patches as (h, w, T, D); the table has them frame by frame."""
        if num_frames > self.num_frames or (height, width) != (self.side, self.side):
            raise ValueError(
                f"positions were learnt for {self.num_frames} frames of {self.side} x {self.side} patches and {num_frames} of "
                f"{height} x {width} came; give clips of that size, or build the network with rotary=True, which has positions "
                "for any"
            )
        learnt = table(torch.arange(table.num_embeddings, device=table.weight.device))
        frames = learnt[1:].unflatten(0, (self.num_frames, self.side, self.side))
        return learnt[:1], rearrange(frames[:num_frames], "t h w d -> h w t d")
