"""From run folders to one table: mean, spread over seeds, and the paired difference with its interval."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from kinema.evaluation.frame_order import FRAME_ORDERS


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
        commit: Commit of kinema.
        uncommitted_changes: Whether that source had changes.
        device: What it ran on.
        cpu_threads: Threads of torch.
        run: Name of the run folder.
        source: The source alone (git's hash of its folder), which other files of a commit do not change.
        parameters: Of the network.
        top1_shuffled: Top-1 with the frames of every video shuffled; None where that was not asked for.
        top1_reversed: Reversed.
        top1_frozen: All of them the middle one.
        torch: Version of torch, which decides on the last bits of a sum; "" where it was not recorded.
        status: "done", or "failed: " and why; a failed run has no figures.
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
    source: str = ""
    parameters: int = 0
    top1_shuffled: float | None = None
    top1_reversed: float | None = None
    top1_frozen: float | None = None
    torch: str = ""
    status: str = "done"

    @property
    def done(self) -> bool:
        return self.status == "done"


def validation_curve(run: Path) -> list[tuple[int, float]]:
    """Epochs done and validation top-1 after each, from a run's `history.jsonl`."""
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["epoch"] + 1, line["val/top1"]) for line in lines if "val/top1" in line]


def read_run(folder: Path) -> RunRow | None:
    """Read one run folder; None if it has not finished, or is an evaluation, which has trained nothing.

    The folder's parent is the variant, as in `runs/<name>/<id>`.
    """
    if not (folder / "metrics.json").is_file():
        return None
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if not _trained_to_the_end(folder, metrics):
        return None
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    if "epochs" not in metrics:  # a run of an early version
        metrics["epochs"] = len(validation_curve(folder))
    known: dict[str, Any] = {**environment, **metrics, "variant": folder.parent.name, "run": folder.name}
    known["torch"] = environment.get("packages", {}).get("torch", "")
    return RunRow(**{field.name: known.get(field.name, _missing(field)) for field in fields(RunRow)})


def _trained_to_the_end(folder: Path, metrics: Mapping[str, Any]) -> bool:
    if metrics.get("stage", "fit") != "fit":
        return False
    if "finished" in metrics or not (folder / "config.yaml").is_file():
        return bool(metrics.get("finished", True))
    # A run of an earlier version, which did not say it.
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    wanted = (config.get("trainer") or {}).get("max_epochs")
    return wanted in (None, -1) or metrics.get("epochs", wanted) >= wanted


def _missing(field: Field) -> Any:
    return 0 if field.default is MISSING else field.default


def failed_row(variant: str, seed: int, run: str, reason: str, **facts: Any) -> RunRow:
    """The row of a run that came to nothing.

    Args:
        variant, seed, run: As in `RunRow`.
        reason: Why.
        facts: What is known nonetheless, such as the commit.
    """
    known: dict[str, Any] = {
        "top1": math.nan,
        "top5": math.nan,
        "videos": 0,
        "undecodable": 0,
        "epochs": 0,
        "seconds": 0.0,
        "commit": "",
        "uncommitted_changes": False,
        "device": "",
        "cpu_threads": 0,
        **facts,
        "status": "failed: " + " ".join(reason.split())[:300],
    }
    return RunRow(variant=variant, seed=seed, run=run, **known)


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


def append_result(path: Path, row: RunRow) -> None:
    """Add a row to a table, which is made if it is not there."""
    columns = [field.name for field in fields(RunRow)]
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            if next(csv.reader(file), []) == columns:
                text = io.StringIO()
                csv.DictWriter(text, columns, lineterminator="\n").writerow(asdict(row))
                with path.open("a", encoding="utf-8") as table:
                    table.write(text.getvalue())
                return
    # A new table, or one of fewer columns.
    write_results(path, [*(read_results(path) if path.is_file() else []), row])


def write_results(path: Path, rows: Sequence[RunRow]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(RunRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_results(path: Path) -> list[RunRow]:
    def parsed(name: str, text: str) -> Any:
        kind: Any = types[name]
        if kind == float | None:
            return float(text) if text else None
        return text == "True" if kind is bool else kind(text)

    types = {field.name: field.type for field in fields(RunRow)}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    unknown = sorted(set(rows[0]) - set(types)) if rows else []
    if unknown:
        raise ValueError(f"{path} has the columns {unknown}, which are none of a table of runs")
    try:
        return [RunRow(**{name: parsed(name, text) for name, text in row.items()}) for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of runs: {error}; restore it, or remove it and collect again") from error


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


def mean_interval(rows: Sequence[RunRow], variant: str, metric: str = "top1") -> Difference:
    """Mean of a variant over seeds, with its two-sided 95 % interval (Student's t), which ends where shares end.

    Raises:
        ValueError: If it has fewer than two seeds.
    """
    values = [getattr(row, metric) for row in rows if row.variant == variant]
    if len(values) < 2:
        raise ValueError(f"{variant} has {len(values)} runs; an interval needs at least two")
    mean, half = fmean(values), _half_width(values)
    return Difference(mean, max(0.0, mean - half), min(1.0, mean + half), len(values))


def markdown_table(rows: Sequence[RunRow], *, baseline: str | None = None) -> str:
    """Summarise runs: one line a variant, mean ± standard deviation over seeds, difference to the baseline.

    Parameters, and top-1 with frames in another order, have a column where all rows have them.
    """
    orders = [name for name in FRAME_ORDERS if all(getattr(row, f"top1_{name}") is not None for row in rows)]
    counted = all(row.parameters for row in rows)
    head = ["variant", *(["parameters"] if counted else []), "top-1 %", "top-5 %", *orders, "seeds", "videos"]
    head += ["seconds a run", *([f"top-1 minus {baseline}, 95 % interval"] if baseline else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for variant in dict.fromkeys(row.variant for row in rows):
        of_variant = [row for row in rows if row.variant == variant]
        cells = [
            variant,
            *(["/".join(dict.fromkeys(f"{row.parameters:,}" for row in of_variant))] if counted else []),
            _spread([100 * row.top1 for row in of_variant]),
            _spread([100 * row.top5 for row in of_variant]),
            *(_spread([100 * getattr(row, f"top1_{order}") for row in of_variant]) for order in orders),
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
        return "needs two shared seeds" if any(row.variant == variant for row in rows) else "not run"
    return f"{100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _half_width(values: Sequence[float]) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
