"""All experiments at a glance: what was recorded, what it says of the papers' claims, what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.sweeps.claims import judge
from kinema.sweeps.collect import RunRow, read_results
from kinema.sweeps.figures import draw_bars
from kinema.sweeps.grid import Sweep, read_sweep
from kinema.sweeps.running import SweepStatus, sweep_status


@dataclass(frozen=True)
class Experiment:
    """One question and where its answer stands.

    Args:
        name: Of the experiment.
        question: First line of its README.
        rows: Its finished runs; of a sweep those of its configuration now.
        sweep: Its sweep, if it is one.
        state: Where that stands.
    """

    name: str
    question: str
    rows: tuple[RunRow, ...]
    sweep: Sweep | None = None
    state: SweepStatus | None = None

    @property
    def failed(self) -> tuple[RunRow, ...]:
        return self.state.failed if self.state is not None else ()

    @property
    def title(self) -> str:
        """Of its picture."""
        return (self.sweep.title if self.sweep is not None else "") or self.name.replace("_", " ")


def read_experiments(folder: str | Path) -> list[Experiment]:
    """Every sweep below a folder of experiments, with its results so far, and every other table of runs.

    Args:
        folder: With a folder for each experiment.

    Raises:
        FileNotFoundError: If there is neither a sweep nor a table of runs.
        ValueError: If one of them cannot be read.
    """
    folder = Path(folder)
    found: list[Experiment] = []
    for home in sorted(path for path in folder.glob("*") if path.is_dir()):
        tables = set(home.glob("results*.csv"))
        for file in sorted(home.glob("sweep*.yaml")):
            sweep = read_sweep(file)
            state = sweep_status(sweep, home / sweep.results)
            tables.discard(home / sweep.results)
            found.append(Experiment(sweep.name, _question(home), state.rows, sweep, state))
        for table in sorted(tables):
            part = table.stem.removeprefix("results")
            rows = tuple(row for row in read_results(table) if row.done)
            found.append(Experiment(home.name + part, _question(home), rows))
    if not found:
        raise FileNotFoundError(f"{folder} holds no */sweep.yaml and no */results.csv; give the folder of experiments")
    return found


def _question(home: Path) -> str:
    readme = home / "README.md"
    return readme.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") if readme.is_file() else ""


def draw_experiment(path: Path, experiment: Experiment) -> None:
    """Draw the bars of an experiment: mean top-1 of every variant, every seed a dot.

    Raises:
        ValueError: If none of its runs has finished.
    """
    if not experiment.rows:
        raise ValueError(f"no run of {experiment.name} has finished, so there is nothing to draw")
    sweep = experiment.sweep
    baseline, pairs = (sweep.baseline, sweep.pairs) if sweep is not None else (None, None)
    draw_bars(path, experiment.rows, title=experiment.title, baseline=baseline, pairs=pairs)


def progress_table(experiments: Sequence[Experiment]) -> str:
    """One line an experiment: its question, runs done, failed, left out for their other configuration, and missing."""
    lines = ["| experiment | question | runs done | failed | left out | still missing |", "|---|---|---|---|---|---|"]
    for experiment in experiments:
        missing = experiment.state.missing if experiment.state is not None else ()
        told = ", ".join(
            f"{variant} {' '.join(str(run.seed) for run in missing if run.variant.name == variant)}"
            for variant in dict.fromkeys(run.variant.name for run in missing)
        )
        if missing and not experiment.rows:
            told = f"all {len(missing)}"
        left_out = len(experiment.state.foreign) if experiment.state is not None else 0
        counts = (len(experiment.rows), len(experiment.failed), left_out)
        cells = (experiment.name, experiment.question, *counts, told or "none")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def all_verdicts(experiments: Sequence[Experiment], *, measured_alone: bool = True) -> str:
    """One line a claim of any experiment: what was measured, over how many seeds, and the verdict.

    Args:
        experiments: All.
        measured_alone: Leave out claims that nothing has been measured of, for want of two seeds.
    """
    lines = [
        "| experiment | claim | the paper | measured, points with 95 % interval | seeds | verdict |",
        "|---|---|---|---|---|---|",
    ]
    waiting = 0
    for experiment in experiments:
        for claim in experiment.sweep.claims if experiment.sweep is not None else ():
            verdict, measured = judge(claim, experiment.rows)
            if measured is None and measured_alone:
                waiting += 1
                continue
            sign = "+" if claim.other is not None else ""
            figures, seeds = (
                "needs two seeds",
                len({row.seed for row in experiment.rows if row.variant == claim.variant}),
            )
            if measured is not None:
                mean, low, high = (f"{100 * value:{sign}.1f}" for value in (measured.mean, measured.low, measured.high))
                figures, seeds = f"{mean} [{low}, {high}]", measured.pairs
            cells = (experiment.name, claim, claim.source, figures, seeds, f"**{verdict}**")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    parts = ["\n".join(lines)] if len(lines) > 2 else []
    parts += [f"{waiting} claims have not been run with two seeds."] if waiting else []
    return "\n\n".join(parts)
