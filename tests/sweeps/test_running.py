"""A sweep runs what has no row, writes rows as runs end, goes on after being stopped, and survives runs that fail."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from kinema.sweeps.collect import read_results, write_results
from kinema.sweeps.grid import read_sweep
from kinema.sweeps.launchers import DONE, Job, LauncherError, Local, run_job
from kinema.sweeps.running import compute_again, rows_elsewhere, run_sweep, sweep_status

from pretended import fit


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {lr: 1}\n")

    def call(*whats, seeds=(0, 1)):
        variants = {what.replace(" ", "_"): {"m.do": what} for what in whats}
        file = tmp_path / "sweep.yaml"
        file.write_text(json.dumps({"base": "base.yaml", "seeds": seeds, "variants": variants}))
        return read_sweep(file)

    return call


def runs_of(sweep, tmp_path, launcher=None, **options):
    places = {"root": tmp_path / "runs", "table": tmp_path / "results.csv", "progress": False}
    return run_sweep(sweep, fit, launcher or Local(2), **places, **options)


def calls(tmp_path):
    return {path.parent.name: int(path.read_text()) for path in tmp_path.rglob("*.calls")}


def test_every_run_gets_a_row_and_none_is_run_twice(sweep, tmp_path):
    two = sweep("well", "fine")
    rows = runs_of(two, tmp_path)
    assert sorted((row.variant, row.seed, row.top1, row.status) for row in rows) == [
        (variant, seed, 0.5 + seed / 100, "done") for variant in ("fine", "well") for seed in (0, 1)
    ]
    assert {row.run for row in read_results(tmp_path / "results.csv")} == {run.id for run in two.runs()}
    assert runs_of(two, tmp_path) == []
    assert [row.variant for row in runs_of(sweep("well", "fine", "new"), tmp_path)] == ["new", "new"]
    log = next((tmp_path / "runs").rglob("seed0*.log"))
    assert log.read_text().startswith("training fit --config")


def test_two_runs_are_computed_at_the_same_time(sweep, tmp_path):
    rows = runs_of(sweep("meet"), tmp_path)
    assert [row.status for row in rows] == ["done"] * 2
    assert len({row.cpu_threads for row in rows}) == 2, "each in a process of its own"


def test_a_table_alone_is_enough_to_go_on_elsewhere(sweep, tmp_path):
    one = sweep("well")
    runs_of(one, tmp_path)
    (tmp_path / "runs").rename(tmp_path / "left behind")
    assert runs_of(one, tmp_path) == []


@pytest.mark.parametrize("launcher", [Local(1), Local(2)])
def test_runs_that_fail_are_kept_and_tried_again(sweep, tmp_path, launcher):
    both = sweep("fail once", "raise", "well")
    rows = runs_of(both, tmp_path, launcher)
    status = {row.variant: row.status for row in rows}
    assert status["fail_once"] == "failed: NonFiniteLossError: the loss is nan"
    assert status["raise"] == "failed: ZeroDivisionError: nothing to share" and status["well"] == "done"
    assert {row.commit for row in rows if not row.done} == {"abc"}
    again = {(row.variant, row.status) for row in runs_of(both, tmp_path, launcher)}
    assert again == {("fail_once", "done"), ("raise", "failed: ZeroDivisionError: nothing to share")}
    table = read_results(tmp_path / "results.csv")
    assert len(table) == 6 + 4
    state = sweep_status(both, tmp_path / "results.csv")
    assert {row.variant for row in state.rows} == {"fail_once", "well"}
    assert {row.variant for row in state.failed} == {"raise"} and len(state.missing) == 2


def test_a_process_that_dies_costs_its_own_run_alone(sweep, tmp_path):
    rows = {row.variant: row.status for row in runs_of(sweep("die", "well", "fine", seeds=(0,)), tmp_path, Local(1))}
    assert rows["well"] == rows["fine"] == "done"
    assert rows["die"].startswith("failed: the process that computed it died")


def test_a_run_that_was_stopped_goes_on_and_one_that_ended_unseen_is_written_down(sweep, tmp_path):
    one = sweep("well", seeds=(0, 1, 2))
    first, second, third = (run.folder(tmp_path / "runs") for run in one.runs())
    (first / "checkpoints").mkdir(parents=True)
    (first / "checkpoints" / "last.ckpt").touch()
    runs_of(one, tmp_path, only=["well"])
    (tmp_path / "results.csv").unlink()
    assert json.loads((first / "metrics.json").read_text())["resumed"]
    assert not json.loads((second / "metrics.json").read_text())["resumed"]
    (third / DONE).unlink()
    assert {row.seed for row in runs_of(one, tmp_path)} == {0, 1, 2}
    counted = [int(Path(f"{folder}.calls").read_text()) for folder in (first, second, third)]
    assert counted == [1, 1, 2]


def test_what_ended_unseen_counts_at_the_source_of_now_alone(sweep, tmp_path):
    one = sweep("well", seeds=(0,))
    runs_of(one, tmp_path)
    for source, count in (("def", 1), ("new", 2)):
        (tmp_path / "results.csv").unlink()
        assert len(runs_of(one, tmp_path, source=source)) == 1
        assert calls(tmp_path) == {"well": count}


@pytest.mark.parametrize(("source", "resumed"), [("def", True), ("new", False), ("", True)])
def test_what_was_stopped_goes_on_at_the_source_of_now_alone(source, resumed, sweep, tmp_path):
    """Both if it was stopped before its end and if it ended, where going on would be to record the old run as a new one."""
    one = sweep("well", seeds=(0, 1))
    runs_of(one, tmp_path)
    for run, ended in zip(one.runs(), (True, False), strict=True):
        folder = run.folder(tmp_path / "runs")
        (folder / "checkpoints" / "last.ckpt").touch()
        if not ended:
            (folder / DONE).unlink()
    (tmp_path / "results.csv").unlink()
    runs_of(one, tmp_path, source=source)
    ended, stopped = (json.loads((run.folder(tmp_path / "runs") / "metrics.json").read_text()) for run in one.runs())
    assert stopped["resumed"] is resumed and not ended["resumed"]


def test_a_run_that_cannot_go_on_starts_again(sweep, tmp_path):
    one = sweep("refuse to go on", seeds=(0,))
    (folder,) = (run.folder(tmp_path / "runs") for run in one.runs())
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    assert [row.status for row in runs_of(one, tmp_path)] == ["done"]
    assert not (folder / "checkpoints" / "last.ckpt").exists()


def test_rows_of_another_configuration_are_told_apart(sweep, tmp_path):
    runs_of(sweep("well"), tmp_path)
    state = sweep_status(sweep("fine"), tmp_path / "results.csv")
    assert not state.rows and len(state.missing) == 2
    assert {row.variant for row in state.foreign} == {"well"}


def test_a_run_that_another_experiment_has_is_taken_over(sweep, tmp_path):
    """At the same source alone, and under the name that it has here."""
    one = sweep("well", "fine")
    rows = [replace(row, variant="there") for row in runs_of(one, tmp_path) if row.variant == "well"]
    table = tmp_path / "other.csv"
    of_old, changed, failed = (
        replace(rows[0], source="old"),
        replace(rows[0], uncommitted_changes=True),
        replace(rows[0], status="failed: lost"),
    )
    write_results(table, [of_old, changed, failed, rows[1]])
    elsewhere = rows_elsewhere([table], "def")
    assert elsewhere == [rows[1]] and rows_elsewhere([table], "") == []
    (tmp_path / "results.csv").unlink()
    (tmp_path / "runs").rename(tmp_path / "left behind")
    again = runs_of(one, tmp_path, elsewhere=elsewhere)
    assert sorted((row.variant, row.seed) for row in again) == [("fine", 0), ("fine", 1), ("well", 0), ("well", 1)]
    assert calls(tmp_path / "runs").keys() == {"well", "fine"}
    assert len(list((tmp_path / "runs" / one.name / "well").glob("*.calls"))) == 1, "the shared one was not computed"
    assert runs_of(one, tmp_path, elsewhere=elsewhere) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "kill"), reason="signals of POSIX")
def test_no_process_stays_behind_when_the_sweep_is_killed(sweep, tmp_path):
    sweep("sleep")
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from kinema.sweeps.grid import read_sweep; from kinema.sweeps.launchers import Local\n"
        "from kinema.sweeps.running import run_sweep; from pretended import fit\n"
        "if __name__ == '__main__':\n"
        "    here = Path(sys.argv[1])\n"
        "    places = {'root': here / 'runs', 'table': here / 'r.csv', 'progress': False}\n"
        "    run_sweep(read_sweep(here / 'sweep.yaml'), fit, Local(2), **places)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, script, tmp_path, here],
        env={**os.environ, "PYTHONPATH": f"{here}:{os.environ.get('PYTHONPATH', '')}"},
    )
    deadline = time.monotonic() + 400
    while len(facts := list(tmp_path.rglob("environment.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(0.5)
    workers = [json.loads(path.read_text())["cpu_threads"] for path in facts]
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(_runs(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(_runs(worker) for worker in workers)


def _runs(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_a_run_leaves_tied_in_a_circle_is_gone_when_the_next_begins(tmp_path):
    class Trainer:
        pass

    left = []

    def train(arguments):
        Path(*arguments).mkdir()
        lying_about = sum(trainer() is not None for trainer in left)
        trainer = Trainer()
        trainer.network = {"trainer": trainer}
        left.append(weakref.ref(trainer))
        return lying_about

    jobs = [Job((tmp_path / name,), tmp_path / name, tmp_path / f"{name}.log") for name in "ab"]
    gc.disable()
    try:
        assert [run_job(train, job).status for job in jobs] == [0, 0]
    finally:
        gc.enable()


def test_no_worker_is_told():
    with pytest.raises(LauncherError, match="give at least 1"):
        Local(0)
    assert Local(threads=10**6).workers == 1


@pytest.mark.slow
def test_a_recorded_number_can_be_computed_again(sweep, tmp_path):
    two = sweep("well", "fine")
    with pytest.raises(ValueError, match=r"no run of .* with seed 0 is recorded"):
        compute_again(two, sweep_status(two, tmp_path / "results.csv"), fit, Local(2), root=tmp_path / "again")
    runs_of(two, tmp_path)
    table = tmp_path / "results.csv"
    table.write_text(table.read_text().replace("fine,0,0.5,", "fine,0,0.75,"))
    before = table.read_text()
    state = sweep_status(two, table)
    pairs = compute_again(two, state, fit, Local(2), root=tmp_path / "again")
    assert sorted((old.variant, old.seed, old.top1, new.top1) for old, new in pairs) == [
        ("fine", 0, 0.75, 0.5),
        ("well", 0, 0.5, 0.5),
    ]
    assert len(compute_again(two, state, fit, Local(2), root=tmp_path / "once", only=["well"])) == 1
    assert table.read_text() == before


def test_a_run_that_is_stopped_again_and_again_keeps_what_it_has(sweep, tmp_path):
    one = sweep("stop", "well", seeds=(0,))
    folder = next(run.folder(tmp_path / "runs") for run in one.runs())
    for times in (1, 2):
        assert [row.variant for row in runs_of(one, tmp_path)] == ["well"][: times == 1]
        assert (folder / "checkpoints" / "last.ckpt").is_file(), times
        assert (folder / "history.jsonl").read_text().splitlines() == ["0", "1"][:times]
        assert not sweep_status(one, tmp_path / "results.csv").failed
    assert [row.status for row in runs_of(one, tmp_path)] == ["done"]
    assert json.loads((folder / "metrics.json").read_text())["resumed"]


def test_a_run_that_another_sweep_computes_is_left_to_it(sweep, tmp_path):
    one = sweep("well", seeds=(0, 1))
    first, _ = (run.folder(tmp_path / "runs") for run in one.runs())
    first.parent.mkdir(parents=True)
    (first / "checkpoints").mkdir(parents=True)
    with FileLock(first.with_name(f".{first.name}.lock")):
        assert [row.seed for row in runs_of(one, tmp_path)] == [1]
        assert (first / "checkpoints").is_dir()
    assert [row.seed for row in runs_of(one, tmp_path)] == [0]


def test_two_sweeps_of_one_file_share_the_work(sweep, tmp_path):
    sweep("well", seeds=(0, 1, 2, 3))
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from kinema.sweeps.grid import read_sweep
from kinema.sweeps.launchers import Local
from kinema.sweeps.running import run_sweep
from pretended import fit
here = Path({str(tmp_path)!r})
if __name__ == "__main__":
    run_sweep(read_sweep(here / "sweep.yaml"), fit, Local(1), root=here / "runs", table=here / "results.csv", progress=False)
"""
    (tmp_path / "go.py").write_text(code)
    both = [subprocess.Popen([sys.executable, str(tmp_path / "go.py")]) for _ in range(2)]
    assert [process.wait(timeout=400) for process in both] == [0, 0]
    rows = read_results(tmp_path / "results.csv")
    assert sorted(row.seed for row in rows if row.done) == [0, 1, 2, 3] == sorted(row.seed for row in rows)
    counted = [int(path.read_text()) for path in (tmp_path / "runs").rglob("*.calls")]
    assert counted == [1, 1, 1, 1]
