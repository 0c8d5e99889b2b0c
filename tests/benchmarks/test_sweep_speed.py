"""A sweep's own time is what is left when the runs' times are taken away."""

import json
import time
from pathlib import Path

import pytest

from kinema.benchmarks.sweep_speed import measure_sweep
from kinema.sweeps.grid import read_sweep


def waits(arguments):
    """Pretends to be a run that trains for 0.4 s and takes 0.2 s more."""
    told = dict(argument[2:].split("=", 1) for argument in arguments if "=" in argument)
    folder = Path(told["run.root"]) / told["run.name"] / told["run.id"]
    folder.mkdir(parents=True)
    time.sleep(0.6)
    metrics = {"top1": 0.5, "top5": 1.0, "videos": 4, "undecodable": 0, "epochs": 1, "seconds": 0.4}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    facts = {"seed": 0, "commit": "c", "uncommitted_changes": False, "device": "cpu", "cpu_threads": 1}
    (folder / "environment.json").write_text(json.dumps(facts))
    return 0


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {lr: 1}\n")
    (tmp_path / "sweep.yaml").write_text("{base: base.yaml, seeds: [0, 1], grid: {m.x: [1, 2, 3, 4, 5]}}")
    return read_sweep(tmp_path / "sweep.yaml")


@pytest.mark.slow
def test_own_time_and_what_a_second_worker_brings(sweep, tmp_path):
    one, two = measure_sweep(sweep, waits, tmp_path / "runs", num_runs=4, rounds=1)
    assert (one.workers, one.runs, two.workers, two.runs) == (1, 4, 2, 4)
    assert one.training_s == two.training_s == pytest.approx(1.6)
    assert one.wall_s > 2.4 and one.beside_s == pytest.approx((one.wall_s - 1.6) / 4)
    assert two.beside_s == pytest.approx((2 * two.wall_s - 1.6) / 4)
    assert one.faster == 1 and two.faster == pytest.approx(one.wall_s / two.wall_s)
    assert not list((tmp_path / "runs").iterdir())


class Told:
    """Pretends to compute, and tells which numbers of workers had their turn."""

    def __init__(self):
        self.turns = []

    def __call__(self, what, execute, launcher, **options):
        self.turns.append((launcher.workers, len(what.variants)))
        options["root"].mkdir(parents=True)
        return []


def test_numbers_of_workers_take_turns_behind_a_run_that_does_not_count(sweep, tmp_path, monkeypatch):
    told = Told()
    monkeypatch.setattr("kinema.benchmarks.sweep_speed.run_sweep", told)
    rows = measure_sweep(sweep, waits, tmp_path / "runs", num_runs=4, rounds=2)
    assert told.turns == [(1, 1), (1, 4), (2, 4), (2, 4), (1, 4)]
    assert [row.rounds for row in rows] == [2, 2] and rows[0].faster == 1
    with pytest.raises(ValueError, match="rounds=0 measures nothing"):
        measure_sweep(sweep, waits, tmp_path / "runs", num_runs=4, rounds=0)


def test_more_runs_than_variants_are_refused(sweep, tmp_path):
    with pytest.raises(ValueError, match=r"num_runs=6, but the sweep .* has 5 variants"):
        measure_sweep(sweep, waits, tmp_path / "runs", num_runs=6)
