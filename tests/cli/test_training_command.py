"""`kinema fit | validate | test` as a user calls them, on a tiny set."""

import csv
import json
import warnings

import pytest
import torch
import yaml
from lightning import Callback

from kinema.cli import main
from kinema.cli.training import quieten

from conftest import metrics_of

FIT = ("--trainer.max_epochs", 1)


def test_fit_leaves_everything_to_run_again_and_validate_agrees(cli):
    run = cli("fit", *FIT)
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml",
        "environment.json",
        "history.jsonl",
        "metrics.json",
        "val_scores.csv",
        "val_confusion.png",
        "checkpoints",
    }
    metrics = metrics_of(run)
    assert 0 <= metrics["top1"] <= metrics["top5"] <= 1
    assert metrics["epochs"] == 1 and metrics["steps"] == 9
    assert metrics["videos"] == 24 and metrics["undecodable"] == 0 and metrics["seconds"] > 0
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert any("val/top1" in line for line in history)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["packages"]["torch"] == torch.__version__.split("+")[0]
    rows = list(csv.DictReader((run / "val_scores.csv").read_text().splitlines()))
    assert len(rows) == 24
    assert sum(int(row["right"]) for row in rows) / 24 == metrics["top1"]

    checked = cli("validate", "--config", run / "config.yaml", "--ckpt_path", run, config="quickstart/tsm.yaml")
    assert checked != run
    assert {name: metrics_of(checked)[name] for name in ("top1", "top5")} == {
        name: metrics[name] for name in ("top1", "top5")
    }
    assert (checked / "val_scores.csv").read_text() == (run / "val_scores.csv").read_text()


def test_the_command_line_beats_the_checkpoint_and_differences_are_said(cli):
    run = cli("fit", *FIT)
    other = cli("fit", "--trainer.max_epochs", 2, "--model.label_smoothing", 0.1, "--ckpt_path", run)
    assert "label_smoothing was 0.0 in the checkpoint and is 0.1 now" in cli.output.err
    saved = torch.load(other / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["label_smoothing"] == 0.1
    assert yaml.safe_load((other / "config.yaml").read_text())["model"]["init_args"]["label_smoothing"] == 0.1


def test_best_and_last_are_found_from_the_run_s_config(cli):
    run = cli("fit", *FIT)
    for which in ("best", "last"):
        checked = cli("validate", "--config", run / "config.yaml", "--ckpt_path", which)
        assert metrics_of(checked)["top1"] == metrics_of(run)["top1"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--ckpt_path", "last"), "--ckpt_path last needs a run"),
        (("--ckpt_path", "nowhere.ckpt"), "the checkpoint nowhere.ckpt does not exist"),
        (("--model.num_classes", 5), "the model has 5 classes and the data has 12"),
        (("--model.optimizer.betas", "[0.9, 0.99]"), "sgd has no betas; remove it"),
        (("--model.schedule.name", "multi_step"), "multi_step needs milestones"),
        (("--data.batch_size", 64), "36 training samples do not fill one batch of 64"),
        (("--data.resize", 32), "resize 32 is below size 64"),
        (("--model.shift_fraction", 1e-9), "moves no channel"),
    ],
)
def test_what_cannot_run_says_why(cli, arguments, text):
    cli("fit", *FIT, *arguments, status=1)
    assert text in cli.output.err


