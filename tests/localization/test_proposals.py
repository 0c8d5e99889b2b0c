"""Maps of windows put together, and proposals against a double loop over bins."""

import numpy as np
import pytest
import torch

from kinema.data.untrimmed.windows import Window
from kinema.localization.network import BoundaryMaps
from kinema.localization.proposals import find_proposals, join_windows
from kinema.localization.sampling import valid_cells

T, D = 6, 4


def maps(count, seed=0, **further):
    draws = torch.Generator().manual_seed(seed)
    start, end = torch.rand(2, count, T, generator=draws)
    return BoundaryMaps(start, end, torch.rand(count, 2, D, T, generator=draws), **further)


def windows(offsets, bin_s=0.5):
    return [Window(offset * bin_s, bin_s, T) for offset in offsets]


@pytest.mark.parametrize("offsets, duration", [([0], 3.0), ([0, 4, 8], 7.0), ([0, 2], 3.9), ([4, 8], 5.2)])
def test_overlapping_windows_are_averaged_over_those_that_see_the_whole_proposal(offsets, duration):
    said = maps(len(offsets))
    joined = join_windows(windows(offsets), said, duration=duration)
    bins = len(joined.start)
    assert bins == min(max(offsets) + T, np.ceil(duration / 0.5))
    for b in range(bins):
        each = [said.start[w, b - o].item() for w, o in enumerate(offsets) if 0 <= b - o < T]
        assert joined.start[b].item() == pytest.approx(np.mean(each) if each else 0)
    for d in range(D):
        for s in range(bins):
            held = [(w, s - o) for w, o in enumerate(offsets) if s - o >= 0 and s - o + d + 1 <= T]
            assert bool(joined.valid[d, s]) == (bool(held) and s + d + 1 <= bins)
            if held:
                wanted = torch.stack([said.confidence[w, :, d, b] for w, b in held]).double().mean(0)
                torch.testing.assert_close(joined.confidence[:, d, s], wanted)


def test_offsets_and_class_probabilities_are_averaged_likewise():
    logits = torch.randn(2, 3, D, T)
    joined = join_windows(windows([0, 2]), maps(2, offsets=torch.randn(2, 2, D, T), classes=(logits,)), duration=4.0)
    assert joined.offsets.shape == (2, D, 8) and joined.classes[0].shape == (3, D, 8)
    wanted = (logits[0, :, 1, 3].double().softmax(0) + logits[1, :, 1, 1].double().softmax(0)) / 2
    torch.testing.assert_close(joined.classes[0][:, 1, 3], wanted)


def literal(joined, threshold, reach_end):
    start, end = joined.start.tolist(), joined.end.tolist()
    bins = len(start)

    def likely(values, b):
        peak = 0 < b < bins - 1 and values[b] > values[b - 1] and values[b] > values[b + 1]
        return peak or values[b] > threshold * max(values)

    found = []
    for d in range(D):
        for s in range(bins):
            e = s + d + 1
            last = e == bins and reach_end
            if e > bins or not joined.valid[d, s] or not (s == 0 or likely(start, s)):
                continue
            if last or (e < bins and (e == bins - 1 or likely(end, e))):
                found.append((s, d + 1, start[s], end[min(e, bins - 1)], *joined.confidence[:, d, s].tolist()))
    return found


@pytest.mark.parametrize("reach_end", [True, False])
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_every_likely_pair_is_proposed(reach_end, threshold):
    for seed in range(6):
        joined = join_windows(windows([0, 4]), maps(2, seed), duration=4.8)
        got = find_proposals(joined, threshold=threshold, reach_end=reach_end)
        wanted = literal(joined, threshold, reach_end)
        columns = (got.first, got.length, got.start_score, got.end_score, got.regressed, got.classified)
        np.testing.assert_allclose(np.stack(columns, 1), wanted)
        np.testing.assert_allclose(got.start, got.first * 0.5)
        np.testing.assert_allclose(got.end, np.minimum((got.first + got.length) * 0.5, 4.8))


def test_the_score_weighs_the_two_overlaps():
    joined = join_windows(windows([0]), maps(1), duration=3.0)
    got = find_proposals(joined)
    np.testing.assert_allclose(got.score(), got.classified**1.2 * got.regressed)
    np.testing.assert_allclose(
        got.score(regression_power=2, classification_power=0.5), got.classified**0.5 * got.regressed**2
    )


def test_maps_without_a_pair_give_no_proposals():
    said = maps(1)
    joined = join_windows(windows([0]), said._replace(start=said.start * 0, end=said.end * 0), duration=3.0)
    joined.start[0], joined.end[1] = 1.0, 0.0
    assert all(first == 0 for first in find_proposals(joined, reach_end=False).first)
    assert len(find_proposals(joined, reach_end=False)) == 0  # from bin 0 the last end lies beyond D = 4 bins
    assert valid_cells(T, D)[3, 2] and not valid_cells(T, D)[3, 3]
