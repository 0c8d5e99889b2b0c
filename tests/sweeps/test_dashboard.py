"""All experiments at a glance: sweeps, other tables, what is missing; and the same rows from wandb."""

from types import SimpleNamespace

import pytest

from kinema.sweeps.collect import RunRow, failed_row, write_results
from kinema.sweeps.dashboard import all_verdicts, draw_experiment, progress_table, read_experiments
from kinema.sweeps.grid import read_sweep
from kinema.sweeps.wandb_runs import read_wandb

SWEEP = """
title: A question
base: base.yaml
seeds: [0, 1]
baseline: plain
variants:
  plain: {}
  other: {model.init_args.width: 2}
claims:
  - {variant: other, above: plain, paper: "table 1: +3"}
  - {variant: plain, at_most: 50, paper: "no better than chance"}
"""


def row(variant, seed, top1, run="seed"):
    return RunRow(variant, seed, top1, 0.9, 100, 0, 3, 10.0, "abc", False, "cpu", 1, run)


@pytest.fixture
def experiments(tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"# Why {name}?\n\nMore.\n")
    for name in ("first", "second"):
        (tmp_path / name / "base.yaml").write_text("model: {init_args: {width: 1}}\n")
        (tmp_path / name / "sweep.yaml").write_text(SWEEP)
    ids = {(run.variant.name, run.seed): run.id for run in read_sweep(tmp_path / "first" / "sweep.yaml").runs()}
    rows = [
        row(*key, top1, ids[key]) for key, top1 in {("plain", 0): 0.4, ("plain", 1): 0.42, ("other", 0): 0.6}.items()
    ]
    rows.append(failed_row("other", 1, ids["other", 1], "it broke"))
    rows.append(row("plain", 0, 0.99, "of another configuration"))
    write_results(tmp_path / "first" / "results.csv", rows)
    write_results(tmp_path / "third" / "results.csv", [row("alone", 0, 0.7), failed_row("alone", 1, "r", "it broke")])
    return tmp_path


def test_every_sweep_and_every_other_table(experiments):
    first, second, third = read_experiments(experiments)
    assert [one.name for one in (first, second, third)] == ["first", "second", "third"]
    assert [one.question for one in (first, second, third)] == ["Why first?", "Why second?", "Why third?"]
    assert [one.top1 for one in first.rows] == [0.4, 0.6, 0.42], "in the order of the sweep, of its configuration alone"
    assert len(first.failed) == 1 and first.title == "A question"
    assert second.rows == () and second.sweep is not None
    assert [one.top1 for one in third.rows] == [0.7] and third.sweep is None and third.title == "third"
    with pytest.raises(FileNotFoundError, match="holds no"):
        read_experiments(experiments / "first")


def test_what_is_missing(experiments):
    lines = progress_table(read_experiments(experiments)).splitlines()
    assert lines[2] == "| first | Why first? | 3 | 1 | 1 | other 1 |"
    assert lines[3] == "| second | Why second? | 0 | 0 | 0 | all 4 |"
    assert lines[4] == "| third | Why third? | 1 | 0 | 0 | none |"


def test_verdicts_of_all(experiments):
    text = all_verdicts(read_experiments(experiments))
    assert "| first | plain at most 50 % | no better than chance | 41.0 [28.3, 53.7] | 2 | **undecided** |" in text
    assert text.endswith("3 claims have not been run with two seeds.") and "other above plain" not in text
    assert all_verdicts(read_experiments(experiments)[1:]) == "2 claims have not been run with two seeds."
    whole = all_verdicts(read_experiments(experiments), measured_alone=False)
    assert whole.count("needs two seeds") == 3 and "have not been run" not in whole
    assert "| first | other above plain | table 1: +3 | needs two seeds | 1 | **not run** |" in whole


def test_pictures(experiments, tmp_path):
    first, second, third = read_experiments(experiments)
    for experiment in (first, third):
        draw_experiment(tmp_path / "picture.png", experiment)
        assert (tmp_path / "picture.png").stat().st_size > 3000
    with pytest.raises(ValueError, match="no run of second has finished"):
        draw_experiment(tmp_path / "none.png", second)


def wandb_run(group, variant, seed, top1, *, state="finished", **summary):
    config = {"seed_everything": seed, "trainer": {"max_epochs": 7, "accelerator": "auto"}}
    told = {"val/top1": top1, "val/top5": 0.9, "val/videos": 480.0, "val/undecodable": 2.0, "_runtime": 60.5, **summary}
    told = {name: value for name, value in told.items() if value is not None}
    return SimpleNamespace(
        group=group,
        job_type=variant,
        name="x",
        id=f"{variant}-{seed}",
        state=state,
        config=config,
        summary=told,
        commit="c",
    )


def test_runs_of_a_wandb_project():
    runs = [
        wandb_run("e2", "b", 0, 0.5),
        wandb_run("e2", "a", 1, 0.4),
        wandb_run("e1", "a", 0, 0.3),
        wandb_run("e1", "a", 1, 0.3, state="running"),
        wandb_run("e1", "a", 2, None),
    ]
    asked = []
    api = SimpleNamespace(runs=lambda project: asked.append(project) or runs)
    found = read_wandb("me/kinema", api=api)
    assert asked == ["me/kinema"] and list(found) == ["e1", "e2"]
    assert [(one.variant, one.seed, one.top1) for one in found["e2"]] == [("a", 1, 0.4), ("b", 0, 0.5)]
    (only,) = found["e1"]
    assert (only.videos, only.undecodable, only.epochs, only.seconds, only.run) == (480, 2, 7, 60.5, "a-0")
    assert only.done
    with pytest.raises(ValueError, match="me/other holds no finished run"):
        read_wandb("me/other", api=SimpleNamespace(runs=lambda project: runs[3:]))
