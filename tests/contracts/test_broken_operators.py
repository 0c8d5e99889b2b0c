"""Each law is seen failing on an operator that breaks it; a law that nothing can break tests nothing."""

import pytest
import torch
from torch import nn

from kinema.operators.shift import TemporalShift
from kinema.testing import (
    assert_causal,
    assert_close_in_bfloat16,
    assert_deterministic,
    assert_equal_to_literal,
    assert_exports,
    assert_gradients_are_exact,
    assert_gradients_reach_every_parameter,
    assert_identity,
    assert_order_ignored,
    assert_order_matters,
    assert_streams,
)


class Function(nn.Module):
    """Any function of a clip as an operator."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.fixture
def clip():
    return torch.randn(2, 8, 5, 3, 4)


def right(x):
    """What a two-way shift of fraction 1/4 is on eight channels: one channel each way."""
    return TemporalShift(8)(x)


def with_first_channel(x, frames):
    return torch.cat([frames, x[:, 1:]], dim=1)


WRONG_SHIFTS = {
    "directions swapped": lambda x: right(x[:, [1, 0, *range(2, 8)]])[:, [1, 0, *range(2, 8)]],
    "wraps around": lambda x: torch.cat([x[:, :1].roll(-1, 2), x[:, 1:2].roll(1, 2), x[:, 2:]], dim=1),
    "repeats the border": lambda x: with_first_channel(right(x), torch.cat([x[:, :1, 1:], x[:, :1, -1:]], dim=2)),
    "two frames far": lambda x: with_first_channel(right(x), right(right(x)[:, [0] * 8])[:, :1]),
    "one channel too many": lambda x: torch.cat([TemporalShift(8, fraction=1 / 2)(x)[:, :3], x[:, 3:]], dim=1),
    "shifts rows of pixels": lambda x: right(x.transpose(2, 3)).transpose(2, 3),
    "moves nothing": lambda x: x,
}


@pytest.mark.parametrize("fault", WRONG_SHIFTS)
def test_a_wrong_shift_differs_from_the_equation(fault, clip):
    with pytest.raises(AssertionError, match="differs from the equation by"):
        assert_equal_to_literal(Function(WRONG_SHIFTS[fault]), right, clip)


def test_another_shape_differs_from_the_equation(clip):
    with pytest.raises(AssertionError, match=r"shape \(2, 8, 3, 3, 4\), but the equation gives \(2, 8, 5, 3, 4\)"):
        assert_equal_to_literal(Function(lambda x: x[:, :, ::2]), right, clip)


@pytest.mark.parametrize("leak", [1.0, 1e-6])
def test_a_leak_from_the_future_is_not_causal(leak, clip):
    with pytest.raises(AssertionError, match="output before frame 1 changes with frames from 1 on"):
        assert_causal(Function(lambda x: x + leak * torch.cat([x[:, :, 1:], x[:, :, :1]], dim=2)), clip)


def test_a_mean_over_the_clip_is_not_causal(clip):
    with pytest.raises(AssertionError, match="changes with frames from"):
        assert_causal(Function(lambda x: x - x.mean(dim=2, keepdim=True)), clip)


class ForgetsState(TemporalShift):
    def step(self, frame, state):
        return super().step(frame, state)[0], state


class KeepsShiftedFrame(TemporalShift):
    """The state must be the frame as it came in, not what the shift made of it."""

    def step(self, frame, state):
        output, _ = super().step(frame, state)
        return output, output[:, : self.fold]


class StartsWithFirstFrame(TemporalShift):
    def init_state(self, frame):
        return frame[:, : self.fold]


@pytest.mark.parametrize("broken", [ForgetsState, KeepsShiftedFrame, StartsWithFirstFrame])
def test_a_wrong_state_does_not_stream(broken, clip):
    with pytest.raises(AssertionError, match=r"step \d differs from forward"):
        assert_streams(broken(8, causal=True), clip)


@pytest.mark.parametrize("blind", [lambda x: 2 * x, lambda x: x.amax(dim=2, keepdim=True).expand_as(x)])
def test_an_operator_blind_to_order_is_found(blind, clip):
    with pytest.raises(AssertionError, match="frame order is lost"):
        assert_order_matters(Function(blind), clip)


def test_an_operator_that_mixes_frames_is_found(clip):
    with pytest.raises(AssertionError, match="frames are mixed"):
        assert_order_ignored(Function(right), clip)


class Scale(nn.Module):
    def __init__(self, use):
        super().__init__()
        self.used, self.unused = nn.Parameter(torch.ones(8, 1, 1, 1)), nn.Parameter(torch.ones(1))
        self.use = use

    def forward(self, x):
        return self.use(x, self.used, self.unused)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x, used, unused: x * used, r"no gradient reaches \['unused'\]"),
        (lambda x, used, unused: x * used * unused.detach(), r"no gradient reaches \['unused'\]"),
        (lambda x, used, unused: x * used * (0 * unused), r"no gradient reaches \['used', 'unused'\]"),
        (lambda x, used, unused: x[:, :, 1:] * used * unused, r"no gradient reaches frames \[0\] of the clip"),
    ],
)
def test_an_idle_parameter_or_frame_is_found(use, message, clip):
    with pytest.raises(AssertionError, match=message):
        assert_gradients_reach_every_parameter(Scale(use), clip)


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return TemporalShift(8)(x)

    @staticmethod
    def backward(ctx, gradient):
        return TemporalShift(8)(gradient)  # the shift itself, not its opposite


def test_a_wrong_gradient_is_found():
    with pytest.raises(AssertionError, match="not the numerical one"):
        assert_gradients_are_exact(Function(WrongBackward.apply), torch.randn(1, 8, 3, 1, 2))


def test_a_change_of_the_last_bit_is_no_identity(clip):
    assert_identity(Function(lambda x: x), clip)
    with pytest.raises(AssertionError, match="not the input"):
        assert_identity(Function(lambda x: x * (1 + 2e-7)), clip)


@pytest.mark.parametrize(
    ("random", "message"),
    [
        (lambda x: nn.functional.dropout(x, 0.1), "two calls in evaluation mode differ"),
        (lambda x: x - x.mean(dim=0), "a clip alone differs from itself within a batch"),
    ],
)
def test_chance_and_the_neighbours_in_a_batch_are_found(random, message, clip):
    with pytest.raises(AssertionError, match=message):
        assert_deterministic(Function(random), clip)


@pytest.mark.parametrize(
    ("fragile", "message"),
    [
        (lambda x: x.float(), "a bfloat16 module and clip give torch.float32"),
        (lambda x: (x + 1000) - 1000, "bfloat16 differs from float32"),
    ],
)
def test_what_does_not_survive_bfloat16_is_found(fragile, message, clip):
    with pytest.raises(AssertionError, match=message):
        assert_close_in_bfloat16(Function(fragile), clip)


def another_path_in_export(x):
    return x if torch.compiler.is_exporting() else x.roll(1, 2)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Function(lambda x: x.reshape(2 * 8, *x.shape[2:]).reshape(x.shape)), "torch.export does not take the module"),
        (Function(lambda x: x if x.sum() > 0 else -x), "torch.export does not take the module"),
        (Function(another_path_in_export), "the exported graph differs from the module"),
    ],
)
def test_what_does_not_export_is_found(module, message, clip):
    with pytest.raises(AssertionError, match=message):
        assert_exports(module, clip[:1])
