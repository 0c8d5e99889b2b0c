"""Holes: where a frame-wise network hands its features to a temporal operator.

A backbone folds the frames of all clips into one batch and runs a network from timm on it. An operator works on clips, so a
hole unfolds the batch, calls the operator, and folds the result. It may change the number of frames; the number of clips is
what stays the same from the first layer to the last, so that is what the holes of a backbone share.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from kinema.shapes import fold_time, unfold_time

OperatorFactory = Callable[[int], nn.Module]
Placement = Literal["residual", "in_place"]


class Batch:
    """How many clips the batch of frames now passing through a backbone holds; one object per backbone."""

    def __init__(self) -> None:
        self.num_clips = 0


class Hole(nn.Module):
    """Call an operator on clips from inside a network on frames.

    Args:
        operator: Module from (B, C, T, H, W) to (B, C, T', H, W).
        batch: The backbone's count of clips.
    """

    def __init__(self, operator: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.operator = operator
        self._batch = batch

    def forward(self, frames: Float[Tensor, "BT C H W"]) -> Float[Tensor, "BT C H W"]:
        num_clips = self._batch.num_clips
        if num_clips == 0:
            raise RuntimeError(
                "a layer with a temporal operator was called outside its backbone; call the backbone on a clip"
            )
        return fold_time(self.operator(unfold_time(frames, frames.shape[0] // num_clips)))


@dataclass(frozen=True)
class Site:
    """One residual block of a trunk: where it hangs, and its number of channels before and after.

    Args:
        stage: The stage that holds the block.
        index: Position of the block in `stage`.
        name: Name of the block as in the trunk's state dict, such as "layer2.0".
        entry: Name of the convolution that opens the residual branch.
        mixes: Whether a mixer may stand here.
    """

    stage: nn.Sequential
    index: int
    name: str
    entry: str
    in_channels: int
    out_channels: int
    mixes: bool = True


def open_holes(
    sites: list[Site],
    batch: Batch,
    *,
    mixer: OperatorFactory | None,
    placement: Placement,
    mixer_every: int,
    after_block: Mapping[str, OperatorFactory],
) -> None:
    """Put operators into the blocks of a trunk.

    Placement as in Lin, Gan and Han 2019, section 4: "residual" puts the mixer before the first convolution of the residual
    branch, so the identity path keeps the frame as it was; "in_place" puts it before the whole block.

    Args:
        sites: The blocks, stage by stage, in order.
        batch: Shared count of clips.
        mixer: Builds the mixer of one block from its input channels; None for none.
        placement: Where in the block the mixer stands.
        mixer_every: Blocks from one mixer to the next, counted anew in each stage; at least 1.
        after_block: Block name to a factory of an operator that follows the block, given its output channels.

    Raises:
        ValueError: On another placement, a step below 1, or the name of a block that is not there.
    """
    if placement not in ("residual", "in_place"):
        raise ValueError(f"placement={placement!r} is unknown; give 'residual' or 'in_place'")
    if mixer_every < 1:
        raise ValueError(f"mixer_every={mixer_every} is no number of blocks; give 1 for a mixer in every block")
    if unknown := sorted(set(after_block) - {site.name for site in sites}):
        raise ValueError(f"no block is named {unknown}; the blocks are {[site.name for site in sites]}")
    for site in sites:
        block = site.stage[site.index]
        parts: OrderedDict[str, nn.Module] = OrderedDict(block=block)
        if mixer is not None and site.mixes and site.index % mixer_every == 0:
            hole = Hole(mixer(site.in_channels), batch)
            if placement == "residual":
                setattr(block, site.entry, nn.Sequential(OrderedDict(mixer=hole, conv=getattr(block, site.entry))))
            else:
                parts = OrderedDict(mixer=hole, block=block)
        if site.name in after_block:
            parts["after"] = Hole(after_block[site.name](site.out_channels), batch)
        if len(parts) > 1:
            site.stage[site.index] = nn.Sequential(parts)
