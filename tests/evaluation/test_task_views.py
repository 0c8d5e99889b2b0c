"""Verb, noun and action: the numbers of a case small enough to work out by hand, and the ranks of a slow form."""

import csv
import math

import pytest
import torch

from kinema.evaluation.metrics import video_metrics
from kinema.evaluation.score_files import write_task_scores
from kinema.evaluation.task_views import TaskViewScores, combine_averaged, joint_scores, rank_of
from kinema.evaluation.views import IncompleteEvaluationError

SIZES = {"verb": 2, "noun": 3}


def logs(rows):
    return torch.tensor(rows, dtype=torch.float64).clamp(min=1e-30).log()


def collect(verbs, nouns, labels, views=1, decoded=None, **options):
    """Scores of videos whose views have these probabilities, one row a view."""
    count = len(labels)
    scores = TaskViewScores(count, SIZES, **options)
    video = torch.arange(count).repeat_interleave(views)
    scores.add(
        (logs(verbs), logs(nouns)),
        label=torch.tensor(labels).repeat_interleave(views, 0),
        video=video,
        view=torch.arange(views).repeat(count),
        num_views=torch.full_like(video, views),
        decoded=torch.ones_like(video).bool() if decoded is None else torch.tensor(decoded).repeat_interleave(views),
    )
    return scores.compute()


def test_a_case_by_hand():
    # verb       noun             products, by verb              true     above it
    # .6 .4      .5 .3 .2         .30 .18 .12 | .20 .12 .08      (0, 0)   0: verb, noun and action right
    # .6 .4      .5 .3 .2                                        (1, 0)   1: noun right, action second
    # .9 .1      .4 .35 .25       .36 .315 .225 | .04 .035 .025  (0, 2)   2: verb right
    # .9 .1      .4 .35 .25                                      (1, 2)   5: both wrong, action last
    verbs = [[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]]
    nouns = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.4, 0.35, 0.25]]
    videos = collect(verbs, nouns, [(0, 0), (1, 0), (0, 2), (1, 2)])
    assert videos.rank.tolist() == [0, 1, 2, 5] and videos.guesses.tolist() == [[0, 0]] * 4
    assert video_metrics(videos) == {
        "videos": 4,
        "undecodable": 0,
        "top1": 1 / 4,
        "top1_decodable": 1 / 4,
        "top5": 3 / 4,
        "top5_decodable": 3 / 4,
        "fused_top1": 1 / 4,
        "fused_top5": 3 / 4,
        "verb_top1": 2 / 4,
        "verb_top5": 1,
        "noun_top1": 2 / 4,
        "noun_top5": 1,
        "action_top1": 1 / 4,
        "action_top5": 3 / 4,
    }


def test_products_are_taken_in_each_view_and_then_summed():
    # One view says (0, 0), the other (1, 1); the averages make (0, 1) and (1, 0) as likely, the views themselves do not.
    verbs, nouns = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1, 0], [0.05, 0.95, 0]]
    # (0, 0): (.81 + .01) / 2 = .41   (0, 1): (.09 + .19) / 2 = .14   (1, 0): (.09 + .04) / 2 = .065   (1, 1): (.01 + .76) / 2
    # fused: verb .55 .45, noun .475 .525: (0, 1) .28875 is the best, (0, 0) .26125 the second
    videos = collect(verbs, nouns, [(0, 0)], views=2)
    assert videos.rank.tolist() == [0] and videos.guesses.tolist() == [[0, 0]]
    assert videos.fused_rank.tolist() == [1]
    torch.testing.assert_close(videos.tasks["verb"].scores, torch.tensor([[0.55, 0.45]], dtype=torch.float64))
    metrics = video_metrics(videos)
    assert metrics["top1"] == 1 and metrics["fused_top1"] == 0


def test_averaged_logits_become_probabilities_before_they_are_multiplied():
    verbs, nouns = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]
    videos = collect(verbs, nouns, [(0, 1)], views=2, average="logits")
    mean = torch.tensor([[math.log(0.18) / 2, math.log(0.08) / 2]], dtype=torch.float64)
    torch.testing.assert_close(videos.tasks["verb"].scores, mean)
    # verb .18 : .08 -> first; noun .045 : .045 : .0025 -> the first two alike
    assert videos.rank.tolist() == videos.fused_rank.tolist() == [1]
    assert videos.guesses.tolist() == [[0, 0]]


