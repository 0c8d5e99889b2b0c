"""What a sweep costs beside its runs, and what a second worker brings."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinema.sweeps.grid import Sweep
from kinema.sweeps.launchers import Execute, Local
from kinema.sweeps.running import run_sweep


@dataclass(frozen=True)
class SweepSpeed:
    """The same runs with one number of workers.

    Args:
        workers: Processes of one thread.
        runs: How many runs.
        wall_s: From the start of the sweep to its last row, processes and their imports included.
        training_s: What the runs themselves say they took, in total.
        beside_s: Beside training, for each run: what the workers had in all, less `training_s`, divided by `runs`.
        faster: Times the wall time of one worker that it took.
    """

    workers: int
    runs: int
    wall_s: float
    training_s: float
    beside_s: float
    faster: float


def measure_sweep(
    sweep: Sweep,
    execute: Execute,
    root: Path,
    *,
    num_runs: int = 4,
    workers: Sequence[int] = (1, 2),
    extra: Sequence[str] = (),
) -> list[SweepSpeed]:
    """Compute the first variants of a sweep anew with each number of workers.

    Args:
        sweep: Which runs.
        execute: `kinema.cli.main`.
        root: Folder for the runs; what they left is removed.
        num_runs: Runs, each variant's first seed; a multiple of every number of workers, or some wait for the last.
        workers: Numbers of workers, the first of them what the others are compared with.
        extra: Options given to all runs, such as fewer epochs.

    Raises:
        ValueError: If the sweep has fewer variants, or a run fails.
    """
    if not 0 < num_runs <= len(sweep.variants):
        raise ValueError(
            f"num_runs={num_runs}, but the sweep {sweep.name} has {len(sweep.variants)} variants; give 1 to that"
        )
    few = replace(sweep, variants=sweep.variants[:num_runs], seeds=sweep.seeds[:1])
    measured: list[SweepSpeed] = []
    for number in workers:
        folder = root / f"workers{number}"
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        rows = run_sweep(few, execute, Local(number, 1), root=folder, table=folder / few.results, extra=extra)
        wall = time.perf_counter() - start
        shutil.rmtree(folder)
        if failed := [row for row in rows if not row.done]:
            raise ValueError(f"{failed[0].variant} {failed[0].status}; try 'kinema sweep' with the same options")
        training = sum(row.seconds for row in rows)
        beside = (wall * min(number, num_runs) - training) / num_runs
        first = measured[0].wall_s if measured else wall
        measured.append(SweepSpeed(number, num_runs, wall, training, beside, first / wall))
    return measured
