"""The boundary-matching network through the command line: it learns, goes on where it was, and its run proposes."""

import json
import shutil

import pytest
import torch

from kinema.data.loader import sample_seed
from kinema.data.untrimmed.feature_files import read_video
from kinema.training import BMN, bmn
from kinema.training.callbacks import Checkpoints

from made import CLASSES, made_set

SIZES = ["--model.dim=8", "--model.dim_collapsed=8", "--model.dim_map=8", "--model.num_samples=4", "--model.groups=1"]

HALF = ["--trainer.precision=bf16-mixed"]
ONE_EPOCH = ["--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_set(tmp_path_factory.mktemp("made"))


@pytest.fixture
def fit(cli, made, tmp_path):
    features, annotations = made

    def call(*options, command="fit", status=0):
        where = [f"--run.root={tmp_path / 'runs'}", "--run.wandb=off", "--trainer.enable_progress_bar=false"]
        where += ["--trainer.accelerator=cpu", "--model=BMN", "--data=FeatureData", f"--data.root={features}"]
        where += [f"--data.annotations={annotations}", "--data.num_bins=20", "--data.max_bins=12", *SIZES]
        return cli(command, *where, *options, config=None, status=status)

    call.cli = cli
    return call


def test_it_learns_to_localize(fit, made):
    learnt = ["--model.optimizer.lr=0.01", "--model.optimizer.name=adamw", "--data.batch_size=3"]
    run = fit("--trainer.max_epochs=25", *learnt)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["average_mAP"] > 0.5 and metrics["best_average_mAP"] >= metrics["average_mAP"]
    assert metrics["videos"] == 2 and metrics["segments"] == 4 and metrics["AR@100"] > 0.6
    assert "average mAP" in fit.cli.output.out and "6 training and 2 validation videos" in fit.cli.output.out
    history = (run / "history.jsonl").read_text()
    for name in ("train/loss_boundary", "train/loss_regression", "val/loss_classification", "val/mAP@0.50"):
        assert name in history
    results = json.loads((run / "val_detections.json").read_text())["results"]
    assert set(results) == {"video6", "video7"} and {row["label"] for row in results["video6"]} <= set(CLASSES)
    # The checkpoint alone proposes what evaluation found.
    module = BMN.from_run(run)
    found = module.propose(read_video(made[0], "video6"))
    assert [d.start for d in found] == pytest.approx([row["segment"][0] for row in results["video6"]], abs=1e-4)
    assert [d.score for d in found] == pytest.approx([row["score"] for row in results["video6"]], rel=1e-3, abs=1e-6)
    best = max((d for d in found if d.label == 0), key=lambda d: d.score)  # video6 jumps from 5 to 11 s
    assert best.start == pytest.approx(5, abs=1.6) and best.end == pytest.approx(11, abs=1.6)
    again = fit(f"--ckpt_path={run}", command="validate")
    validated = json.loads((again / "metrics.json").read_text())
    assert validated["average_mAP"] == pytest.approx(metrics["average_mAP"], abs=1e-6)


def test_a_run_goes_on_exactly_where_it_was(fit, monkeypatch):
    saved = Checkpoints._save

    def save(self, trainer, name):
        saved(self, trainer, name)
        if trainer.global_step == 4 and name == "last":
            shutil.copy(self.run.last, self.run.checkpoints / "step4.ckpt")

    drawn = []
    monkeypatch.setattr(Checkpoints, "_save", save)
    monkeypatch.setattr(bmn, "sample_seed", lambda *place: drawn.append(place[1:]) or sample_seed(*place))
    options = ["--trainer.max_epochs=2", "--data.batch_size=2", "--run.checkpoint_every_steps=1"]  # of three steps each
    whole = fit(*options, "--trainer.log_every_n_steps=1")
    assert drawn == [(epoch, batch) for epoch in (0, 1) for batch in (0, 1, 2)]
    lines = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[0] == pytest.approx(1e-5) and rates[3] == max(rates) == pytest.approx(2e-3) and rates[5] < 1e-3
    on = fit(*options, f"--ckpt_path={whole / 'checkpoints' / 'step4.ckpt'}")
    one, other = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, on))
    assert one["global_step"] == other["global_step"] == 6
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name


def test_heads_for_classes_and_offsets_learn_too(fit):
    run = fit("--model.class_head=true", "--model.regression=true", "--model.post.fusion=network", *HALF, *ONE_EPOCH)
    history = (run / "history.jsonl").read_text()
    assert "train/loss_offsets" in history and "train/loss_classes" in history
    module = BMN.from_run(run)
    assert module.network.num_classes == (3,) and module.network.offsets is not None
    assert module.post.fusion == "network"


def test_the_last_epoch_is_validated_however_rarely_others_are(fit):
    run = fit("--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 3
    assert "not validated" not in fit.cli.output.err and fit.cli.output.out.count("val average mAP") == 2
    fit("--trainer.max_steps=1", "--trainer.check_val_every_n_epoch=2")
    assert "note: the last step was not validated; 'kinema validate --ckpt_path" in fit.cli.output.err


def test_what_does_not_fit_is_said(fit, made):
    fit("--model.in_channels=16", "--trainer.max_epochs=1", status=1)
    assert "in_channels=16 and the data 8" in fit.cli.output.err
    fit("--model.post.fusion=network", "--trainer.max_epochs=1", status=1)
    assert "class_head" in fit.cli.output.err
    fit("--trainer.max_epochs=1", "--run.frame_orders=[shuffled]", status=1)
    assert "reorders the frames of videos" in fit.cli.output.err
    fit.cli("fit", "--model=BMN", "--trainer.max_epochs=1", config="quickstart/tsm.yaml", status=1)
    assert "give --data FeatureData" in fit.cli.output.err


def test_without_class_scores_all_classes_are_one(cli, tmp_path):
    features, annotations = made_set(tmp_path, scores=False)
    where = [f"--run.root={tmp_path / 'runs'}", "--run.wandb=off", "--trainer.enable_progress_bar=false", "--model=BMN"]
    where += ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data=FeatureData", f"--data.root={features}"]
    where += [f"--data.annotations={annotations}", "--data.bin_s=1", "--data.num_bins=16", "--data.max_bins=8", *SIZES]
    run = cli("fit", *where, config=None)
    assert json.loads((run / "metrics.json").read_text())["class_agnostic"] == 1
    assert "training windows without a whole segment" in cli.output.out


def test_videos_in_which_nothing_is_annotated_have_no_metrics(cli, tmp_path):
    features, annotations = made_set(tmp_path)
    content = json.loads(annotations.read_text())
    for name in ("video1", "video6"):
        content["database"][name]["annotations"] = []
    annotations.write_text(json.dumps(content))
    where = [f"--run.root={tmp_path / 'runs'}", "--run.wandb=off", "--trainer.enable_progress_bar=false", "--model=BMN"]
    where += ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data=FeatureData", f"--data.root={features}"]
    where += [f"--data.annotations={annotations}", "--data.num_bins=20", "--data.max_bins=12", *SIZES]
    run = cli("fit", *where, "--trainer.limit_val_batches=1", config=None)
    assert "note: nothing is annotated in the 1 'val' videos that were evaluated" in cli.output.err
    assert (
        "average_mAP" not in json.loads((run / "metrics.json").read_text())
        and (run / "checkpoints/last.ckpt").is_file()
    )
    run = cli("fit", *where, config=None)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["videos"] == 2 and metrics["segments"] == 2 and "nothing is annotated" not in cli.output.err
