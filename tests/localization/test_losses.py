"""What losses do at the edges; their values are compared with the authors' in tests/parity."""

import math

import pytest
import torch

from kinema.localization.labels import stack_targets, window_targets
from kinema.localization.losses import (
    LossWeights,
    boundary_loss,
    class_loss,
    classification_loss,
    localization_losses,
    offset_loss,
    regression_loss,
)
from kinema.localization.network import BoundaryMaps

T, D = 8, 6


def targets():
    one, other = torch.tensor([[1.0, 4.0], [5.0, 8.0]]), torch.tensor([[2.0, 7.0]])
    return stack_targets([window_targets(segments, T, D) for segments in (one, other)])


def maps(**further):
    generator = torch.Generator().manual_seed(0)
    start, end = torch.rand(2, 2, T, generator=generator, dtype=torch.float64)
    return BoundaryMaps(start, end, torch.rand(2, 2, D, T, generator=generator, dtype=torch.float64), **further)


def test_the_total_is_the_weighted_sum_and_channels_are_not_swapped():
    said, wanted = maps(), targets()
    weights = LossWeights(boundary=2.0, regression=3.0, classification=5.0)
    losses = localization_losses(said, wanted, weights=weights, generator=torch.Generator().manual_seed(1))
    assert losses.total.item() == pytest.approx(
        (2 * losses.boundary + 3 * losses.regression + 5 * losses.classification).item()
    )
    regression = regression_loss(
        said.confidence[:, 0], wanted.iou, wanted.valid, generator=torch.Generator().manual_seed(1)
    )
    assert losses.regression.item() == pytest.approx(regression.item())
    classification = classification_loss(said.confidence[:, 1], wanted.iou, wanted.valid)
    assert losses.classification.item() == pytest.approx(classification.item())


def test_positives_and_negatives_count_as_much():
    target = torch.tensor([[0.9, 0.1, 0.2, 0.5]])
    said = torch.tensor([[0.7, 0.2, 0.4, 0.6]], dtype=torch.float64)
    positive, negative = math.log(0.7), (math.log(0.8) + math.log(0.6) + math.log(0.4)) / 3
    assert boundary_loss(said, target).item() == pytest.approx(-0.5 * (positive + negative), rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_positives_or_negatives_the_loss_stays_finite(value):
    said = torch.full((1, 4), 0.5, requires_grad=True)
    loss = boundary_loss(said, torch.full((1, 4), value))
    loss.backward()
    assert math.isfinite(loss.item()) and loss.item() > 0 and torch.isfinite(said.grad).all()


def test_what_leaves_the_window_does_not_count():
    said, wanted = maps().confidence[:, 0], targets()
    changed = torch.where(wanted.valid, said, 1 - said)
    for loss in (classification_loss, regression_loss):
        values = [
            loss(
                s,
                wanted.iou,
                wanted.valid,
                **({"draws": (torch.ones(2, D, T),) * 2} if loss is regression_loss else {}),
            )
            for s in (said, changed)
        ]
        assert values[0].item() == values[1].item() > 0


def test_about_as_many_middle_and_low_proposals_are_drawn_as_there_are_high_ones():
    iou = torch.cat([torch.full((20,), 0.8), torch.full((400,), 0.5), torch.full((400,), 0.1), torch.zeros(100)])
    iou, valid = iou.reshape(1, 23, 40), torch.ones(1, 23, 40, dtype=torch.bool)
    counts = []
    for seed in range(40):
        said = torch.zeros_like(iou).requires_grad_()
        regression_loss(said, iou, valid, generator=torch.Generator().manual_seed(seed)).backward()
        used = said.grad.flatten() != 0
        assert used[:20].all() and not used[820:].any()
        counts.append((int(used[20:420].sum()), int(used[420:820].sum())))
    middle, low = torch.tensor(counts, dtype=torch.float64).mean(0).tolist()
    assert middle == pytest.approx(20, abs=3) and low == pytest.approx(20, abs=3)
    once, again, other = (
        regression_loss(iou * 0, iou, valid, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert once.item() == again.item() != other.item()


def test_without_a_high_proposal_the_regression_is_zero_and_differentiable():
    said = torch.rand(1, D, T, requires_grad=True)
    loss = regression_loss(said, torch.full((1, D, T), 0.2), torch.ones(1, D, T, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and said.grad.abs().sum() == 0


def test_heads_learn_from_chosen_proposals_alone():
    chosen = torch.zeros(1, D, T, dtype=torch.bool)
    chosen[0, 2, 3] = chosen[0, 1, 1] = True
    said, wanted = torch.randn(1, 2, D, T), torch.randn(1, 2, D, T)
    error = [torch.nn.functional.smooth_l1_loss(said[0, :, d, s], wanted[0, :, d, s]) for d, s in ((2, 3), (1, 1))]
    assert offset_loss(said, wanted, chosen).item() == pytest.approx(sum(error).item() / 2)
    logits, label = torch.randn(1, 3, D, T), torch.randint(0, 3, (1, D, T))
    each = [-logits[0, :, d, s].log_softmax(0)[label[0, d, s]] for d, s in ((2, 3), (1, 1))]
    assert class_loss(logits, label, chosen).item() == pytest.approx(sum(each).item() / 2)
    assert class_loss(logits, label - 5, ~chosen & False).item() == 0  # nothing chosen, and ids of no class


def test_a_head_without_targets_is_refused():
    with pytest.raises(ValueError, match="no offsets were given"):
        localization_losses(maps(offsets=torch.zeros(2, 2, D, T)), targets())
    with pytest.raises(ValueError, match="1 class heads, and labels of 0"):
        localization_losses(maps(classes=(torch.zeros(2, 3, D, T),)), targets())


def test_in_half_precision_losses_stay_finite():
    said = BoundaryMaps(*(torch.ones_like(part).bfloat16().requires_grad_() for part in maps()[:3]))
    losses = localization_losses(said, targets())
    losses.total.backward()
    assert torch.isfinite(losses.total) and losses.total.dtype == torch.float32
    assert torch.isfinite(said.confidence.grad).all() and losses.boundary > 5
