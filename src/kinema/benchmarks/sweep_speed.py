"""What a sweep costs beside its runs, and what a second worker brings."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

from kinema.sweeps.grid import Sweep
from kinema.sweeps.launchers import Execute, Local
from kinema.sweeps.running import run_sweep


@dataclass(frozen=True)
class SweepSpeed:
    """The same runs with one number of workers.

    Args:
        workers: Processes of one thread.
        runs: How many runs.
        wall_s: From the start of the sweep to its last row, processes and their imports included; the median over rounds.
        training_s: What the runs themselves say they took, in total; the mean over rounds.
        beside_s: Beside training, for each run: what the workers had in all, less `training_s`, divided by `runs`.
        faster: How many times as fast as the first number of workers; the median over rounds of the ratio within one.
        rounds: How often each number had its turn.
    """

    workers: int
    runs: int
    wall_s: float
    training_s: float
    beside_s: float
    faster: float
    rounds: int = 1


def measure_sweep(
    sweep: Sweep,
    execute: Execute,
    root: Path,
    *,
    num_runs: int = 4,
    workers: Sequence[int] = (1, 2),
    rounds: int = 2,
    extra: Sequence[str] = (),
) -> list[SweepSpeed]:
    """Compute the first variants of a sweep anew with each number of workers, in turns, behind a run that does not count.

    Args:
        sweep: Which runs.
        execute: `kinema.cli.main`.
        root: Folder for the runs; what they left is removed.
        num_runs: Runs, each variant's first seed; a multiple of every number of workers, or some wait for the last.
        workers: Numbers of workers, the first of them what the others are compared with.
        rounds: How often each number has its turn; every second round takes them in reverse.
        extra: Options given to all runs, such as fewer epochs.

    Raises:
        ValueError: If the sweep has fewer variants, no round is asked for, or a run fails.
    """
    if not 0 < num_runs <= len(sweep.variants):
        raise ValueError(
            f"num_runs={num_runs}, but the sweep {sweep.name} has {len(sweep.variants)} variants; give 1 to that"
        )
    if rounds < 1:
        raise ValueError(f"rounds={rounds} measures nothing; give at least 1")
    few = replace(sweep, variants=sweep.variants[:num_runs], seeds=sweep.seeds[:1])

    def compute(what: Sweep, number: int) -> tuple[float, float]:
        folder = root / f"workers{number}"
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        rows = run_sweep(what, execute, Local(number, 1), root=folder, table=folder / what.results, extra=extra)
        wall = time.perf_counter() - start
        shutil.rmtree(folder)
        if failed := [row for row in rows if not row.done]:
            raise ValueError(f"{failed[0].variant} {failed[0].status}; try 'kinema sweep' with the same options")
        return wall, sum(row.seconds for row in rows)

    # Not counted: what the first run of all makes and reads, such as the data set.
    compute(replace(few, variants=few.variants[:1]), workers[0])
    taken: dict[int, list[tuple[float, float]]] = {number: [] for number in workers}
    for number_of_round in range(rounds):
        for number in workers if number_of_round % 2 == 0 else reversed(workers):
            taken[number].append(compute(few, number))
    walls = {number: [wall for wall, _ in turns] for number, turns in taken.items()}
    measured: list[SweepSpeed] = []
    for number, turns in taken.items():
        wall, training = median(walls[number]), fmean(training for _, training in turns)
        beside = fmean(wall * min(number, num_runs) - training for wall, training in turns) / num_runs
        faster = median(first / own for first, own in zip(walls[workers[0]], walls[number], strict=True))
        measured.append(SweepSpeed(number, num_runs, wall, training, beside, faster, rounds))
    return measured
