"""`kinema sweep` as a user calls it: from a question to a table, on a tiny set."""

import json
import re

import pytest
import torch

from kinema.cli import main
from kinema.sweeps.collect import RunRow, append_result, read_results
from kinema.sweeps.grid import read_sweep

from conftest import REPOSITORY, TINY, metrics_of

BASE = REPOSITORY / "experiments" / "quickstart" / "tsm.yaml"
VARIANTS = {"none": {"model.init_args.shift_fraction": 0}, "half": {"model.init_args.shift_fraction": 0.5}}


@pytest.fixture
def sweep(tmp_path):
    def call(variants=VARIANTS, **keys):
        told = {"base": str(BASE), "seeds": [0, 1], "baseline": next(iter(variants)), "variants": variants, **keys}
        folder = tmp_path / "shifts"
        folder.mkdir(exist_ok=True)
        (folder / "sweep.yaml").write_text(json.dumps(told))
        return folder / "sweep.yaml"

    return call


@pytest.fixture
def for_all(motion_root):
    pairs = zip(TINY[::2], TINY[1::2], strict=True)
    tiny = [f"{option}={value}" for option, value in pairs]
    return [
        *tiny,
        f"--data.root={motion_root}",
        "--trainer.max_epochs=1",
        "--run.wandb=off",
        "--trainer.accelerator=cpu",
    ]


@pytest.mark.slow
def test_a_sweep_leaves_rows_table_picture_and_verdict(sweep, for_all, tmp_path, capsys, cli):
    file = sweep(claims=[{"variant": "half", "above": "none", "paper": "figure 2"}])
    where = ["--root", str(tmp_path / "runs"), "--workers", "2"]
    orders = "--run.frame_orders=[frozen]"
    assert main(["sweep", str(file), *where, orders, *for_all]) == 0
    out = capsys.readouterr().out
    assert "shifts: 2 variants x 2 seeds, 4 runs to do" in out and "4 of 4 runs in" in out
    rows = read_results(file.with_name("results.csv"))
    assert sorted((row.variant, row.seed) for row in rows) == [(v, s) for v in ("half", "none") for s in (0, 1)]
    readme = file.with_name("README.md").read_text()
    assert "| half above none | figure 2 |" in readme and "| frozen |" in readme
    assert file.with_name("figure.png").stat().st_size > 2000

    assert main(["sweep", str(file), *where, orders, *for_all]) == 0
    assert "0 runs to do" in capsys.readouterr().out
    assert len(read_results(file.with_name("results.csv"))) == 4

    assert main(["sweep", str(file), "--check", "--only", "half", *where, orders, *for_all]) == 0
    (row,) = [row for row in rows if (row.variant, row.seed) == ("half", 0)]
    assert f"half, seed 0: {row.top1:.2%} again" in capsys.readouterr().out

    # A row is what the same run gives by itself, in another process.
    options = ["--model.shift_fraction", 0.5, "--seed_everything", 1, "--trainer.max_epochs", 1]
    alone = metrics_of(cli("fit", *options))
    (row,) = [row for row in rows if (row.variant, row.seed) == ("half", 1)]
    assert (row.top1, row.top5) == (alone["top1"], alone["top5"])
    (folder,) = (tmp_path / "runs" / "shifts" / "half").glob("seed1-*[!g]")
    scores = (folder / "val_scores.csv").read_text()
    assert torch.tensor(row.top1) == sum(line.split(",")[3] == "1" for line in scores.splitlines()[1:]) / 24

    file.with_name("README.md").write_text("# gone\n")
    assert main(["sweep", "collect", str(file), orders, *for_all]) == 1
    assert "has no place for results" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_that_fail_are_told_and_kept(sweep, for_all, tmp_path, capsys):
    file = sweep({"none": {}, "wild": {"model.init_args.optimizer.lr": 1.0e30}}, seeds=[0])
    assert main(["sweep", str(file), "--root", str(tmp_path / "runs"), "--workers", "1", *for_all]) == 1
    assert "wild, seed 0 failed: NonFiniteLossError: the loss is" in capsys.readouterr().err
    readme = file.with_name("README.md").read_text()
    assert "**Failed**: wild, seed 0: failed: NonFiniteLossError" in readme and "**Not run yet**: wild seed 0" in readme
    assert [row.done for row in read_results(file.with_name("results.csv")) if row.variant == "wild"] == [False]


