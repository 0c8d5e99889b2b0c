"""Clips whose frames are in another order: what a network scores on them tells how much of time it uses."""

from typing import Literal, get_args

import torch
from jaxtyping import Int, Num
from torch import Tensor

FrameOrder = Literal["shuffled", "reversed", "frozen"]
FRAME_ORDERS: tuple[FrameOrder, ...] = get_args(FrameOrder)


def reorder_frames(
    clip: Num[Tensor, "N C T H W"], order: FrameOrder, video: Int[Tensor, " N"]
) -> Num[Tensor, "N C T H W"]:
    """Put the frames of clips in another order.

    Args:
        clip: Clips.
        order: `shuffled`, each video's by a permutation drawn from its number, never the one that changes nothing;
            `reversed`, the last first; `frozen`, the middle frame (T // 2) in all places.
        video: The number of each clip's video, so that every view of it, in every run, is shuffled in one way.

    Raises:
        ValueError: If the order is unknown.
    """
    num_frames = clip.shape[2]
    if order == "reversed":
        return clip.flip(2)
    if order == "frozen":
        middle = num_frames // 2
        return clip[:, :, middle : middle + 1].expand_as(clip)
    if order != "shuffled":
        raise ValueError(f"the order of frames {order!r} is unknown; give one of {', '.join(FRAME_ORDERS)}")
    shuffled = [one[:, _permutation(num_frames, int(number))] for one, number in zip(clip, video, strict=True)]
    return torch.stack(shuffled)


def _permutation(length: int, seed: int) -> Int[Tensor, " T"]:
    generator = torch.Generator().manual_seed(seed)
    in_order = torch.arange(length)
    drawn = torch.randperm(length, generator=generator)
    while length > 1 and torch.equal(drawn, in_order):
        drawn = torch.randperm(length, generator=generator)
    return drawn