@pytest.mark.parametrize("key", ["--model.shift_fractoin=0.5", "--data.num_frmaes=4", "--trainer.max_epohcs=1"])
def test_misspelt_keys_are_errors_that_name_the_key(cli, key):
    cli("fit", *FIT, key, status=2)
    assert key.strip("-").partition("=")[0].rpartition(".")[2] in cli.output.err
    assert len(cli.output.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "TMS"], "there is no LightningModule or data module 'TMS'; did you mean TS"),
        (["--model.backbone", "r5o"], "backbone: expected a one of ['nano', 'r18'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(cli, arguments, text):
    cli("fit", *FIT, *arguments, status=2)
    assert text in cli.output.err and len(cli.output.err.splitlines()) == 1


def test_a_run_brings_its_own_configuration(cli):
    run = cli("fit", *FIT, "--model.shift_fraction", 0.5)
    again = cli("validate", "--ckpt_path", run, "--run.wandb", "off", config=None)
    assert yaml.safe_load((again / "config.yaml").read_text())["model"]["init_args"]["shift_fraction"] == 0.5


def test_weights_of_another_network_are_refused_in_one_sentence(cli):
    run = cli("fit", *FIT)
    cli("validate", "--ckpt_path", run, "--model.backbone", "r18", status=1)
    assert "weights of the checkpoint are those of another network" in cli.output.err
    assert len(cli.output.err) < 1000


def test_a_finished_run_says_that_it_has_finished(cli):
    run = cli("fit", "--trainer.max_epochs", 1)
    cli("fit", "--trainer.max_epochs", 1, "--ckpt_path", run, status=1)
    assert "has done 1 of 1 epochs" in cli.output.err
    assert len(list(run.parent.iterdir())) == 1  # and leaves no folder


def test_a_folder_of_runs_stands_for_its_newest(cli):
    run = cli("fit", *FIT, "--model.shift_fraction", 0.5, "--trainer.limit_val_batches", 1)
    again = cli("validate", "--ckpt_path", run.parent, "--run.wandb", "off", config=None)
    assert yaml.safe_load((again / "config.yaml").read_text())["model"]["init_args"]["shift_fraction"] == 0.5
    assert "limit_val_batches=1 left videos out" in cli.output.err


def test_an_evaluation_cut_short_on_purpose_is_no_error(cli):
    run = cli("fit", *FIT, "--trainer.limit_val_batches", 1, "--data.eval_batch_size", 8)
    assert json.loads((run / "metrics.json").read_text())["videos"] < 24


def test_what_is_trained_on_what_is_said_first_and_each_epoch_gets_a_line(cli):
    cli("fit", "--trainer.max_epochs", 1)
    assert "12 classes (" in cli.output.out and "36 training and 24 validation videos in" in cli.output.out
    assert "epoch 1/1, loss " in cli.output.out and "val top-1 " in cli.output.out


class Interrupt(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == 2:
            raise KeyboardInterrupt


class FirstRate(Callback):
    """Which learning rate each step is taken with."""

    seen: list[float]

    def on_train_start(self, trainer, module):
        FirstRate.seen = []

    def on_train_batch_start(self, trainer, module, batch, index):
        FirstRate.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_an_interrupted_run_says_how_to_go_on(cli):
    arguments = ["--trainer.callbacks+", "test_training_command.Interrupt", "--run.checkpoint_every_steps", 1]
    cli("fit", "--trainer.max_epochs", 1, *arguments, status=130)
    assert "interrupted; go on with 'kinema fit --ckpt_path" in cli.output.err


def test_optimiser_defaults_never_leak(cli):
    run = cli("fit", *FIT, *("--model.optimizer", '{"name": "adamw", "nesterov": false, "weight_decay": null}'))
    optimizer = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]
    groups = {group["name"]: group for group in optimizer["param_groups"]}
    assert groups["weight"]["weight_decay"] == 0.05
    assert groups["norm"]["weight_decay"] == 0 and "momentum" not in groups["weight"]


def test_weights_that_are_not_there_are_missed_before_data_are_made(cli, tmp_path):
    cli("fit", *FIT, "--init_from", "NOWHERE.pth", "--data.root", tmp_path / "data", status=1)
    assert "there is no checkpoint file NOWHERE.pth; give the path of" in cli.output.err
    assert not (tmp_path / "data").exists() and not list(tmp_path.glob("runs/*/*"))


def test_init_from_another_run_loads_its_weights_but_starts_anew(cli):
    run = cli("fit", *FIT)
    started = cli("fit", *FIT, "--init_from", run / "checkpoints" / "last.ckpt", "--model.optimizer.lr", 1e-12)
    first, second = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (run, started))
    assert second["epoch"] == 0 and second["global_step"] == first["global_step"]
    kept = [name for name in first["state_dict"] if name.endswith("conv2.weight")]
    assert kept
    for name in kept:
        torch.testing.assert_close(first["state_dict"][name], second["state_dict"][name], atol=1e-6, rtol=0)


