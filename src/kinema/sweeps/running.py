"""Run what a sweep still needs, and write every run down as it ends."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kinema.sweeps.collect import RunRow, append_result, failed_row, read_results, read_run
from kinema.sweeps.grid import Sweep, SweepRun
from kinema.sweeps.launchers import DONE, Execute, Job, Launcher


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands.

    Args:
        rows: Of finished runs, in the order of the sweep.
        missing: Runs that have not finished.
        failed: The last row of each missing run that failed.
        foreign: Rows of the table that are none of this sweep's runs: of another configuration, or a variant since removed.
    """

    rows: tuple[RunRow, ...]
    missing: tuple[SweepRun, ...]
    failed: tuple[RunRow, ...]
    foreign: tuple[RunRow, ...]

    @property
    def recorded(self) -> bool:
        """Whether there is anything to tell of."""
        return bool(self.rows or self.failed or self.foreign)


def sweep_status(sweep: Sweep, table: Path, extra: Sequence[str] = ()) -> SweepStatus:
    """Read the table of a sweep.

    Args:
        sweep: The sweep.
        table: Its results.csv, which need not be there.
        extra: Options given to all runs.
    """
    known = read_results(table) if table.is_file() else []
    wanted = {(run.variant.name, run.id): run for run in sweep.runs(extra)}
    done = {(row.variant, row.run): row for row in known if row.done and (row.variant, row.run) in wanted}
    failed = {(row.variant, row.run): row for row in known if not row.done and (row.variant, row.run) in wanted}
    return SweepStatus(
        rows=tuple(done[key] for key in wanted if key in done),
        missing=tuple(run for key, run in wanted.items() if key not in done),
        failed=tuple(row for key, row in failed.items() if key not in done),
        foreign=tuple(row for row in known if (row.variant, row.run) not in wanted),
    )


def run_sweep(
    sweep: Sweep,
    execute: Execute,
    launcher: Launcher,
    *,
    root: Path,
    table: Path,
    extra: Sequence[str] = (),
    only: Sequence[str] = (),
    elsewhere: Sequence[RunRow] = (),
    source: str = "",
    progress: bool = True,
) -> list[RunRow]:
    """Compute the runs that have no row yet, and append each to the table as it ends.

    A run that failed before is tried again, from its beginning; its old row stays. One that was stopped has no row and goes on
    from its last checkpoint, and one that ended while nobody looked is only written down, if they are of the source of now.
    Several sweeps of one file share the work: what another process computes is left to it.

    Args:
        sweep: What to run.
        execute: `kinema.cli.main`.
        launcher: Where.
        root: Folder of all runs.
        table: The results.csv of the experiment.
        extra: Options given to all runs.
        only: Variants to run; all when empty.
        elsewhere: Rows that other experiments have; one of the same run is taken over, see `rows_elsewhere`.
        source: Git's hash of the source that would compute the runs now; any will do when empty.
        progress: Show a bar with the time left, on the error stream.

    Returns:
        The rows of this call, failed ones too.
    """
    state = sweep_status(sweep, table, extra)
    runs = [run for run in state.missing if not only or run.variant.name in only]
    failed_before = {(row.variant, row.run) for row in state.failed}
    new: list[RunRow] = []
    jobs: list[Job] = []
    waiting: list[SweepRun] = []
    known = {row.run: row for row in elsewhere}
    for run in runs:
        if run.id in known:
            row = replace(known[run.id], variant=run.variant.name)
            _record(table, row)
            new.append(row)
            continue
        folder = run.folder(root)
        row = _row_of(run, folder) if (folder / DONE).is_file() else None
        if row is not None and source in ("", row.source):
            _record(table, row)
            new.append(row)
            continue
        (folder / DONE).unlink(missing_ok=True)
        arguments = tuple(run.arguments(root))
        stopped = (folder / "checkpoints" / "last.ckpt").is_file() and (run.variant.name, run.id) not in failed_before
        # Else one run would be of two versions of the code, and be recorded as of the second.
        stopped = stopped and source in ("", _facts_of(folder).get("source"))
        resume = (*arguments, "--ckpt_path", str(folder)) if stopped else None
        jobs.append(Job(arguments, folder, folder.with_name(f"{folder.name}.log"), resume))
        waiting.append(run)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not progress) as bar:
        total = len(state.rows) + len(runs)
        task = bar.add_task(sweep.name, total=total, completed=total - len(jobs))
        for place, outcome in launcher.outcomes(execute, jobs) if jobs else ():
            run, job = waiting[place], jobs[place]
            if not outcome.ended:
                if progress:
                    told = f"{run.variant.name}, seed {run.seed}: {outcome.said}"
                    bar.console.print(told, highlight=False, markup=False)
                continue
            row = _row_of(run, job.folder) if outcome.status == 0 else None
            if row is None:
                said = outcome.said or "it ended without results"
                row = failed_row(run.variant.name, run.seed, run.id, said, **_facts_of(job.folder))
            _record(table, row)
            new.append(row)
            bar.advance(task)
            if progress:
                bar.console.print(_told(row, job), highlight=False, markup=False)
    return new


