"""Targets of a window against loops over cells and segments."""

import pytest
import torch

from kinema.localization.labels import proposal_labels, proposal_offsets, stack_targets, window_targets

T, D = 9, 6
SEGMENTS = torch.tensor([[1.2, 3.9], [3.5, 8.0], [0.0, 9.0]], dtype=torch.float64)


def overlap(a, b, c, d):
    shared = max(min(b, d) - max(a, c), 0)
    return shared, shared / (b - a + d - c - shared)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_overlaps_and_boundaries_are_those_of_a_loop(count):
    segments = SEGMENTS[:count].tolist()
    found = window_targets(SEGMENTS[:count], T, D)
    for d in range(D):
        for s in range(T):
            each = [overlap(s, s + d + 1, *segment)[1] for segment in segments]
            assert found.iou[d, s].item() == pytest.approx(max(each))
            assert each[found.segment[d, s]] == pytest.approx(max(each))
            assert bool(found.valid[d, s]) == (s + d + 1 <= T)
    for i in range(T):
        for side, labels in ((0, found.start), (1, found.end)):
            shares = [
                overlap(i - 0.5, i + 1.5, segment[side] - 1.5, segment[side] + 1.5)[0] / 2 for segment in segments
            ]
            assert labels[i].item() == pytest.approx(max(shares))


def test_offsets_lead_from_a_proposal_to_its_segment():
    targets = window_targets(SEGMENTS[:2], T, D)
    offsets = proposal_offsets(SEGMENTS[:2], targets)
    for d in range(D):
        for s in range(T):
            start, end = SEGMENTS[targets.segment[d, s]].tolist()
            moved = offsets[:, d, s] * (d + 1) + torch.tensor([s, s + d + 1])
            assert moved.tolist() == pytest.approx([start, end])


def test_labels_are_those_of_the_segment_of_most_overlap():
    targets = window_targets(SEGMENTS, T, D)
    verbs, nouns = proposal_labels(torch.tensor([[4, 7], [5, 8], [6, 9]]), targets)
    assert torch.equal(verbs, targets.segment + 4) and torch.equal(nouns, targets.segment + 7)


def test_a_window_in_which_nothing_happens_has_empty_targets():
    empty = torch.zeros(0, 2, dtype=torch.float64)
    targets = window_targets(empty, T, D)
    assert targets.iou.sum() == targets.start.sum() == targets.end.sum() == 0 and (targets.segment == -1).all()
    assert targets.valid.sum() == sum(T - d for d in range(D))
    assert proposal_offsets(empty, targets).abs().sum() == 0
    assert all((part == -1).all() for part in proposal_labels(torch.zeros(0, 2, dtype=torch.int64), targets))
    both = stack_targets([targets, window_targets(SEGMENTS, T, D)])
    assert both.iou.shape == (2, D, T) and both.start.shape == (2, T)
