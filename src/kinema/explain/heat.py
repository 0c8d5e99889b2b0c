"""From maps of a few places to heat on the pixels of a clip."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def heat_on_pixels(maps: Float[Tensor, "B t h w"], size: Sequence[int]) -> Float[Tensor, "B T H W"]:
    """Enlarge non-negative maps to the size of a clip (trilinear), the largest value of each clip one.

    One scale for all frames of a clip, so that its frames can be compared. A map that is zero stays zero.

    Args:
        maps: Of each clip.
        size: T, H and W of the clip.
    """
    large = F.interpolate(maps[:, None].float(), size=tuple(size), mode="trilinear", align_corners=False)[:, 0]
    largest = large.amax(dim=(1, 2, 3), keepdim=True)
    return large / largest.where(largest > 0, 1.0)
