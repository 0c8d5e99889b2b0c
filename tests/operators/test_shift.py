"""The temporal shift against its equation, and what it refuses."""

import pytest
import torch

from kinema.operators.shift import TemporalShift
from kinema.testing import assert_equal_to_literal


def literal_two_way(fold):
    """The equation, number by number: the first channels take the next frame, the following ones the last."""

    def shift(x):
        y = torch.zeros_like(x)
        _, channels, num_frames, _, _ = x.shape
        for c in range(channels):
            for t in range(num_frames):
                source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
                if 0 <= source < num_frames:
                    y[:, c, t] = x[:, c, source]
        return y

    return shift


def literal_causal(fold):
    def shift(x):
        y = torch.zeros_like(x)
        _, channels, num_frames, _, _ = x.shape
        for c in range(channels):
            for t in range(num_frames):
                source = t - 1 if c < fold else t
                if source >= 0:
                    y[:, c, t] = x[:, c, source]
        return y

    return shift


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize(("fraction", "shift_div"), [(1 / 8, 16), (1 / 4, 8), (1 / 2, 4), (1, 2)])
@pytest.mark.parametrize("channels", [16, 24, 39])
def test_two_way_shift_equals_the_equation(channels, fraction, shift_div, num_frames):
    clip = torch.randn(2, channels, num_frames, 3, 2)
    assert_equal_to_literal(TemporalShift(channels, fraction=fraction), literal_two_way(channels // shift_div), clip)


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize(("fraction", "fold"), [(1 / 8, 1), (1 / 4, 2), (1 / 2, 4), (1, 8)])
def test_causal_shift_equals_the_equation(fraction, fold, num_frames):
    clip = torch.randn(2, 16, num_frames, 3, 2)
    assert_equal_to_literal(TemporalShift(16, fraction=fraction, causal=True), literal_causal(fold), clip)


def test_by_default_an_eighth_of_the_channels_moves_each_way():
    assert TemporalShift(64).fold == 64 // 8
    assert TemporalShift(64, causal=True).fold == 64 // 8


@pytest.mark.parametrize(
    ("channels", "fraction", "fold"), [(180, 0.7, 63), (340, 0.7, 119), (9, 2 / 3, 3), (20, 0.3, 3)]
)
def test_a_fraction_that_is_no_power_of_two_loses_no_channel_to_rounding(channels, fraction, fold):
    assert TemporalShift(channels, fraction=fraction).fold == fold


def test_one_frame_loses_the_moved_channels():
    frame = torch.randn(1, 16, 1, 2, 2)
    shifted = TemporalShift(16)(frame)
    assert not shifted[:, :4].any()
    assert torch.equal(shifted[:, 4:], frame[:, 4:])


@pytest.mark.parametrize("causal", [False, True])
def test_the_input_is_left_alone(causal):
    clip = torch.randn(1, 16, 4, 2, 2)
    before = clip.clone()
    TemporalShift(16, causal=causal)(clip)
    assert torch.equal(clip, before)


def test_memory_order_of_folded_frames_is_kept():
    """A backbone's clips are views of folded frames; folding the result again must not copy it."""
    clip = torch.randn(2, 3, 16, 4, 4).transpose(1, 2)
    shifted = TemporalShift(16)(clip)
    assert shifted.transpose(1, 2).is_contiguous()


def test_a_shift_that_moves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"fraction=0.25 moves no channel of channels=3; give fraction >= 0.6667"):
        TemporalShift(3)
    with pytest.raises(ValueError, match=r"fraction=0 moves no channel .* leave the shift out"):
        TemporalShift(64, fraction=0)


@pytest.mark.parametrize("fraction", [-0.25, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="no share of the channels"):
        TemporalShift(64, fraction=fraction)


def test_folded_frames_are_refused():
    """They would run, and shift image rows."""
    with pytest.raises(ValueError, match=r"expected a clip \(B, C, T, H, W\) with 5 axes"):
        TemporalShift(16)(torch.randn(8, 16, 7, 7))


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="expected 16 channels on axis 1"):
        TemporalShift(16)(torch.randn(1, 8, 16, 7, 7))


def test_a_two_way_shift_has_no_stream():
    with pytest.raises(ValueError, match="needs the next frame"):
        TemporalShift(16).init_state(torch.randn(1, 16, 2, 2))
