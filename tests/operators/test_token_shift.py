"""The token shift against a loop over frames and channels, and what padding does to it."""

import pytest
import torch

from kinema.operators.token_shift import TokenShift


def literal(x, valid=None):
    """Channel by channel; what is outside the clip or no frame is zero."""
    batch, _, _, num_frames, dim = x.shape
    y = torch.zeros_like(x)
    third = dim // 3
    for b in range(batch):
        for t in range(num_frames):
            for c in range(dim):
                source = t + 1 if c < third else t - 1 if 2 * third <= c < 3 * third else t
                if 0 <= source < num_frames and (valid is None or valid[b, source]):
                    y[b, :, :, t, c] = x[b, :, :, source, c]
    return y


@pytest.mark.parametrize("dim", [3, 7, 12, 64])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_the_shift_is_a_loop_over_frames_and_channels(dim, num_frames):
    x = torch.randn(2, 3, 2, num_frames, dim)
    assert torch.equal(TokenShift(dim)(x), literal(x))


def test_padding_is_zero_to_its_neighbours():
    x = torch.randn(2, 1, 2, 5, 7)
    valid = torch.tensor([[True, True, False, True, False], [True] * 5])
    assert torch.equal(TokenShift(7)(x, valid), literal(x, valid))


def test_it_copies_and_leaves_its_input_alone():
    x = torch.randn(1, 1, 1, 3, 6)
    before = x.clone()
    TokenShift(6)(x, torch.tensor([[True, False, True]])).zero_()
    assert torch.equal(x, before)


def test_channels_too_few_for_thirds_are_refused():
    with pytest.raises(ValueError, match="thirds of the channels and dim=2 has none; give at least 3"):
        TokenShift(2)
