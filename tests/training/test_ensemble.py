"""Ensembles of recorded runs: the mean by hand, and every way in which runs may not fit together."""

import json

import pytest
import torch

from kinema.cli import main
from kinema.evaluation.metrics import video_metrics
from kinema.evaluation.score_files import read_scores, read_task_scores, write_scores, write_task_scores
from kinema.evaluation.task_views import combine_averaged
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


VERBS, NOUNS = {"verb": ["cut", "take"]}, {"noun": ["a.b", "knife", "pan"]}
CUT, TAKE = [0.7, 0.3], [0.4, 0.6]


@pytest.fixture
def record_tasks(tmp_path):
    """Write a run folder that holds scores of verbs and nouns."""

    def write(name, verbs, nouns, *, labels=((0, 1), (1, 2)), lost=(), average="probabilities", classes=VERBS | NOUNS):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text("{}")
        decoded = torch.tensor([row not in lost for row in range(len(verbs))])
        tasks = {}
        for place, (task, rows) in enumerate(zip(classes, (verbs, nouns), strict=True)):
            scores = torch.tensor(rows, dtype=torch.float64)
            scores[~decoded] = float("nan")
            own = torch.tensor([label[place] for label in labels])
            tasks[task] = VideoScores(torch.arange(len(rows)), scores, own, decoded, torch.ones(len(rows)).int())
        videos = combine_averaged(tasks, average=average)
        write_task_scores(folder / "val_scores.csv", videos, NAMES[: len(verbs)], classes)
        return folder

    return write


def test_verbs_and_nouns_are_averaged_and_then_multiplied(record_tasks, tmp_path, capsys):
    # first video: means verb .55 .45, noun .35 .4 .25: cut knife, right; second: verb .4 .6, noun .2 .4 .4: knife by its id
    one = record_tasks("one", [CUT, TAKE], [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
    two = record_tasks("two", [[0.4, 0.6], TAKE], [[0.2, 0.5, 0.3], [0.2, 0.2, 0.6]])
    mean = average_runs([one, two])
    torch.testing.assert_close(mean.videos.tasks["verb"].scores[0], torch.tensor([0.55, 0.45]).double())
    torch.testing.assert_close(mean.videos.tasks["noun"].scores[0], torch.tensor([0.35, 0.4, 0.25]).double())
    assert mean.videos.guesses.tolist() == [[0, 1], [1, 1]] and mean.videos.rank.tolist() == [0, 1]
    metrics = video_metrics(mean.videos)
    assert (metrics["action_top1"], metrics["verb_top1"], metrics["noun_top1"]) == (0.5, 1.0, 0.5)
    # alone, the first is wrong about both nouns, the second about the first verb
    assert [video_metrics(member)["top1"] for member in mean.members] == [0.0, 0.5]

    assert main(["ensemble", str(one), str(two), "--output", str(tmp_path / "mean")]) == 0
    assert "top-1 50.0%, top-5 100.0% (verb 100.0%, noun 50.0%) on 2 videos" in capsys.readouterr().out
    tasks, names, classes = read_task_scores(tmp_path / "mean" / "val_scores.csv")
    assert names == NAMES[:2] and classes == VERBS | NOUNS and tasks["noun"].labels.tolist() == [1, 2]
    torch.testing.assert_close(tasks["noun"].scores, mean.videos.tasks["noun"].scores)
    assert json.loads((tmp_path / "mean" / "metrics.json").read_text())["action_top1"] == 0.5


def test_logits_of_verbs_and_nouns_become_probabilities_behind_the_mean(record_tasks):
    # mean logits: verb 1 0, noun 0 2 .5, so that the true action has e^0 e^2 and one stands above it, e^1 e^2. Products of
    # logits would be 0 for it, as for all of the second verb, and three would stand above.
    one = record_tasks("one", [[2.0, 0.0]], [[0.0, 3.0, 0.5]], labels=[(1, 1)], average="logits")
    two = record_tasks("two", [[0.0, 0.0]], [[0.0, 1.0, 0.5]], labels=[(1, 1)], average="logits")
    videos = average_runs([one, two]).videos
    assert videos.guesses.tolist() == [[0, 1]] and videos.rank.tolist() == [1]


def test_an_action_that_one_run_lost_counts_as_wrong(record_tasks):
    nouns = [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    one, two = record_tasks("one", [CUT, TAKE], nouns, lost=[1]), record_tasks("two", [CUT, TAKE], nouns)
    videos = average_runs([one, two]).videos
    assert videos.decoded.tolist() == [True, False] and videos.rank.tolist() == [0, 6]
    assert video_metrics(videos)["top1"] == 0.5


def test_tasks_that_do_not_fit_are_refused(record, record_tasks):
    nouns = [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    one = record_tasks("one", [CUT, TAKE], nouns)
    with pytest.raises(EnsembleError, match="tell different things of a video: one label and verb and noun"):
        average_runs([one, record("single", ONE)])
    with pytest.raises(EnsembleError, match="have different classes of noun: 3 and 3"):
        average_runs(
            [one, record_tasks("other", [CUT, TAKE], nouns, classes=VERBS | {"noun": ["a.b", "pan", "knife"]})]
        )
    with pytest.raises(EnsembleError, match=r"label 1 videos differently, b.mp4 being knife and pan"):
        average_runs([one, record_tasks("labels", [CUT, TAKE], nouns, labels=((0, 1), (1, 1)))])


def test_samples_of_one_long_video_are_matched_by_their_seconds(record):
    names = ["long.mp4#t=0,4", "long.mp4#t=4,9", "c.mp4"]
    order = [1, 0, 2]
    two = record("two", [TWO[i] for i in order], names=[names[i] for i in order], labels=(0, 0, 1))
    mean = average_runs([record("one", ONE, names=names), two])
    torch.testing.assert_close(mean.videos.scores, (torch.tensor(ONE) + torch.tensor(TWO)).double() / 2)