def _record(table: Path, row: RunRow) -> None:
    """Append a row; not a second one of a run that another sweep has recorded since."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(table.with_name(f".{table.name}.lock")):
        known = read_results(table) if table.is_file() else []
        if not any(each.done and (each.variant, each.run) == (row.variant, row.run) for each in known):
            append_result(table, row)


def rows_elsewhere(tables: Iterable[Path], source: str) -> list[RunRow]:
    """Finished runs of other experiments that count for this one too: their ids say that they are the same runs.

    Only those of the same source without changes, so that no experiment mixes versions by it.

    Args:
        tables: The results.csv of the others.
        source: Git's hash of the source that would compute the runs now; nothing is shared when empty.
    """
    rows = [row for table in tables for row in read_results(table)] if source else []
    return [row for row in rows if row.done and row.source == source and not row.uncommitted_changes]


def compute_again(
    sweep: Sweep,
    state: SweepStatus,
    execute: Execute,
    launcher: Launcher,
    *,
    root: Path,
    extra: Sequence[str] = (),
    only: Sequence[str] = (),
) -> list[tuple[RunRow, RunRow]]:
    """Compute recorded runs of the first seed a second time, as whoever doubts a number would.

    Args:
        sweep, execute, launcher, extra, only: As for `run_sweep`.
        state: Where the sweep stands.
        root: Empty folder for the new runs and their table.

    Returns:
        What is recorded and what came out now, for each.

    Raises:
        ValueError: If none of them is recorded.
    """
    first = sweep.seeds[0]
    recorded = {row.variant: row for row in state.rows if row.seed == first and (not only or row.variant in only)}
    if not recorded:
        raise ValueError(f"no run of {sweep.name} with seed {first} is recorded; run the sweep first")
    once = replace(sweep, seeds=(first,))
    rows = run_sweep(once, execute, launcher, root=root, table=root / once.results, extra=extra, only=tuple(recorded))
    return [(recorded[row.variant], row) for row in rows]


def _row_of(run: SweepRun, folder: Path) -> RunRow | None:
    row = read_run(folder)
    return row and replace(row, variant=run.variant.name, seed=run.seed)


def _facts_of(folder: Path) -> dict[str, object]:
    """What a failed run still says of itself: the source and the machine."""
    path = folder / "environment.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    names = ("commit", "source", "uncommitted_changes", "device", "cpu_threads")
    return {name: told[name] for name in names if name in told}


def _told(row: RunRow, job: Job) -> str:
    if not row.done:
        return f"{row.variant}, seed {row.seed}: {row.status}; see {job.log}"
    return f"{row.variant}, seed {row.seed}: top-1 {row.top1:.1%} in {row.seconds:.0f} s"
