"""Temporal max pooling against its equation."""

import pytest
import torch

from kinema.operators.temporal_pool import TemporalMaxPool
from kinema.testing import assert_equal_to_literal


def literal(x):
    num_frames = x.shape[2]
    kept = []
    for t in range(0, num_frames, 2):
        neighbours = [x[:, :, s] for s in (t - 1, t, t + 1) if 0 <= s < num_frames]
        kept.append(torch.stack(neighbours).amax(dim=0))
    return torch.stack(kept, dim=2)


@pytest.mark.parametrize("num_frames", [1, 2, 5, 8])
def test_equals_the_equation(num_frames):
    """All values negative: a pool that pads with zeros would let zeros win at the ends."""
    clip = -torch.rand(2, 3, num_frames, 4, 4) - 1
    assert_equal_to_literal(TemporalMaxPool(), literal, clip)


def test_folded_frames_are_refused():
    with pytest.raises(ValueError, match="with 5 axes"):
        TemporalMaxPool()(torch.randn(8, 3, 6, 6))
