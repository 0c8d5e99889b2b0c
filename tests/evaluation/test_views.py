"""Video scores from view scores: complete, without duplicates, the same however views are dealt."""

import pytest
import torch

from kinema.evaluation.confusion import confusion, draw_confusion
from kinema.evaluation.metrics import video_metrics
from kinema.evaluation.score_files import write_scores
from kinema.evaluation.views import IncompleteEvaluationError, VideoScores, ViewScores


def rows(videos, views, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(videos, views, classes, generator=generator) * 3
    return [
        (
            logits[video, view],
            {"label": video % classes, "video": video, "view": view, "num_views": views, "decoded": True},
        )
        for video in range(videos)
        for view in range(views)
    ], logits


def collect(table, num_videos, **options):
    whole = options.pop("whole", True)
    scores = ViewScores(num_videos, **options)
    for logits, facts in table:
        scores.add(logits[None], **{name: torch.tensor([value]) for name, value in facts.items()})
    return scores.compute(whole=whole)


def test_probabilities_and_logits_are_averaged_over_views():
    table, logits = rows(4, 3)
    torch.testing.assert_close(collect(table, 4).scores, logits.double().softmax(-1).mean(1))
    torch.testing.assert_close(collect(table, 4, average="logits").scores, logits.double().mean(1))


def test_order_and_duplicates_change_nothing_to_the_bit():
    table, _ = rows(7, 3)
    shuffled = [table[i] for i in torch.randperm(len(table), generator=torch.Generator().manual_seed(1))]
    assert torch.equal(collect(table, 7).scores, collect(shuffled + table[4:9], 7).scores)


@pytest.mark.parametrize("lost", [0, 4, 20])
def test_a_missing_view_is_an_error(lost):
    table, _ = rows(7, 3)
    with pytest.raises(IncompleteEvaluationError, match="1 videos lack views"):
        collect(table[:lost] + table[lost + 1 :], 7)


@pytest.mark.parametrize("lost", [0, 3, 6])
def test_a_missing_video_is_an_error(lost):
    table, _ = rows(7, 3)
    table = [row for row in table if row[1]["video"] != lost]
    with pytest.raises(IncompleteEvaluationError, match=rf"1 of 7 videos never arrived, such as \[{lost}\]"):
        collect(table, 7)


def test_an_evaluation_cut_short_on_purpose_gives_what_arrived():
    table, _ = rows(7, 3)
    videos = collect([row for row in table if row[1]["video"] in (2, 5)], 7, whole=False)
    assert videos.videos.tolist() == [2, 5]
    assert video_metrics(videos)["videos"] == 2


def test_unknown_average():
    with pytest.raises(ValueError, match="got 'median'"):
        ViewScores(3, average="median")


def videos_of(scores, labels, decoded=None):
    labels, views = torch.tensor(labels), torch.ones(len(labels), dtype=torch.long)
    decoded = torch.ones(len(labels), dtype=torch.bool) if decoded is None else torch.tensor(decoded)
    return VideoScores(
        torch.arange(len(labels)),
        torch.tensor(scores, dtype=torch.float64),
        labels,
        decoded,
        views,
    )


def test_undecodable_videos_count_as_wrong_and_the_rest_stands_beside():
    nan = float("nan")
    videos = videos_of(
        [[0.9, 0.1, 0], [0.2, 0.7, 0.1], [nan] * 3, [0.5, 0.3, 0.2]], [0, 1, 2, 1], [True, True, False, True]
    )
    metrics = video_metrics(videos)
    assert metrics["top1"] == 2 / 4 and metrics["top1_decodable"] == 2 / 3
    assert metrics["top5"] == 3 / 4 and metrics["top5_decodable"] == 1
    assert metrics["videos"] == 4 and metrics["undecodable"] == 1
    assert metrics["mean_class"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert confusion(videos).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_top5_is_not_top1():
    scores = torch.arange(10.0).flip(0)
    videos = videos_of([scores.tolist()] * 10, list(range(10)))
    assert video_metrics(videos)["top1"] == 0.1
    assert video_metrics(videos)["top5"] == 0.5


def test_nothing_decodable_is_zero_not_nan():
    metrics = video_metrics(videos_of([[float("nan")] * 2], [0], [False]))
    assert metrics["top1"] == metrics["top1_decodable"] == metrics["mean_class"] == 0


def test_score_table_and_picture(tmp_path):
    videos = videos_of([[0.9, 0.1], [float("nan")] * 2], [0, 1], [True, False])
    write_scores(tmp_path / "s.csv", videos, ["a.mp4", "b.mp4"], ["left", "right"])
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "video,label,guess,right,decoded,views,left,right",
        "a.mp4,left,left,1,1,1,0.9,0.1",
        "b.mp4,right,,0,0,1,nan,nan",
    ]
    draw_confusion(tmp_path / "c.png", confusion(videos), ["left", "right"], title="two")
    assert (tmp_path / "c.png").stat().st_size > 3000
