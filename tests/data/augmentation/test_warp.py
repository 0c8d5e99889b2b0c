"""Bicubic resampling as sums of whole pixels against torch's own, place by place."""

import math

import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from kinema.data.augmentation.warp import _taps, warp

HEIGHT, WIDTH = 22, 31


def grid_sampled(frames, matrix):
    """Torch's, in the precision of coordinates that ours are computed in."""
    a, b, c, d, e, f = matrix
    theta = [
        [a, b * HEIGHT / WIDTH, a - 1 + b * HEIGHT / WIDTH + 2 * c / WIDTH],
        [d * WIDTH / HEIGHT, e, e - 1 + d * WIDTH / HEIGHT + 2 * f / HEIGHT],
    ]
    grid = affine_grid(torch.tensor([theta], dtype=torch.float64), [1, 1, HEIGHT, WIDTH], align_corners=False)
    picture = frames.reshape(1, -1, HEIGHT, WIDTH).double() - 128
    moved = grid_sample(picture, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return (moved + 128).clamp(0, 255).reshape(frames.shape)


cosine, sine = math.cos(0.4), math.sin(0.4)
MATRICES = {
    "rotate": (cosine, -sine, 5.1, sine, cosine, -4.3),
    "shear_x": (1, 0.27, 0.4, 0, 1, 0),
    "shear_y": (1, 0, 0, -0.3, 1, 0.7),
    "translate_x": (1, 0, -6.6, 0, 1, 0),
    "translate_y": (1, 0, 0, 0, 1, 3.3),
    "both": (1.1, 0.2, -3.3, 0.1, 0.9, 2.2),
    "whole": (1, 0, 4, 0, 1, -3),
    "far": (1, 0, 100.5, 0, 1, 0),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_bicubic_is_that_of_torch(name, channels_last):
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    given = frames.contiguous(memory_format=torch.channels_last) if channels_last else frames
    found, wanted = warp(given, MATRICES[name], "bicubic"), grid_sampled(frames, MATRICES[name])
    assert found.shape == frames.shape and found.dtype == torch.uint8
    assert (found - wanted).abs().max() <= 0.5 + 1e-3
    assert torch.equal(given, frames)


def test_along_one_axis_four_pixels_are_weighed_and_none_between_whole_ones():
    place = torch.arange(5, dtype=torch.float64)[:, None].expand(5, 2)
    pixels, weights = _taps(place + 0.25, 5)
    assert pixels.shape == (5, 2, 4) and pixels[0, 0].tolist() == [0, 0, 1, 2]
    torch.testing.assert_close(weights[2, 0], torch.tensor([-0.10546875, 0.87890625, 0.26171875, -0.03515625]))
    assert weights[0, 0, 0] == 0 and weights[4, 0].tolist()[2:] == [0, 0]
    pixels, weights = _taps(place + 1 + 1e-9, 5)
    assert pixels.shape == (5, 2, 1) and weights[:, 0, 0].tolist() == [1, 1, 1, 1, 0]
