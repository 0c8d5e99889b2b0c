"""Detection metrics against loops and at their edges; other evaluators' numbers are compared in tests/parity."""

import dataclasses

import numpy as np
import pytest

from kinema.benchmarks.localization import _loop_precision, at_once, in_loops, made_videos
from kinema.evaluation.detection import (
    ACTIVITYNET_TIOU,
    EPIC_TIOU,
    Spans,
    action_precision,
    average_precision,
    average_recall,
    detection_summary,
    tadaconv_action_precision,
)


def spans(rows, scored=True):
    table = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    columns = table[:, 0].astype(int), table[:, 1], table[:, 2], table[:, 3].astype(int)
    return Spans(*columns, table[:, 4] if scored else None)


def drawn(seed, videos=6, classes=3):
    draws = np.random.default_rng(seed)

    def some(count):
        start = draws.uniform(0, 8, count)
        return [
            draws.integers(0, videos, count),
            start,
            start + draws.uniform(0.5, 4, count),
            draws.integers(0, classes, count),
        ]

    return Spans(*some(20)), Spans(*some(90), draws.random(90))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_loops(seed):
    truth, found = drawn(seed)
    tiou = (0.2, 0.5, 0.7)
    got = average_precision(truth, found, tiou)
    segments = {}
    for video, label, start, end in zip(truth.video, truth.label, truth.start, truth.end, strict=True):
        segments.setdefault((video, label), []).append((start, end))
    for column, label in enumerate(got.classes):
        rows = zip(found.score, found.video, found.start, found.end, found.label, strict=True)
        mine = sorted((row[:4] for row in rows if row[4] == label), key=lambda row: -row[0])
        for line, threshold in enumerate(tiou):
            wanted = _loop_precision(mine, segments, label, int((truth.label == label).sum()), threshold)
            assert got.values[line, column] == pytest.approx(wanted)
    assert got.average == pytest.approx(got.values.mean())
    assert detection_summary(got)["mAP@0.50"] == pytest.approx(got.values[1].mean())


def test_both_ways_of_the_benchmark_agree():
    made = made_videos(6, 12, 4)
    assert at_once(made) == pytest.approx(in_loops(made), rel=1e-12) and 0.05 < at_once(made) < 0.95


def test_order_of_equal_scores_is_the_order_given():
    truth = spans([[0, 0, 1, 0]], scored=False)
    right, wrong = [0, 0, 1, 0, 0.5], [0, 5, 6, 0, 0.5]
    assert average_precision(truth, spans([right, wrong])).average == 1
    assert average_precision(truth, spans([wrong, right])).average == 0.5


def test_a_segment_is_found_once_and_twice_only_if_annotated_twice():
    one = [0, 0, 1, 0]
    found = spans([[*one, 0.9], [*one, 0.8], [1, 0, 1, 0, 0.7]])
    values = [
        average_precision(spans(truth, scored=False), found).average
        for truth in ([one], [one, one], [one, [1, *one[1:]]])
    ]
    assert values == pytest.approx([1, 1, (1 + 2 / 3) / 2])


def test_what_is_taken_falls_through_to_the_next_best_segment():
    truth = spans([[0, 0, 10, 0], [0, 1, 11, 0]], scored=False)
    found = spans([[0, 0, 10, 0, 0.9], [0, 0, 10, 0, 0.8]])  # the second overlaps with [1, 11] by 9 / 11
    got = average_precision(truth, found, (0.5, 0.9))
    assert got.values[:, 0].tolist() == [1, 0.5]


def test_an_overlap_of_exactly_the_threshold_is_right():
    truth, found = spans([[0, 0, 2, 0]], scored=False), spans([[0, 0, 1, 0, 0.5]])
    assert average_precision(truth, found, (0.5, 0.51)).values[:, 0].tolist() == [1, 0]


def test_videos_without_detections_and_without_segments():
    truth = spans([[0, 0, 1, 0], [1, 0, 1, 1]], scored=False)
    nothing = Spans(*(np.zeros(0, dtype=kind) for kind in (int, float, float, int, float)))
    assert average_precision(truth, nothing).values.tolist() == [[0, 0]] * len(ACTIVITYNET_TIOU)
    good, elsewhere, of_no_class = [0, 0, 1, 0, 0.5], [2, 0, 1, 0, 0.9], [0, 0, 1, 7, 0.9]
    got = average_precision(truth, spans([good, elsewhere, of_no_class]), (0.5,))
    assert got.classes.tolist() == [0, 1] and got.values.tolist() == [[0.5, 0]]
    with pytest.raises(ValueError, match="nothing was annotated"):
        average_precision(nothing, spans([good]))
    with pytest.raises(ValueError, match="nothing was annotated"):
        average_recall(nothing, spans([good]))


def test_segments_of_no_length_overlap_with_nothing():
    truth = spans([[0, 1, 2, 0]], scored=False)
    assert average_precision(truth, spans([[0, 1, 1, 0, 0.5]]), (0.1,)).average == 0
    assert average_precision(spans([[0, 1, 1, 0]], scored=False), spans([[0, 1, 1, 0, 0.5]]), (0.1,)).average == 0


