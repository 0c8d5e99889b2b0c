"""The shift and the convolution behind it in one, against one after the other."""

import pytest
import torch
from torch.nn import functional as F

from kinema.operators.protocol import PointwiseMixer
from kinema.operators.shift import TemporalShift
from kinema.shapes import fold_time, unfold_time

SHIFTS = [TemporalShift(8, fraction=f, causal=c) for f in (1 / 4, 1 / 2, 1) for c in (False, True)]


def one_after_the_other(shift, x, weight):
    return unfold_time(F.conv2d(fold_time(shift(x)), weight), x.shape[2])


def folded_view(*shape):
    """A clip as a backbone hands it over: a view of frames side by side."""
    return torch.randn(*shape, dtype=torch.float64).transpose(1, 2)


@pytest.fixture
def weight():
    return torch.randn(5, 8, 1, 1, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
@pytest.mark.parametrize(("batch", "num_frames"), [(1, 1), (1, 2), (3, 1), (2, 5)])
def test_equals_one_after_the_other(shift, batch, num_frames, weight):
    assert isinstance(shift, PointwiseMixer)
    x = folded_view(batch, num_frames, 8, 3, 4)
    torch.testing.assert_close(shift.then_pointwise(x, weight), one_after_the_other(shift, x, weight))


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
@pytest.mark.parametrize(("batch", "num_frames"), [(1, 1), (2, 3)])
def test_gradients_are_exact_and_have_gradients(shift, batch, num_frames, weight):
    x = folded_view(batch, num_frames, 8, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(shift.then_pointwise, (x, weight))
    assert torch.autograd.gradgradcheck(shift.then_pointwise, (x, weight))
    assert torch.autograd.gradgradcheck(shift, (x,))


@pytest.mark.parametrize("frozen", ["clip", "weight"])
def test_what_is_frozen_gets_no_gradient(frozen, weight):
    x = folded_view(2, 3, 8, 2, 2).requires_grad_()
    (x if frozen == "clip" else weight).requires_grad_(False)
    SHIFTS[0].then_pointwise(x, weight).sum().backward()
    assert (x.grad is None) == (frozen == "clip")
    assert (weight.grad is None) == (frozen == "weight")


def test_nothing_is_kept_for_the_gradient_but_what_is_there_already(weight):
    """The point of it all: a shifted copy for each of 16 blocks is a fifth of the memory that training takes."""
    x = folded_view(2, 4, 8, 6, 6).requires_grad_()
    kept = []

    def pack(tensor):
        kept.append(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        SHIFTS[0].then_pointwise(x, weight)
    assert set(kept) <= {x.untyped_storage().data_ptr(), weight.untyped_storage().data_ptr()}


def test_folded_frames_are_refused(weight):
    with pytest.raises(ValueError, match="with 5 axes"):
        SHIFTS[0].then_pointwise(torch.randn(4, 8, 6, 6), weight)
