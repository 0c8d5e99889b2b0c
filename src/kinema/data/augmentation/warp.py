"""Frames moved by an affine map, all in the same way."""

from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, embedding_bag, grid_sample

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Frames = UInt8[Tensor, "T C H W"]
Matrix = tuple[float, float, float, float, float, float]

_GRAY = 128.0
_A = -0.75  # of the cubic kernel, as in torch; PIL has -0.5


def warp(frames: Frames, matrix: Matrix, interpolation: Interpolation) -> Frames:
    """Take the pixel at (x, y) from (a x + b y + c, d x + e y + f), the same in all frames.

    Coordinates are in pixels from the top left corner of the frame, pixel centres at halves, as in PIL. What comes from
    outside the frame is gray (128), blended with the border over half a pixel. Bicubic is torch's, with A = -0.75; PIL's
    has -0.5.
    """
    if interpolation == "bicubic":
        return _bicubic(frames, matrix)
    a, b, c, d, e, f = matrix
    height, width = frames.shape[-2:]
    # grid_sample counts from -1 to 1 from edge to edge.
    theta = torch.tensor(
        [
            [a, b * height / width, a - 1 + b * height / width + 2 * c / width],
            [d * width / height, e, e - 1 + d * width / height + 2 * f / height],
        ]
    )
    # All frames as channels of one picture: the places to look at are then computed once, and not once a frame.
    picture = frames.reshape(1, -1, height, width).float().sub_(_GRAY)
    grid = affine_grid(theta[None], [1, 1, height, width], align_corners=False)
    moved = grid_sample(picture, grid, mode=interpolation, padding_mode="zeros", align_corners=False)
    return _as_bytes(moved).reshape(frames.shape)


def _bicubic(frames: Frames, matrix: Matrix) -> Frames:
    """What `grid_sample` gives, as sums of whole pixels: all colours of a place, in all frames, are weighed together.

    `grid_sample` picks 16 numbers for each colour of each frame. A shear and a shift along one axis need 4, for on a pixel
    centre the cubic kernel is 1 there and 0 at its neighbours; so what is not between pixels is left out.
    """
    a, b, c, d, e, f = matrix
    frames_, channels, height, width = frames.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    columns, across = _taps(a * x + b * y + c - 0.5, width)
    rows, down = _taps(d * x + e * y + f - 0.5, height)
    index = (rows[..., None] * width + columns[..., None, :]).flatten(2).flatten(0, 1)
    weight = (down[..., None] * across[..., None, :]).flatten(2).flatten(0, 1)
    pixels = frames.permute(2, 3, 0, 1).reshape(height * width, -1).float().sub_(_GRAY)
    moved = _as_bytes(embedding_bag(index, pixels, mode="sum", per_sample_weights=weight))
    return moved.reshape(height, width, frames_, channels).permute(2, 3, 0, 1)


def _taps(place: Float[Tensor, "H W"], length: int) -> tuple[Int[Tensor, "H W taps"], Float[Tensor, "H W taps"]]:
    """Which pixels of an axis make up a place on it, and how much of each; 0 of those beyond its ends."""
    # Sums of exact numbers are off by a rounding; a thousandth of a thousandth of a pixel changes no byte.
    whole = place.round()
    place = torch.where((place - whole).abs() < 1e-6, whole, place)
    first = place.floor()
    t = (place - first).float()
    pixels = first.int()[..., None]
    if t.any():
        pixels = pixels + torch.arange(-1, 3, dtype=torch.int32)
        weights = torch.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)], dim=-1)
    else:
        weights = torch.ones_like(t)[..., None]
    inside = (pixels >= 0) & (pixels < length)
    return pixels.clamp_(0, length - 1), weights * inside


def _near(t: Tensor) -> Tensor:
    """Cubic convolution within a pixel of the centre (Keys 1981, equation 15)."""
    return ((_A + 2) * t - (_A + 3)) * t * t + 1


def _far(t: Tensor) -> Tensor:
    """Between one and two pixels from it."""
    return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A


def _as_bytes(moved: Tensor) -> Tensor:
    return moved.add_(_GRAY).round_().clamp_(0, 255).to(torch.uint8)