def test_columns_may_be_lists():
    truth = Spans([0, 0], [1, 5], [2, 6], [0, 1])
    found = Spans([0, 0], [1.0, 5.0], [2.0, 6.0], [0, 1], [0.5, 0.9])
    assert (
        average_precision(truth, found).average == 1
        and average_precision(truth, Spans([], [], [], [], [])).average == 0
    )
    with pytest.raises(ValueError, match="before it starts"):
        Spans([0], [2], [1], [0])


def test_strange_numbers_are_refused():
    with pytest.raises(ValueError, match=r"1 of 2 values of 'score' are NaN, the first of stretch 1 \(video 3\)"):
        spans([[0, 0, 1, 0, 0.5], [3, 0, 1, 0, np.nan]])
    with pytest.raises(ValueError, match=r"stretch 0 \(video 0\) ends at 1.0 s, before"):
        spans([[0, 2, 1, 0, 0.5]])
    with pytest.raises(ValueError, match="one length was expected"):
        Spans(np.zeros(2, int), np.zeros(2), np.zeros(3), np.zeros(2, int))
    truth = spans([[0, 0, 1, 0]], scored=False)
    with pytest.raises(ValueError, match="have no scores"):
        average_precision(truth, truth)
    with pytest.raises(ValueError, match="have no scores"):
        average_recall(truth, truth)


@pytest.mark.parametrize(
    "row, text",
    [
        # With three classes, label -1 of video 3 had the number of class 2 of video 2.
        (
            [3, 0, 1, -1, 0.5],
            r"1 of 2 stretches have a label that is none, the first is stretch 1 \(video 3\) with -1; number",
        ),
        ([-1, 0, 1, 2, 0.5], r"have a video that is none, the first is stretch 1 \(video -1\) with -1"),
        ([3, 0, 1, 2**31, 0.5], r"with 2147483648; number them from 0 to 2147483647"),
    ],
)
def test_numbers_that_are_no_ids_are_refused(row, text):
    with pytest.raises(ValueError, match=text):
        spans([[2, 0, 1, 2, 0.9], row])
    with pytest.raises(ValueError, match=r"stretch 0 \(video 1\) with \[0, -1\]"):
        Spans([1], [0], [1], [[0, -1]])
    far = Spans([0], [0.0], [1.0], [[2**31 - 1] * 3], [0.5])
    with pytest.raises(ValueError, match="too many combinations to be numbered"):
        action_precision(far, far, ("verb", "noun", "place"))


def of_tasks(rows, scores=None):
    table = np.array(rows, dtype=np.float64)
    columns = table[:, 0].astype(int), table[:, 1], table[:, 2], table[:, 3:].astype(int)
    return Spans(*columns, None if scores is None else np.array(scores))


def test_actions_that_are_never_annotated_count_for_verbs_and_nouns_but_not_in_tadaconvs_code():
    truth = of_tasks([[0, 0, 1, 2, 5]])
    found = of_tasks([[0, 5, 6, 2, 6], [0, 0, 1, 2, 5]], [0.9, 0.5])  # a wrong verb 2, with a noun that it never has
    got = {name: part.average for name, part in action_precision(truth, found, tiou=(0.5,)).items()}
    assert got == {"verb": 0.5, "noun": 1, "action": 1}
    got = {name: part.average for name, part in tadaconv_action_precision(truth, found, tiou=(0.5,)).items()}
    assert got == {"verb": 1, "noun": 1, "action": 1}


@pytest.mark.parametrize("seed", range(3))
def test_single_tasks_are_those_of_every_detection(seed):
    (truth, found), draws = drawn(seed), np.random.default_rng(seed)
    truth = dataclasses.replace(truth, label=np.stack([truth.label, draws.integers(0, 4, len(truth))], 1))
    found = dataclasses.replace(found, label=np.stack([found.label, draws.integers(0, 4, len(found))], 1))
    got, theirs = action_precision(truth, found), tadaconv_action_precision(truth, found)
    for task, name in enumerate(("verb", "noun")):
        wanted = average_precision(truth.of_task(task), found.of_task(task), EPIC_TIOU)
        np.testing.assert_array_equal(got[name].values, wanted.values)
        assert (got[name].values != theirs[name].values).any()
    np.testing.assert_array_equal(got["action"].values, theirs["action"].values)


def test_tadaconv_counts_actions_that_are_never_annotated_in_no_task():
    truth = of_tasks([[0, 0, 1, 2, 5], [0, 3, 4, 3, 6]])
    found = of_tasks([[0, 0, 1, 2, 6], [0, 0, 1, 2, 5], [0, 3, 4, 3, 5], [0, 3, 4, 9, 9]], [0.9, 0.8, 0.7, 0.99])
    got = tadaconv_action_precision(truth, found, tiou=(0.5,))
    assert got["verb"].values.tolist() == [[1, 0]] and got["noun"].values.tolist() == [[1, 0]]
    assert got["action"].values.tolist() == [[1, 0]]
    summary = detection_summary(got)
    assert summary["action_average_mAP"] == 0.5 and summary["noun_mAP@0.50"] == 0.5
    with pytest.raises(ValueError, match="a column for each of"):
        action_precision(truth.of_task(0), found)
    with pytest.raises(ValueError, match="a column for each of"):
        action_precision(truth, found, ("verb", "noun", "place"))
    with pytest.raises(ValueError, match="several labels"):
        average_precision(truth, found)


