"""From run folders to one table: mean, spread over seeds, and the paired difference with its interval."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any


@dataclass(frozen=True)
class RunRow:
    """What one run came to.

    Args:
        variant: Which variant of the experiment, the name the run was given.
        seed: Seed of everything.
        top1: Share of videos whose best guess is right, of the last epoch.
        top5: Share of videos whose label is among the five best guesses.
        videos: Videos evaluated.
        undecodable: Those of them that could not be decoded, counted as wrong.
        epochs: Epochs trained.
        seconds: Wall time, set-up and evaluations included.
        commit: Source of kinema.
        uncommitted_changes: Whether that source had changes.
        device: What it ran on.
        cpu_threads: Threads of torch.
        run: Name of the run folder.
    """

    variant: str
    seed: int
    top1: float
    top5: float
    videos: int
    undecodable: int
    epochs: int
    seconds: float
    commit: str
    uncommitted_changes: bool
    device: str
    cpu_threads: int
    run: str


def validation_curve(run: Path) -> list[tuple[int, float]]:
    """Epochs done and validation top-1 after each, from a run's `history.jsonl`."""
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["epoch"] + 1, line["val/top1"]) for line in lines if "val/top1" in line]


def read_run(folder: Path) -> RunRow | None:
    """Read one run folder; None if it has not finished.

    The folder's parent is the variant, as in `runs/<name>/<id>`.
    """
    if not (folder / "metrics.json").is_file():
        return None
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    metrics.setdefault("epochs", len(validation_curve(folder)))  # not every epoch need be validated
    known: dict[str, Any] = {**environment, **metrics, "variant": folder.parent.name, "run": folder.name}
    return RunRow(**{field.name: known.get(field.name, 0) for field in fields(RunRow)})


def read_runs(folders: Iterable[Path]) -> list[RunRow]:
    """Read all finished runs below some folders, ordered by variant and seed.

    Raises:
        FileNotFoundError: If there is none.
    """
    folders = list(folders)
    found = [read_run(metrics.parent) for folder in folders for metrics in folder.rglob("metrics.json")]
    rows = sorted((row for row in found if row is not None), key=lambda row: (row.variant, row.seed, row.run))
    if not rows:
        raise FileNotFoundError(f"no finished run in {[str(folder) for folder in folders]}")
    return rows


def write_results(path: Path, rows: Sequence[RunRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(RunRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_results(path: Path) -> list[RunRow]:
    def parsed(name: str, text: str) -> Any:
        kind: Any = types[name]
        return text == "True" if kind is bool else kind(text)

    types = {field.name: field.type for field in fields(RunRow)}
    with path.open(newline="", encoding="utf-8") as file:
        return [RunRow(**{name: parsed(name, text) for name, text in row.items()}) for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences over seeds, with its two-sided 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float
    pairs: int


def paired_difference(rows: Sequence[RunRow], variant: str, baseline: str, metric: str = "top1") -> Difference:
    """How much better a variant is than the baseline, seed by seed.

    Raises:
        ValueError: If they share fewer than two seeds, or a seed was run twice.
    """
    values: dict[str, dict[int, float]] = {variant: {}, baseline: {}}
    for row in rows:
        if row.variant in values:
            if row.seed in values[row.variant]:
                raise ValueError(f"seed {row.seed} of {row.variant} was run twice; give the runs that count")
            values[row.variant][row.seed] = getattr(row, metric)
    shared = sorted(values[variant].keys() & values[baseline].keys())
    if len(shared) < 2:
        raise ValueError(f"{variant} and {baseline} share the seeds {shared}; an interval needs at least two")
    differences = [values[variant][seed] - values[baseline][seed] for seed in shared]
    mean, half = fmean(differences), _half_width(differences)
    return Difference(mean, mean - half, mean + half, len(shared))


def markdown_table(rows: Sequence[RunRow], *, baseline: str | None = None) -> str:
    """Summarise runs: one line a variant, mean ± standard deviation over seeds, difference to the baseline."""
    lines = [
        "| variant | top-1 % | top-5 % | seeds | videos | seconds a run |"
        + (f" top-1 minus {baseline}, 95 % interval |" if baseline else ""),
        "|---|---|---|---|---|---|" + ("---|" if baseline else ""),
    ]
    for variant in dict.fromkeys(row.variant for row in rows):
        of_variant = [row for row in rows if row.variant == variant]
        cells = [
            variant,
            _spread([100 * row.top1 for row in of_variant]),
            _spread([100 * row.top5 for row in of_variant]),
            " ".join(str(row.seed) for row in of_variant),
            "/".join(dict.fromkeys(str(row.videos) for row in of_variant)),
            f"{fmean(row.seconds for row in of_variant):.0f}",
        ]
        if baseline:
            cells.append("" if variant == baseline else _interval(rows, variant, baseline))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval(rows: Sequence[RunRow], variant: str, baseline: str) -> str:
    try:
        difference = paired_difference(rows, variant, baseline)
    except ValueError:
        return "needs two shared seeds"
    return f"{100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _half_width(values: Sequence[float]) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
