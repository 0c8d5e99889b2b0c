"""Soft-NMS of many videos against a plain double loop."""

import numpy as np
import pytest

from kinema.benchmarks.localization import loop_soft_nms
from kinema.localization.soft_nms import soft_nms


def proposals(videos, count, seed=0):
    draws = np.random.default_rng(seed)
    start = draws.uniform(0, 0.7, (videos, count))
    return start, start + draws.uniform(0.02, 0.3, start.shape), draws.random(start.shape)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.9, "low": 0.0, "high": 0.0}, {"low": 0.5, "high": 0.6}])
def test_it_is_the_loop(options):
    start, end, score = proposals(5, 17)
    kept = soft_nms(start, end, score, keep=17, **options)
    for video in range(5):
        wanted = loop_soft_nms(list(zip(start[video], end[video], score[video], strict=True)), **options)
        got = np.stack([start[video], end[video]], 1)[kept.index[video]]
        np.testing.assert_allclose(np.column_stack([got, kept.score[video]]), wanted, rtol=1e-12)


def test_scores_fall_only_with_overlap_and_nothing_is_lost():
    start, end, score = proposals(3, 12)
    kept = soft_nms(start, end, score, keep=50)
    assert kept.index.shape == (3, 12) and (np.sort(kept.index, 1) == np.arange(12)).all()
    assert (np.diff(kept.score, axis=1) <= 0).all() and (kept.score <= np.take_along_axis(score, kept.index, 1)).all()
    apart = np.arange(12)[None] / 12
    assert np.array_equal(soft_nms(apart, apart + 0.05, score[:1], keep=12).score, -np.sort(-score[:1], 1))


def test_videos_of_fewer_proposals_are_filled_up():
    start, end, score = proposals(2, 6)
    score[1, 2:] = -np.inf
    kept = soft_nms(start, end, score, keep=4)
    assert (kept.index[1] >= 0).tolist() == [True, True, False, False] and kept.score[1, 2] == -np.inf
    alone = soft_nms(start[1:, :2], end[1:, :2], score[1:, :2], keep=4)
    assert np.array_equal(kept.score[1, :2], alone.score[0])


def test_input_stays_as_it_is_and_strange_scores_are_refused():
    start, end, score = proposals(1, 5)
    copy = score.copy()
    soft_nms(start, end, score, keep=5)
    assert np.array_equal(score, copy)
    score[0, 3] = np.nan
    with pytest.raises(ValueError, match="1 of 5 scores are NaN"):
        soft_nms(start, end, score, keep=5)
    with pytest.raises(ValueError, match=r"one \(videos, proposals\) was"):
        soft_nms(start[0], end[0], copy[0], keep=5)
