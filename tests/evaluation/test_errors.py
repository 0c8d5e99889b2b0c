"""Hardest videos and confused pairs, counted by hand; scores that survive their file."""

import math
from dataclasses import dataclass

import pytest
import torch

from kinema.evaluation.errors import ConfusedPair, HardVideo, confused_pairs, hardest_videos
from kinema.evaluation.row_table import row_table
from kinema.evaluation.score_files import read_scores, write_scores
from kinema.evaluation.views import VideoScores

CLASSES = ["cat", "dog", "owl"]
NAMES = ["a", "b", "c", "d", "e", "f"]


def videos(scores=None, labels=(0, 0, 1, 1, 2, 2)):
    nan = float("nan")
    scores = scores or [
        [0.2, 0.5, 0.3],  # cat, taken for a dog
        [0.6, 0.4, 0.0],  # right
        [0.9, 0.0, 0.1],  # dog, taken for a cat without a doubt
        [0.7, 0.2, 0.1],  # dog, taken for a cat
        [nan, nan, nan],  # cannot be decoded
        [0.0, 0.6, 0.4],  # owl, taken for a dog
    ]
    table = torch.tensor(scores, dtype=torch.float64)
    decoded = ~table.isnan().any(dim=1)
    return VideoScores(torch.arange(6), table, torch.tensor(labels), decoded, torch.ones(6, dtype=torch.long))


def test_the_lowest_score_of_the_true_class_comes_first():
    found = hardest_videos(videos(), NAMES, CLASSES)
    assert [video.video for video in found] == ["c", "a", "d", "f", "b"]
    assert found[0] == HardVideo("c", "dog", "cat", 0.0, 0.9, math.inf)
    assert found[1].loss == pytest.approx(-math.log(0.2)) and found[1].guess_score == 0.5
    assert (found[-1].label, found[-1].guess) == ("cat", "cat")
    assert [video.video for video in hardest_videos(videos(), NAMES, CLASSES, count=2)] == ["c", "a"]


def test_logits_become_probabilities():
    table = videos([[2.0, 1.0, 0.0]] * 6)
    found = hardest_videos(table, NAMES, CLASSES, average="logits")
    assert found[0].label == "owl" and found[0].score == pytest.approx(math.exp(0) / (math.exp(2) + math.e + 1))
    assert found[0].loss == pytest.approx(-math.log(found[0].score))
    with pytest.raises(ValueError, match="give average='logits'"):
        hardest_videos(table, NAMES, CLASSES)


def test_pairs_have_a_direction():
    found = confused_pairs(videos(), CLASSES)
    assert found[0] == ConfusedPair("dog", "cat", 2, 1.0, 1)
    assert found[1] == ConfusedPair("owl", "dog", 1, 1.0, 0), "of its one decoded video, so before a half of two"
    assert found[2] == ConfusedPair("cat", "dog", 1, 0.5, 2)
    assert len(found) == 3
    assert len(confused_pairs(videos(), CLASSES, count=1)) == 1


def test_pairs_of_many_videos_come_before_those_of_a_large_share():
    dog, cat = [0.1, 0.9, 0.0], [0.9, 0.1, 0.0]
    found = confused_pairs(videos([dog, dog, cat, cat, cat, dog], labels=(0, 0, 0, 0, 0, 2)), CLASSES)
    assert [(pair.label, pair.count, pair.share) for pair in found] == [("cat", 2, 0.4), ("owl", 1, 1.0)]


def test_names_must_fit():
    with pytest.raises(ValueError, match="2 names came for 6 videos"):
        hardest_videos(videos(), NAMES[:2], CLASSES)
    with pytest.raises(ValueError, match="2 class names came for scores of 3 classes"):
        confused_pairs(videos(), CLASSES[:2])


def test_scores_survive_their_file(tmp_path):
    table = videos()
    write_scores(tmp_path / "scores.csv", table, NAMES, CLASSES)
    read, names, classes = read_scores(tmp_path / "scores.csv")
    assert names == NAMES and classes == CLASSES
    assert torch.equal(read.labels, table.labels) and torch.equal(read.decoded, table.decoded)
    assert torch.equal(read.num_views, table.num_views)
    assert torch.allclose(read.scores, table.scores, equal_nan=True)
    assert hardest_videos(read, names, classes) == hardest_videos(table, NAMES, CLASSES)
    (tmp_path / "other.csv").write_text("path,label\na,b\n")
    with pytest.raises(ValueError, match="is no table of scores"):
        read_scores(tmp_path / "other.csv")


def test_scores_that_are_not_finite_have_no_guess_in_their_file(tmp_path):
    scores = torch.tensor([[float("nan"), 0.0], [0.2, 0.8]], dtype=torch.float64)
    table = VideoScores(torch.arange(2), scores, torch.tensor([0, 1]), torch.tensor([True, True]), torch.tensor([1, 1]))
    write_scores(tmp_path / "scores.csv", table, ["a.mp4", "b.mp4"], ["left", "right"])
    rows = (tmp_path / "scores.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:4] for row in rows] == [["a.mp4", "left", "", "0"], ["b.mp4", "right", "right", "1"]]


@dataclass
class Row:
    first_name: str
    share: float
    count: int

    @property
    def half(self):
        return self.count / 2


def test_rows_as_a_table():
    rows = [Row("a_b", 0.123456, 1234), Row("c", 1.0, 2)]
    assert row_table(rows).splitlines() == [
        "| first name | share | count |",
        "|---|---|---|",
        "| a_b | 0.123 | 1,234 |",
        "| c | 1 | 2 |",
    ]
    assert row_table(rows, ["half", "first_name"]).splitlines()[2] == "| 617 | a_b |"
    assert row_table([Row("d", 0.5, None)]).splitlines()[2] == "| d | 0.5 |  |"
    assert row_table([]) == "none"
    with pytest.raises(TypeError, match="a row is a dict"):
        row_table([{"a": 1}])
