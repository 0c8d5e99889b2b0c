"""Ensembles of recorded runs: the mean by hand, and every way in which runs may not fit together."""

import json

import pytest
import torch

from kinema.cli import main
from kinema.evaluation.metrics import read_scores, write_scores
from kinema.evaluation.views import VideoScores
from kinema.training.ensemble import EnsembleError, average_runs

NAMES, CLASSES = ["a.mp4", "b.mp4", "c.mp4"], ["left", "right"]
ONE = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
TWO = [[0.6, 0.4], [0.8, 0.2], [0.1, 0.9]]


@pytest.fixture
def record(tmp_path):
    """Write a run folder that holds scores."""

    def write(name, scores, *, names=NAMES, labels=(0, 0, 1), classes=CLASSES, lost=(), part="val"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text("{}")
        rows = torch.tensor(scores, dtype=torch.float64)
        decoded = torch.tensor([row not in lost for row in range(len(rows))])
        rows[~decoded] = float("nan")
        views = torch.full((len(rows),), 3)
        videos = VideoScores(torch.arange(len(rows)), rows, torch.tensor(labels), decoded, views)
        write_scores(folder / f"{part}_scores.csv", videos, list(names), classes)
        return folder

    return write


def test_the_mean_and_the_weighted_mean(record):
    one, two = record("one", ONE), record("two", TWO)
    mean = average_runs([one, two])
    torch.testing.assert_close(mean.videos.scores, (torch.tensor(ONE) + torch.tensor(TWO)).double() / 2)
    weighted = average_runs([one, two], weights=[3, 1])
    assert weighted.weights == [0.75, 0.25]
    torch.testing.assert_close(
        weighted.videos.scores, 0.75 * torch.tensor(ONE).double() + 0.25 * torch.tensor(TWO).double()
    )
    assert weighted.names == NAMES and weighted.videos.num_views.tolist() == [6, 6, 6]


def test_videos_are_matched_by_name_whatever_their_order(record):
    order = [2, 0, 1]
    two = record("two", [TWO[i] for i in order], names=[NAMES[i] for i in order], labels=[(0, 0, 1)[i] for i in order])
    mean = average_runs([record("one", ONE), two])
    torch.testing.assert_close(mean.videos.scores, (torch.tensor(ONE) + torch.tensor(TWO)).double() / 2)


def test_samples_of_one_long_video_stay_apart(record):
    names = ["long.mp4", "long.mp4", "c.mp4"]
    mean = average_runs([record("one", ONE, names=names), record("two", TWO, names=names)])
    torch.testing.assert_close(mean.videos.scores, (torch.tensor(ONE) + torch.tensor(TWO)).double() / 2)


def test_a_video_that_one_run_lost_counts_as_wrong(record, capsys):
    one, two = record("one", ONE, lost=[2]), record("two", TWO)
    mean = average_runs([one, two])
    assert mean.videos.decoded.tolist() == [True, True, False] and mean.videos.scores[2].isnan().all()
    assert main(["ensemble", str(one), str(two)]) == 0
    assert "top-1 66.7%" in capsys.readouterr().out.splitlines()[-1]  # a and b right, c lost


def test_logits_are_averaged_as_they_are_and_never_with_probabilities(record):
    one, two = (
        record("one", [[3.0, 1.0], [0.5, -2.0], [0.0, 4.0]]),
        record("two", [[1.0, 2.0], [0.5, 0.5], [-1.0, 1.0]]),
    )
    torch.testing.assert_close(average_runs([one, two]).videos.scores[0], torch.tensor([2.0, 1.5]).double())
    with pytest.raises(EnsembleError, match=r"two: logits, .*three: probabilities\); evaluate them with the same"):
        average_runs([two, record("three", ONE)])


def test_the_command_tells_and_writes(record, tmp_path, capsys):
    one, two = record("one", ONE, part="test"), record("two", TWO, part="test")
    command = [
        "ensemble",
        str(one),
        str(two),
        "--part",
        "test",
        "--weights",
        "1",
        "3",
        "--output",
        str(tmp_path / "mean"),
    ]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("top-1 66.7%, top-5 100.0%, weight 0.250") and "top-1 100.0%" in lines[2]
    written = json.loads((tmp_path / "mean" / "metrics.json").read_text())
    assert written["top1"] == 1.0 and written["weights"] == [0.25, 0.75]
    again, names, _ = read_scores(tmp_path / "mean" / "test_scores.csv")
    assert names == NAMES and again.num_views.tolist() == [6, 6, 6]
    torch.testing.assert_close(again.scores[0], torch.tensor([0.675, 0.325]).double())


def test_runs_that_do_not_fit_are_refused(record, tmp_path, capsys):
    one = record("one", ONE)
    for change, match in (
        (
            {"names": ["a.mp4", "b.mp4", "d.mp4"]},
            "scored different videos: 1 are in the second alone and 1 in the first",
        ),
        ({"labels": (0, 1, 1)}, "label 1 videos differently, b.mp4 being right and left"),
        ({"classes": ["right", "left"]}, "have different classes: 2 and 2"),
    ):
        with pytest.raises(EnsembleError, match=match):
            average_runs([one, record("other", TWO, **change)])
    with pytest.raises(EnsembleError, match="1 are in the second alone and 0 in the first"):
        average_runs([one, record("fewer", TWO[:2], names=NAMES[:2], labels=(0, 0))])
    for weights, match in (
        ([1], "1 weights were given for 2 runs"),
        ([1, -1], "must not be below 0"),
        ([0, 0], "one must be"),
    ):
        with pytest.raises(EnsembleError, match=match):
            average_runs([one, one], weights=weights)
    with pytest.raises(EnsembleError, match="at least two runs, got 1"):
        average_runs([one])
    assert main(["ensemble", str(one), str(one), "--part", "test"]) == 1
    assert "holds no test_scores.csv; evaluate it first: kinema test" in capsys.readouterr().err