def test_a_run_that_started_from_weights_is_evaluated_and_gone_on_with(cli):
    run = cli("fit", *FIT)
    started = cli("fit", *FIT, "--init_from", run / "checkpoints" / "last.ckpt")
    cli("validate", "--ckpt_path", started, config=None)
    named = cli("fit", *FIT, "--init_from", run.parent, "--run.name", "another")
    assert f"{run.parent}" in (named / "config.yaml").read_text()
    (run / "checkpoints" / "last.ckpt").unlink()
    further = cli("fit", "--trainer.max_epochs", 2, "--ckpt_path", started, config=None)
    assert torch.load(further / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_a_run_that_goes_on_does_not_start_from_weights_again(cli):
    run = cli("fit", *FIT)
    checkpoint = run / "checkpoints" / "last.ckpt"
    # As a job script does that SLURM starts again, and a sweep of runs that start from weights.
    again = ("--trainer.max_epochs", 2, "--ckpt_path", checkpoint, "--init_from", "no such file")
    further = cli("fit", *again)
    assert "note: --ckpt_path goes on with a run" in cli.output.err
    assert torch.load(further / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_a_run_that_could_not_be_built_leaves_no_folder_and_harms_none(cli):
    run = cli("fit", *FIT)
    checkpoint = run / "checkpoints" / "last.ckpt"
    again = ("--trainer.max_epochs", 2, "--ckpt_path", checkpoint, "--run.videos_per_step", 3)
    cli("fit", *again, "--run.name", "refused", status=1)
    assert "no whole number of batches" in cli.output.err and not (run.parent.parent / "refused").exists()
    cli("fit", *again, "--run.id", run.name, status=1)
    assert checkpoint.is_file() and (run / "config.yaml").is_file()


def test_what_is_typed_wins_over_the_options_of_the_checkpoint(cli):
    run = cli("fit", *FIT)
    typed = ("--model.optimizer.lr", 0.001, "--model.optimizer.weight_decay", 0.05, "--model.optimizer.momentum", 0.5)
    further = cli("fit", "--trainer.max_epochs", 2, "--ckpt_path", run, "--model.schedule.name", "constant", *typed)
    first, second = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (run, further))
    groups = {group["name"]: group for group in second["optimizer_states"][0]["param_groups"]}
    weight = groups["weight"]
    assert (weight["lr"], weight["weight_decay"], weight["momentum"]) == (0.001, 0.05, 0.5)
    assert groups["norm"]["weight_decay"] == 0 and second["global_step"] == 2 * first["global_step"]
    rates = [json.loads(line).get("lr") for line in (further / "history.jsonl").read_text().splitlines()]
    assert [rate for rate in rates if rate is not None] == [pytest.approx(0.001)]


def test_the_first_step_of_a_stretched_schedule_is_of_the_stretched_one(cli):
    run = cli("fit", *FIT)
    ended = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert max(group["lr"] for group in ended["optimizer_states"][0]["param_groups"]) < 1e-9
    watch = ("--trainer.callbacks+", "test_training_command.FirstRate")
    cli("fit", "--trainer.max_epochs", 3, "--ckpt_path", run, *watch)
    assert FirstRate.seen[0] > 0.01


def test_epochs_of_the_schedule_are_those_of_the_data_however_training_is_limited(cli):
    steps = ("--trainer.max_epochs", -1, "--trainer.max_steps", 18, "--model.schedule.warmup_epochs", 1)
    cli("fit", *steps, "--trainer.callbacks+", "test_training_command.FirstRate")
    rates = FirstRate.seen
    assert len(rates) == 18 and rates.index(max(rates)) == 9, "36 videos in batches of 4: nine steps of warm-up"


def test_a_loss_that_is_not_finite_stops_with_the_names_of_its_videos(cli):
    run = cli(
        "fit", "--trainer.max_epochs", 3, "--model.optimizer.lr", 1e30, "--trainer.gradient_clip_val", "null", status=1
    )
    assert "NonFiniteLossError: the loss is" in cli.output.err and ".mp4" in cli.output.err
    assert (run / "error.log").is_file()


@pytest.mark.slow
def test_wandb_is_offline_without_a_key(cli, monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = cli("fit", *FIT, "--run.wandb", "auto")
    assert list(run.glob("wandb/offline-run-*/*.wandb"))


def test_compiling_needs_a_compiler(cli, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    cli("fit", *FIT, "--model.compile", "true", status=1)
    assert "compile=True needs a C++ compiler" in cli.output.err


@pytest.mark.slow
def test_a_compiled_run_keeps_the_keys_of_its_checkpoint(cli, monkeypatch):
    """Traced as for the C++ compiler, which would take a minute here; tests of latency let it write some."""
    compiling, traced = torch.compile, []

    def compile(function, **options):
        traced.append(function)
        return compiling(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", compile)
    plain, compiled = (
        cli("fit", *FIT, "--trainer.limit_train_batches", 2, "--model.compile", compile)
        for compile in ("false", "true")
    )
    assert len(traced) == 1
    keys = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"].keys() for run in (plain, compiled)
    ]
    assert keys[0] == keys[1]


def test_mixed_precision_trains(cli):
    run = cli("fit", *FIT, "--trainer.precision", "bf16-mixed")
    assert metrics_of(run)["videos"] == 24


def test_frozen_norms_keep_their_statistics_and_parameters(cli):
    run = cli("fit", *FIT, "--model.freeze_norm", "all_but_first")
    weights = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    means = {name: value for name, value in weights.items() if name.endswith("running_mean")}
    moved = [name for name, value in means.items() if value.abs().max() > 0]
    assert len(moved) == 1 and moved[0] == next(iter(means))


def test_a_run_with_a_name_of_its_own_is_not_written_over_by_what_starts_from_it(cli):
    """The identity of a run is no part of its configuration: validating or going on makes a run of its own."""
    run = cli("fit", *FIT, "--run.id", "first")
    assert run.name == "first"
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    checked = cli("validate", "--ckpt_path", run, "--run.root", run.parents[1], "--run.wandb", "off", config=None)
    further = cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 2, "--run.wandb", "off", config=None)
    assert len({run, checked, further}) == 3
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert metrics_of(further)["epochs"] == 2


def test_an_option_cut_short_is_refused(cli):
    cli("fit", "--trainer.limit_train_batch", 3, status=2)
    assert "limit_train_batch" in cli.output.err


def test_data_modules_are_known_by_name(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--model", "TSM", "--data", "MotionData", "--print_config"])
    assert ended.value.code == 0
    assert "kinema.data.datasets.MotionData" in capsys.readouterr().out


def test_an_unknown_data_module_is_told_the_known_ones(capsys):
    assert main(["fit", "--model", "TSM", "--data", "MotonData"]) == 2
    assert "did you mean MotionData?" in capsys.readouterr().err


def test_pytorch_s_advice_on_workers_is_not_repeated_and_other_warnings_stay():
    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()
        quieten()
        torch.utils.data.DataLoader([1], num_workers=10_000)
        warnings.warn("This DataLoader is another matter", UserWarning, stacklevel=1)
    assert [str(each.message) for each in told] == ["This DataLoader is another matter"]
