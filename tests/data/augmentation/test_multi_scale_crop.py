"""TSM's boxes: which sizes, which places, and what comes of a box."""

from collections import Counter

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from kinema.data.augmentation.multi_scale_crop import MultiScaleCrop


@pytest.fixture
def boxes(monkeypatch):
    """Record (left, top, width, height) of every crop."""
    seen, cut = [], F.resized_crop

    def resized_crop(frames, top, left, height, width, size, antialias):
        seen.append((left, top, width, height))
        return cut(frames, top, left, height, width, size, antialias=antialias)

    monkeypatch.setattr(F, "resized_crop", resized_crop)
    return seen


def drawn(crop, frames, times):
    torch.manual_seed(0)
    for _ in range(times):
        assert crop(frames).shape == (2, 3, crop.size, crop.size)


@pytest.mark.parametrize("shape", [(100, 160), (160, 100)])
def test_sizes_are_shares_of_the_short_side_that_differ_by_one_step(boxes, shape):
    drawn(MultiScaleCrop(32), torch.zeros(2, 3, *shape, dtype=torch.uint8), 2000)
    sides = [100, 87, 75, 66]
    wanted = {(sides[a], sides[b]) for a in range(4) for b in range(4) if abs(a - b) <= 1}
    counts = Counter((width, height) for _, _, width, height in boxes)
    assert set(counts) == wanted and min(counts.values()) > 140


def test_places_are_thirteen_in_quarters_of_the_free_space(boxes):
    drawn(MultiScaleCrop(32, scales=(0.5,)), torch.zeros(2, 3, 100, 161, dtype=torch.uint8), 2000)
    right, down = 111 // 4, 50 // 4  # 27, 12: the far corner is (108, 48), not (111, 50)
    quarters = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    counts = Counter((left, top) for left, top, _, _ in boxes)
    assert set(counts) == {(x * right, y * down) for x, y in quarters} and min(counts.values()) > 110


@pytest.mark.parametrize(("short", "side"), [(29, 29), (30, 32), (32, 32), (34, 32), (35, 35)])
def test_a_side_within_three_pixels_becomes_the_wanted_one(boxes, short, side):
    drawn(MultiScaleCrop(32, scales=(1.0,)), torch.zeros(2, 3, short, 50, dtype=torch.uint8), 1)
    assert boxes[0][2:] == (side, side)


def test_a_box_of_the_wanted_size_is_not_resampled(boxes):
    frames = torch.randint(0, 256, (2, 3, 40, 60), dtype=torch.uint8)
    torch.manual_seed(1)
    out = MultiScaleCrop(39, scales=(1.0,), max_step=0)(frames)  # 40 is within 3 of 39
    left, top, width, height = boxes[0]
    assert (width, height) == (39, 39)
    assert torch.equal(out, frames[..., top : top + 39, left : left + 39])


def test_scales_that_are_no_shares_are_refused():
    with pytest.raises(ValueError, match=r"shares of the short side in \(0, 1\], got \[1.2\]"):
        MultiScaleCrop(32, scales=(1.2,))
