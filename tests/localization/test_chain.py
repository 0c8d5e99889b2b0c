"""From long videos to segments by the commands alone: features, training, and a raw file."""

import json
import shutil
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml

from kinema.data.motion import prepare_untrimmed
from kinema.data.untrimmed.feature_files import read
from kinema.data.untrimmed.windows import Windows
from kinema.localization.segment_files import FoundSegment
from kinema.training.localizer import Localizer
from kinema.training.restore import Predictor

from made import feature_file


@pytest.fixture(scope="module")
def untrimmed(tmp_path_factory):
    root = tmp_path_factory.mktemp("untrimmed")
    return prepare_untrimmed(root, num_train=2, num_val=2, seconds=(9, 9), progress=False)


@pytest.fixture
def classifier(cli):
    """A run that has hardly begun."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cli(
            "fit", "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--trainer.limit_val_batches", 1
        )


def extract(cli, untrimmed, classifier, output, *more, status=0):
    clips = ["--stride", 8, "--frame-interval", 2, "--clip-frames", 4]
    cli(
        "features",
        untrimmed / "videos",
        *more,
        "--run",
        classifier,
        "--output",
        output,
        *clips,
        config=None,
        status=status,
    )


def fit(cli, untrimmed, features, tmp_path, *more):
    tiny = ["dim=8", "dim_collapsed=8", "dim_map=8", "num_samples=4", "num_points=1", "groups=1"]
    sizes = [f"--model.{each}" for each in tiny] + ["--data.num_bins=32", "--data.max_bins=16", "--data.bin_s=0.32"]
    where = [f"--run.root={tmp_path / 'runs'}", "--run.wandb=off", "--trainer.enable_progress_bar=false"]
    where += ["--trainer.accelerator=cpu", "--model=BMN", "--data=FeatureData", f"--data.root={features}"]
    where += [f"--data.annotations={untrimmed / 'annotations.json'}", "--trainer.max_epochs=1", "--run.name=localizer"]
    return cli("fit", *where, *sizes, *more, config=None)


def test_from_videos_to_segments(cli, untrimmed, classifier, tmp_path):
    features, bad = tmp_path / "features", tmp_path / "bad.mp4"
    bad.write_bytes((untrimmed / "videos" / "train_000.mp4").read_bytes()[:5000])
    extract(cli, untrimmed, classifier, features, bad, status=1)
    assert "4 written, 0 finished before, 1 failed" in cli.output.out and "bad has no features" in cli.output.err
    file = read(features / "val_000a.safetensors")
    assert (file.stride, file.clip_frames, file.model) == (8, 8, "tsm_nano") and len(file) == 29
    names = yaml.safe_load((features / "extraction.json").read_text())["classes"][""]
    assert (features / "classes.txt").read_text().split("\n")[:-1] == names and len(names) == file.logits.shape[1] == 12

    extract(cli, untrimmed, classifier, features)
    assert "0 written, 4 finished before, 0 failed" in cli.output.out

    localizer = fit(cli, untrimmed, features, tmp_path)
    metrics = json.loads((localizer / "metrics.json").read_text())
    assert metrics["videos"] == 2 and 0 <= metrics["average_mAP"] <= 1

    video = shutil.copy(untrimmed / "videos" / "val_000b.mp4", tmp_path / "mine.mp4")
    runs = ["--classifier", classifier, "--localizer", localizer]
    cli("localize", video, bad, *runs, "--output", tmp_path / "out", config=None, status=1)
    assert "mine.mp4: " in cli.output.out and "1 of 2 videos" in cli.output.err
    assert "frames per second" not in cli.output.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"mine.{s}" for s in ("csv", "html", "json", "png")
    ]
    whole = json.loads((tmp_path / "out" / "mine.json").read_text())
    found = json.loads((localizer / "val_detections.json").read_text())["results"]["val_000b"]
    # The same network, features and post-processing as in its validation.
    assert [row["label"] for row in whole["segments"]] == [row["label"] for row in found]
    assert [row["start"] for row in whole["segments"]] == pytest.approx([row["segment"][0] for row in found], abs=1e-4)
    assert [row["score"] for row in whole["segments"]] == pytest.approx([row["score"] for row in found], rel=1e-3)
    assert whole["duration"] == 9.28 and whole["classifier"]["model"] == "tsm_nano" and len(whole["segments"]) > 20
    assert (tmp_path / "out" / "mine.html").read_text().count("<tr>") == 1 + 20

    best = whole["segments"][0]["score"]
    where = ["--output", tmp_path / "out", "--top", 3]
    cli("localize", video, *runs, *where, "--min-score", best, config=None)
    assert len(json.loads((tmp_path / "out" / "mine.json").read_text())["segments"]) == 1
    cli("localize", video, *runs, *where[:2], "--top", -1, config=None, status=1)
    assert "--top -1" in cli.output.err

    # Features that were moved, or are of other weights.
    moved = features.rename(tmp_path / "moved")
    cli("localize", video, *runs, *where, config=None, status=1)
    assert "say where they lie now with --features" in cli.output.err
    cli("localize", video, *runs, *where, "--features", moved, config=None)
    plain = (tmp_path / "out" / "mine.png").read_bytes()
    told = json.loads((untrimmed / "annotations.json").read_text())
    told["database"]["mine"] = told["database"]["val_000b"]
    (tmp_path / "mine.json").write_text(json.dumps(told))
    outlined = ["--annotations", tmp_path / "mine.json"]
    cli("localize", video, *runs, *where, "--features", moved, *outlined, config=None)
    assert (tmp_path / "out" / "mine.png").read_bytes() != plain
    facts = json.loads((moved / "extraction.json").read_text())
    (moved / "extraction.json").write_text(json.dumps(facts | {"weights": "others"}))
    with pytest.raises(ValueError, match="weights: others there"):
        Localizer.of_runs(classifier, localizer, features=moved)


def test_what_the_commands_refuse(cli, untrimmed, tmp_path, classifier):
    where = ["--output", tmp_path / "out", "--stride", 8]
    cli("features", tmp_path / "absent.mp4", "--run", classifier, *where, config=None, status=1)
    assert "absent.mp4" in cli.output.err
    (tmp_path / "empty").mkdir()
    cli("features", tmp_path / "empty", "--run", classifier, *where, config=None, status=1)
    assert "no video in" in cli.output.err
    cli("features", untrimmed / "videos", *where, config=None, status=1)
    assert "--run" in cli.output.err
    cli("features", untrimmed / "videos", "--run", classifier, *where, config=None, status=1)
    assert "give --frame-interval" in cli.output.err
    cli("features", untrimmed / "videos", "--run", classifier, *where, "--frame-interval", 0, config=None, status=1)
    assert "frame_interval=0" in cli.output.err
    twice = [tmp_path / name / "a.mp4" for name in ("x", "y")]
    for path in twice:
        path.parent.mkdir()
        shutil.copy(untrimmed / "videos" / "train_000.mp4", path)
    cli("localize", *twice, "--classifier", classifier, "--localizer", classifier, *where[:2], config=None, status=1)
    assert "two videos are called a" in cli.output.err
    cli("localize", twice[0], "--classifier", classifier, "--localizer", classifier, *where[:2], config=None, status=1)
    assert "no BMN" in cli.output.err


def test_what_to_know_of_the_segments_of_a_video():
    network = SimpleNamespace(windows=Windows(10, 10, 0.1))
    localizer = Localizer(cast(Any, None), cast(Any, network), str, fps=25.0)
    file, sure = feature_file("a", [], fps=25.0, duration=30.0), [FoundSegment(1, 2, "run", 0.5)]
    assert localizer.notes(file, sure) == [] and localizer.notes(replace(file, fps=27.0), []) == []
    (rate,) = localizer.notes(replace(file, fps=50.0), sure)
    assert "50 frames per second, and the localizer learnt on videos of 25, so everything seems slower" in rate
    (short,) = localizer.notes(replace(file, clip_frames=1000), sure)
    assert "it lasts 30.00 s and a clip 40.00 s" in short
    few = {name: getattr(file, name)[::20] for name in ("starts", "centers", "ends", "features", "logits")}
    (unseen,) = localizer.notes(replace(file, **few), sure)
    assert "windows of this video show no clip and are left out, such as a from " in unseen
    (unsure,) = localizer.notes(file, [FoundSegment(1, 2, "run", 0.05)])
    assert "its best score is 0.05" in unsure


def test_a_localizer_is_no_classifier(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"kinema": {"module": "BMN"}, "hyper_parameters": {}, "state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"is a localizer \(BMN\), and a classifier is needed"):
        Predictor.from_checkpoint(path)


def test_weights_alone_and_a_checkpoint_without_its_run(cli, untrimmed, classifier, tmp_path):
    """As for kinema predict: a file of weights with the name of its network, or a checkpoint taken out of its run."""
    video, clips = untrimmed / "videos" / "train_000.mp4", ["--stride", 32, "--frame-interval", 1]
    weights = tmp_path / "weights.safetensors"
    cli("convert", classifier, weights, "--to", "kinema", config=None)
    named = ["--model", "tsm_nano", "--num-classes", 12, "--num-frames", 8, "--size", 64, "--resize", 72]
    cli("features", video, "--checkpoint", weights, *named, *clips, "--output", tmp_path / "a", config=None)
    assert "no class names" in cli.output.err and not (tmp_path / "a" / "classes.txt").exists()
    alone = shutil.copy(classifier / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt")
    cli("features", video, "--checkpoint", alone, *clips, "--crops", 3, "--output", tmp_path / "b", config=None)
    one, three = (read(tmp_path / name / "train_000.safetensors") for name in "ab")
    assert three.dim == 3 * one.dim and (tmp_path / "b" / "classes.txt").exists()
    # The middle one of three crops is the one crop.
    assert three.features[:, one.dim : 2 * one.dim].sub(one.features).abs().max() < 1e-4