def test_a_verb_of_another_noun_counts_for_the_verb():
    truth = of_tasks([[0, 0, 1, 2, 5], [0, 3, 4, 2, 6]])
    got = action_precision(truth, of_tasks([[0, 0, 1, 2, 6]], [0.9]), tiou=(0.5,))
    assert got["verb"].average == 0.5 and got["noun"].average == got["action"].average == 0


def test_recall_grows_with_proposals_and_counts_each_segment_once():
    truth = spans([[0, 0, 1, 0], [1, 0, 1, 0], [1, 5, 6, 0]], scored=False)
    found = spans([[0, 0, 1, 0, 0.9], [0, 0, 1, 0, 0.8], [1, 5, 6, 0, 0.7], [1, 0, 1, 0, 0.2]])
    recall = average_recall(truth, found, max_proposals=2)
    assert [recall.at(n) for n in (0.5, 1, 2)] == pytest.approx([0, 2 / 3, 1]) and (np.diff(recall.recall) >= 0).all()
    assert recall.auc == pytest.approx(np.trapezoid(recall.recall, recall.proposals) / recall.proposals[-1])


def test_recall_without_proposals_is_zero():
    truth = spans([[0, 0, 1, 0]], scored=False)
    nothing = Spans(*(np.zeros(0, dtype=kind) for kind in (int, float, float, int, float)))
    recall = average_recall(truth, nothing)
    assert recall.at(100) == 0 and recall.auc == 0


def recall_in_loops(truth, found, most, tiou):
    """ActivityNet's rule, literally: recall and proposals per video at each of 100 shares of the proposals retrieved."""
    videos = sorted(set(truth.video.tolist()))
    ratio = most * float(len(videos)) / len(found)
    scores, total = [], 0
    for video in videos:
        proposals = sorted(
            (found.score[i], found.start[i], found.end[i]) for i in np.flatnonzero(found.video == video)
        )[::-1]
        number = min(int(len(proposals) * ratio), len(proposals))
        total += number
        segments = [(truth.start[i], truth.end[i]) for i in np.flatnonzero(truth.video == video)]
        overlaps = np.zeros((len(segments), number))
        for row, (begin, end) in enumerate(segments):
            for column, (_, start, stop) in enumerate(proposals[:number]):
                shared = max(min(end, stop) - max(begin, start), 0)
                overlaps[row, column] = shared / ((end - begin) + (stop - start) - shared)
        scores.append(overlaps)
    shares = np.arange(1, 101) / 100.0 * (most * float(len(videos)) / total)
    recall = np.zeros((len(tiou), 100))
    for line, threshold in enumerate(tiou):
        for column, share in enumerate(shares):
            for overlaps in scores:
                number = min(int(overlaps.shape[1] * share), overlaps.shape[1])
                recall[line, column] += (overlaps >= threshold)[:, :number].any(axis=1).sum()
    return recall.mean(0) / len(truth), shares * (float(total) / len(videos))


@pytest.mark.parametrize(
    "counts",  # nothing is annotated in videos behind the fourth
    [
        *[(50,) * 4, (100,) * 4, (200,) * 4, (400,) * 4, (30, 400, 0, 171), (3, 50, 1, 20)],
        *[(100,) * 8, (50,) * 9, (30, 400, 0, 171, 0, 90)],
    ],
)
def test_average_recall_is_that_of_loops(counts):
    draws, tiou = np.random.default_rng(sum(counts)), (0.5, 0.7, 0.9)

    def some(video):
        start = draws.uniform(0, 20, len(video))
        return video, start, start + draws.uniform(0.5, 10, len(video)), np.zeros(len(video), int)

    truth, found = some(np.arange(4).repeat(8)), some(np.arange(len(counts)).repeat(counts))
    truth, found = Spans(*truth), Spans(*found, draws.random(sum(counts)))
    got = average_recall(truth, found, tiou=tiou)
    recall, proposals = recall_in_loops(truth, found, 100, tiou)
    np.testing.assert_allclose(got.proposals, proposals)
    np.testing.assert_allclose(got.recall, recall)
    assert got.proposals[-1] == pytest.approx(100) and got.at(100) == pytest.approx(recall[-1])


def test_proposals_in_videos_without_segments_alone_are_never_right():
    truth = spans([[0, 0, 1, 0]], scored=False)
    recall = average_recall(truth, spans([[1, 0, 1, 0, 0.5]] * 3))
    assert recall.at(100) == recall.auc == 0 and recall.proposals[-1] == 100