def test_ranks_against_a_slow_form():
    generator = torch.Generator().manual_seed(0)
    verbs, nouns = (torch.randn(50, size, generator=generator).softmax(1).tolist() for size in SIZES.values())
    labels = [(int(a), int(b)) for a, b in zip(torch.arange(10) % 2, torch.arange(10) % 3, strict=True)]
    videos = collect(verbs, nouns, labels, views=5)
    for video, (verb, noun) in enumerate(labels):
        action = {
            (v, n): sum(verbs[row][v] * nouns[row][n] for row in range(5 * video, 5 * video + 5)) / 5
            for v in range(2)
            for n in range(3)
        }
        order = sorted(action, key=action.get, reverse=True)
        assert int(videos.rank[video]) == order.index((verb, noun))
        assert tuple(videos.guesses[video].tolist()) == order[0]


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_averages_alone_give_the_fused_rank(average):
    generator = torch.Generator().manual_seed(1)
    verbs, nouns = (torch.randn(30, size, generator=generator).softmax(1).tolist() for size in SIZES.values())
    labels = [(video % 2, video % 3) for video in range(6)]
    videos = collect(verbs, nouns, labels, views=5, average=average, decoded=[True] * 5 + [False])
    again = combine_averaged(videos.tasks, average=average)
    assert again.rank.tolist() == again.fused_rank.tolist() == videos.fused_rank.tolist()
    assert again.rank[5] == 6


def test_equal_scores_do_not_make_every_label_right():
    videos = collect([[0.5, 0.5]] * 6, [[1 / 3] * 3] * 6, [(v, n) for v in range(2) for n in range(3)])
    assert videos.rank.tolist() == [0, 1, 2, 3, 4, 5]
    assert video_metrics(videos)["top1"] == 1 / 6 and video_metrics(videos)["top5"] == 5 / 6
    assert rank_of(torch.zeros(2, 3), torch.tensor([1, 1])) == 4


def test_undecodable_videos_are_wrong_at_every_rank():
    videos = collect([[0.9, 0.1]] * 2, [[0.9, 0.1, 0]] * 2, [(0, 0), (0, 0)], decoded=[True, False])
    assert videos.rank.tolist() == videos.fused_rank.tolist() == [0, 6]
    metrics = video_metrics(videos)
    assert (metrics["top1"], metrics["top5"], metrics["undecodable"]) == (0.5, 0.5, 1)
    assert metrics["top1_decodable"] == 1 and metrics["verb_top1"] == 0.5
    nothing = video_metrics(collect([[0.9, 0.1]], [[0.9, 0.1, 0]], [(0, 0)], decoded=[False]))
    assert nothing["top1"] == nothing["top1_decodable"] == nothing["fused_top5"] == 0
    few = TaskViewScores(1, {"verb": 2, "noun": 2})  # fewer combinations than guesses
    place, one = torch.tensor([0]), torch.tensor([1])
    keys = {"label": torch.tensor([[1, 1]]), "video": place, "view": place, "num_views": one}
    few.add((torch.zeros(1, 2), torch.zeros(1, 2)), **keys, decoded=torch.tensor([False]))
    assert video_metrics(few.compute())["top5"] == video_metrics(few.compute())["fused_top5"] == 0


def test_three_tasks_multiply_too():
    parts = [torch.rand(4, size, generator=torch.Generator().manual_seed(size)) for size in (2, 3, 4)]
    slow = torch.einsum("va,vb,vc->abc", *parts) / 4
    torch.testing.assert_close(joint_scores(parts), slow)


def test_views_are_deduplicated_and_must_be_whole():
    scores = TaskViewScores(2, SIZES)
    keys = {"label": torch.tensor([[1, 2]]), "num_views": torch.tensor([1]), "decoded": torch.tensor([True])}
    for _ in range(2):
        scores.add((torch.zeros(1, 2), torch.zeros(1, 3)), video=torch.tensor([1]), view=torch.tensor([0]), **keys)
    with pytest.raises(IncompleteEvaluationError, match="1 of 2 videos never arrived"):
        scores.compute()
    part = scores.compute(whole=False)
    assert part.videos.tolist() == [1] and part.num_views.tolist() == [1] and part.labels.tolist() == [[1, 2]]


def test_score_table(tmp_path):
    videos = collect([[0.75, 0.25]] * 3, [[0.5, 0.25, 0.25]] * 3, [(0, 0), (0, 1), (1, 1)], decoded=[True, True, False])
    names = {"verb": ["take", "put"], "noun": ["cup", "tap", "pan"]}
    write_task_scores(tmp_path / "s.csv", videos, ["a", "b", "c"], names)
    rows = list(csv.reader((tmp_path / "s.csv").read_text().splitlines()))
    assert rows[0][:8] == ["video", "label.verb", "guess.verb", "label.noun", "guess.noun", "right", "decoded", "views"]
    assert rows[0][8:] == ["verb.take", "verb.put", "noun.cup", "noun.tap", "noun.pan"]
    assert rows[1] == ["a", "take", "take", "cup", "cup", "1", "1", "1", "0.75", "0.25", "0.5", "0.25", "0.25"]
    assert rows[2][1:6] == ["take", "take", "tap", "cup", "0"]
    assert rows[3][1:8] == ["put", "", "tap", "", "0", "0", "1"] and rows[3][8] == "nan"
