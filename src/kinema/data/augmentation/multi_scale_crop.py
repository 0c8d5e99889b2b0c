"""Crops of a few fixed sizes at a few fixed places, resized to one size (TSN and TSM)."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

# In quarters of the free space, (right, down): the corners and the centre, the middles of the sides, and the centres of
# the four quarters.
_PLACES = (
    *((0, 0), (4, 0), (0, 4), (4, 4), (2, 2)),
    *((0, 2), (4, 2), (2, 4), (2, 0)),
    *((1, 1), (3, 1), (1, 3), (3, 3)),
)
_SNAP = 3  # a side that differs from the wanted one by less than this many pixels becomes the wanted one


class MultiScaleCrop:
    """Cut a box whose sides are shares of the short side of the frame, and resize it to a square.

    Width and height are drawn together from the pairs of `scales` that stand at most `max_step` apart in the list, and the
    place from 13 (Wang et al. 2016, arXiv:1608.00859, section 3.2, "scale jittering" and "corner cropping"; TSM's sizes).
    All frames get the same box.

    Args:
        size: Side of the square in pixels.
        scales: Shares of the short side, falling. TSM has (1, .875, .75, .66), and for optical flow no .66.
        max_step: How far apart in `scales` width and height may stand; 0 cuts squares alone.
    """

    def __init__(self, size: int, *, scales: Sequence[float] = (1.0, 0.875, 0.75, 0.66), max_step: int = 1) -> None:
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(f"scales are shares of the short side in (0, 1], got {list(scales)}")
        self.size, self.scales, self.max_step = size, tuple(scales), max_step
        steps = range(len(self.scales))
        self._pairs = [(wide, high) for high in steps for wide in steps if abs(wide - high) <= max_step]

    def __call__(self, frames: UInt8[Tensor, "T C H W"]) -> UInt8[Tensor, "T C size size"]:
        """Draw from torch's generator and cut."""
        height, width = frames.shape[-2:]
        sides = [self._side(int(min(height, width) * scale)) for scale in self.scales]
        wide, high = (sides[step] for step in self._pairs[_draw(len(self._pairs))])
        right, down = _PLACES[_draw(len(_PLACES))]
        # The quarter is rounded down first, as in TSM's code: "bottom right" may leave out up to 3 pixels.
        left, top = right * ((width - wide) // 4), down * ((height - high) // 4)
        return F.resized_crop(frames, top, left, high, wide, [self.size, self.size], antialias=True)

    def _side(self, pixels: int) -> int:
        return self.size if abs(pixels - self.size) < _SNAP else pixels


def _draw(count: int) -> int:
    return int(torch.randint(count, ()))
