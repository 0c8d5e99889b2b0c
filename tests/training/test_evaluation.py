"""Evaluation over processes, and what happens to videos that cannot be decoded."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from kinema.evaluation.metrics import video_metrics
from kinema.evaluation.task_views import TaskScores
from kinema.evaluation.views import VideoScores
from kinema.training.classifier import NonFiniteLossError, VideoClassifier, need_finite

from conftest import REPOSITORY, metrics_of


def rows_of(run, part="val"):
    return list(csv.DictReader((run / f"{part}_scores.csv").read_text().splitlines()))


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one_to_the_bit(cli, motion_root, tmp_path):
    run = cli("fit", "--trainer.max_epochs", 1, "--data.eval_batch_size", 5)
    arguments = ["validate", "--config", run / "config.yaml", "--ckpt_path", run, "--run.root", tmp_path / "ddp"]
    # 24 videos in batches of 5 make 5 batches: the second process gets one of them a second time.
    for devices in (1, 2):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "kinema", *map(str, arguments), "--trainer.devices", str(devices)]
        command += ["--run.id", f"on{devices}"]
        command += ["--trainer.strategy", "ddp"] if devices > 1 else []
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (tmp_path / "ddp" / "quickstart-tsm" / f"on{devices}" for devices in (1, 2))
    assert (one / "val_scores.csv").read_text() == (two / "val_scores.csv").read_text()
    drop = {"seconds"}
    assert {k: v for k, v in metrics_of(one).items() if k not in drop} == {
        k: v for k, v in metrics_of(two).items() if k not in drop
    }


@pytest.fixture
def folder_set(motion_root, tmp_path, cli):
    """A folder-per-class set of a few motion videos, to damage."""
    from kinema.data.motion import prepare_motion

    source = prepare_motion(motion_root, num_train=36, num_val=24, progress=False)
    root = tmp_path / "videos"
    for row in csv.DictReader((source / "train.csv").read_text().splitlines()):
        target = root / "train" / row["label"] / row["path"].rpartition("/")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / row["path"]).read_bytes())
    for row in csv.DictReader((source / "val.csv").read_text().splitlines()):
        target = root / "val" / row["label"] / row["path"].rpartition("/")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / row["path"]).read_bytes())
    return root


OWN = ["--run.wandb", "off", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
OWN += ["--model.backbone", "nano", "--data.size", "64", "--data.resize", "64", "--data.num_workers", "0"]


def fit(cli, root, *arguments, status=0):
    recipe = REPOSITORY / "experiments/own_videos.yaml"
    options = ["--config", recipe, "--data.root", root, "--run.root", root.parent / "runs", *OWN]
    return cli(
        "fit", *options, "--data.batch_size", 4, "--trainer.max_epochs", 1, *arguments, config=None, status=status
    )


def test_damaged_training_videos_are_substituted_counted_and_capped(cli, folder_set):
    broken = sorted(folder_set.glob("train/*/*.mp4"))[0]
    broken.write_bytes(b"no video")
    run = fit(cli, folder_set, "--data.max_error_rate", 0.05)
    ((name, reason),) = json.loads((run / "undecodable_train_rank0.json").read_text()).items()
    assert name.endswith(broken.name) and reason
    assert metrics_of(run)["undecodable_train"] == 1
    assert "1 of 36 training videos undecodable and substituted; see" in cli.output.out
    fit(cli, folder_set, "--data.max_error_rate", 0, status=1)
    assert "1 of 36 training videos could not be decoded, more than the 0.0% allowed" in cli.output.err
    assert broken.name in cli.output.err
    resumed = fit(cli, folder_set, "--data.max_error_rate", 0.05, "--trainer.max_epochs", 2, "--ckpt_path", run)
    assert (resumed / "undecodable_train_rank0.json").is_file()
    fit(cli, folder_set, "--data.max_error_rate", 0, "--trainer.max_epochs", 2, "--ckpt_path", run, status=1)


def test_one_damaged_video_is_let_pass_in_a_small_set_and_two_are_not(cli, folder_set):
    broken = sorted(folder_set.glob("train/*/*.mp4"))
    broken[0].write_bytes(b"no video")
    fit(cli, folder_set)
    broken[-1].write_bytes(b"no video")
    fit(cli, folder_set, status=1)
    assert "2 of 36 training videos could not be decoded" in cli.output.err


def test_undecodable_validation_videos_are_listed_and_wrong_never_replaced(cli, folder_set):
    broken = sorted(folder_set.glob("val/*/*.mp4"))[:3]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(b"text that calls itself mp4")
    broken[2].unlink()
    whole = sorted(folder_set.glob("val/*/*.mp4"))[2]
    broken[2].write_bytes(whole.read_bytes()[:200])
    run = fit(cli, folder_set)
    metrics, rows = metrics_of(run), rows_of(run)
    assert metrics["videos"] == 24 and metrics["undecodable"] == 3
    lost = [row for row in rows if row["decoded"] == "0"]
    assert {row["video"].rpartition("/")[2] for row in lost} == {path.name for path in broken}
    assert all(row["right"] == "0" and row["guess"] == "" for row in lost)
    assert metrics["top1"] == sum(int(row["right"]) for row in rows) / 24
    assert metrics["top1_decodable"] == sum(int(row["right"]) for row in rows) / 21


def test_scores_that_are_not_finite_are_no_result():
    """Of NaN the best class is the first one, which is right for every video of that class."""
    good = VideoScores(
        torch.arange(3), torch.rand(3, 4), torch.zeros(3).long(), torch.ones(3).bool(), torch.ones(3).long()
    )
    need_finite(good)
    bad = replace(good, scores=good.scores.index_fill(0, torch.tensor(1), float("nan")))
    with pytest.raises(NonFiniteLossError, match="1 of 3 videos are not finite"):
        need_finite(bad)
    need_finite(replace(bad, decoded=torch.tensor([True, False, True])))
    rank, guesses = torch.zeros(3).long(), torch.zeros(3, 2).long()
    with pytest.raises(NonFiniteLossError, match="1 of 3"):
        need_finite(TaskScores({"verb": good, "noun": bad}, rank, rank, guesses))


def test_scores_that_are_not_finite_count_as_wrong():
    """Also where the label is the first class, which is what the largest of NaN is."""
    scores = torch.tensor([[0.9, 0.1], [float("nan"), float("nan")], [float("inf"), 0.0], [float("nan"), float("nan")]])
    decoded = torch.tensor([True, True, True, False])
    videos = VideoScores(torch.arange(4), scores, torch.zeros(4).long(), decoded, torch.ones(4).long())
    metrics = video_metrics(videos)
    assert (metrics["top1"], metrics["top5"], metrics["mean_class"]) == (0.25, 0.25, 0.25)
    assert (metrics["not_finite"], metrics["undecodable"], metrics["videos"]) == (2, 1, 4)
    fine = replace(videos, scores=torch.tensor([[0.9, 0.1]]).repeat(4, 1))
    assert "not_finite" not in video_metrics(fine)
    rank = torch.zeros(4).long()
    of_tasks = video_metrics(TaskScores({"verb": fine, "noun": videos}, rank, rank, torch.zeros(4, 2).long()))
    assert (of_tasks["top1"], of_tasks["verb_top1"], of_tasks["not_finite"], of_tasks["undecodable"]) == (
        0.25,
        0.25,
        2,
        1,
    )


def blow_up_behind(epoch, monkeypatch):
    forward = VideoClassifier.forward

    def blown(self, clip):
        bad = not self.training and self.current_epoch == epoch
        return forward(self, clip) * (float("nan") if bad else 1.0)

    monkeypatch.setattr(VideoClassifier, "forward", blown)


def test_an_evaluation_on_the_way_may_overflow(cli, monkeypatch):
    """TAdaConv's factors have no bound: behind its first epoch TAda2D of the quickstart overflows on some videos."""
    blow_up_behind(0, monkeypatch)
    with pytest.warns(UserWarning, match="scores of 24 of 24 videos are not finite behind epoch 1 and count as wrong"):
        run = cli("fit", "--trainer.max_epochs", 2)
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert next(line["val/top1"] for line in lines if "val/top1" in line) == 0
    assert "not_finite" not in metrics_of(run) and metrics_of(run)["videos"] == 24


def test_the_last_evaluation_may_not(cli, monkeypatch):
    blow_up_behind(1, monkeypatch)
    with pytest.warns(UserWarning, match="behind epoch 2"):
        cli("fit", "--trainer.max_epochs", 2, status=1)
    assert "NonFiniteLossError: the scores of 24 of 24 videos are not finite" in cli.output.err