def test_what_would_be_run_is_said_and_nothing_is_written(sweep, tmp_path, capsys):
    file = sweep()
    assert main(["sweep", str(file), "--dry-run", "--only", "half", "--data.size=32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("shift_fraction=0.5 --data.size=32" in line for line in lines[1:])
    assert not file.with_name("results.csv").exists()
    assert main(["sweep", str(file), "--dry-run", "--output", str(tmp_path / "elsewhere")]) == 0
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_stands_for_its_sweep_file(sweep, tmp_path, capsys):
    """Its results are those beside the file, not those beside the folder."""
    file = sweep()
    recorded = next(read_sweep(file).runs())
    append_result(
        file.with_name("results.csv"), RunRow("none", 0, 0.5, 1.0, 24, 0, 1, 1.0, "c0", False, "cpu", 1, recorded.id)
    )
    assert main(["sweep", str(file.parent), "--dry-run"]) == 0
    assert "3 runs to do" in capsys.readouterr().out
    assert main(["sweep", "collect", str(file.parent)]) == 0
    assert f"kinema sweep {file.parent}" in file.with_name("README.md").read_text()
    assert not (tmp_path / "README.md").exists()


def test_runs_of_other_options_do_not_take_the_place_of_recorded_ones(sweep, tmp_path, capsys):
    file = sweep()
    recorded = next(read_sweep(file).runs())
    row = RunRow("none", 0, 0.5, 1.0, 24, 0, 1, 1.0, "c0", False, "cpu", 1, recorded.id)
    append_result(file.with_name("results.csv"), row)
    before = file.with_name("results.csv").read_text()
    for command in (["sweep"], ["sweep", "collect"]):
        assert main([*command, str(file), "--trainer.max_epochs=1"]) == 1
        error = capsys.readouterr().err
        assert "holds 1 runs without --trainer.max_epochs=1" in error and "give --output FOLDER" in error
    assert file.with_name("results.csv").read_text() == before and not file.with_name("README.md").exists()
    assert main(["sweep", "collect", str(file)]) == 0
    assert "1 of 4 runs in" in capsys.readouterr().out


def test_nothing_to_collect_is_told(sweep, capsys):
    assert main(["sweep", "collect", str(sweep())]) == 1
    assert "records no run; start the sweep with" in capsys.readouterr().err


def test_a_place_that_a_variable_names_is_looked_for_once(sweep, capsys, monkeypatch, tmp_path):
    file = sweep({"a": {"data.init_args.root": "${CLIPS}/depth"}})
    monkeypatch.setenv("CLIPS", str(tmp_path / "nowhere"))
    assert main(["sweep", str(file)]) == 1
    assert f"CLIPS={tmp_path}/nowhere names no file or folder here" in capsys.readouterr().err
    assert not file.with_name("results.csv").exists()


def test_options_that_exclude_or_need_others(sweep, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", str(sweep()), "--check", "--dry-run"])
    assert "not allowed with argument" in capsys.readouterr().err
    assert main(["sweep", str(sweep()), "--slurm", "timeout_min=5"]) == 1
    assert "--slurm timeout_min=5 needs --launcher slurm, and local was given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ({"a": {"model.init_args.shift_fracton": 0}}, "the variant a: .*shift_fracton"),
        ({"a": {"model.init_args.shift_fraction": "much"}}, "the variant a: .*much"),
    ],
)
def test_a_misspelt_option_is_told_before_anything_runs(sweep, variants, told, capsys):
    file = sweep(variants)
    assert main(["sweep", str(file)]) == 1
    error = capsys.readouterr().err
    assert re.search(told, error), error
    assert not file.with_name("results.csv").exists()


def test_a_misspelt_option_for_all_runs_is_no_fault_of_a_variant(sweep, capsys):
    assert main(["sweep", str(sweep()), "--trainer.max_epoch=1"]) == 1
    error = capsys.readouterr().err
    assert "an option for all runs: " in error and "max_epoch" in error and "variant" not in error


def test_places_that_are_not_there_are_told(sweep, capsys, monkeypatch):
    file = sweep()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["sweep", str(file), "--launcher", "slurm"]) == 1
    error = capsys.readouterr().err
    assert "submitit is not installed" in error or "there is no sbatch here" in error
    assert main(["sweep", str(file), "--launcher", "ray"]) == 1
    error = capsys.readouterr().err
    assert "Ray is not installed" in error or "no Ray cluster is named" in error
    assert main(["sweep", str(file), "--only", "third"]) == 1
    assert "--only names third, which is no variant; the variants are none, half" in capsys.readouterr().err
    assert main(["sweep", str(file.with_name("no.yaml"))]) == 1


def test_stray_arguments_are_refused(sweep, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", str(sweep()), "--wokers", "2"])
    assert "--wokers 2 is not understood" in capsys.readouterr().err
