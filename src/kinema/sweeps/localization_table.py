"""From runs of the localization network to the table of an experiment: which features localize best."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from kinema.sweeps.collect import RunRow, mean_interval, paired_difference, read_run
from kinema.sweeps.report import insert_results, result_marks


@dataclass(frozen=True)
class LocalizationRow:
    """What one run of the localization network came to.

    Args:
        variant: Which features, the name the run was given.
        seed: Seed of everything.
        average_map: Mean average precision over classes, averaged over the thresholds of overlap, 0.5 to 0.95.
        map_50: At an overlap of 0.5.
        map_75: At an overlap of 0.75.
        ar_100: Recall of 100 proposals a video, whatever their class, averaged over the thresholds.
        videos: Videos evaluated.
        segments: What is annotated in them.
        epochs: Epochs trained.
        seconds: Wall time, set-up and evaluations included.
        commit: Commit of kinema.
        uncommitted_changes: Whether that source had changes.
        device: What it ran on.
        cpu_threads: Threads of torch.
        run: Name of the run folder.
    """

    variant: str
    seed: int
    average_map: float
    map_50: float
    map_75: float
    ar_100: float
    videos: int
    segments: int
    epochs: int
    seconds: float
    commit: str
    uncommitted_changes: bool
    device: str
    cpu_threads: int
    run: str


_METRICS = {"average_map": "average_mAP", "map_50": "mAP@0.50", "map_75": "mAP@0.75", "ar_100": "AR@100"}


def read_localization_runs(folders: Sequence[Path]) -> list[LocalizationRow]:
    """Read all finished runs below some folders, ordered by variant, as the folders are, and seed.

    Runs of `kinema validate` and `test` are left out: they have trained nothing.

    Raises:
        FileNotFoundError: If there is none in one of the folders.
        ValueError: If a run is none of the localization network.
    """
    rows: list[LocalizationRow] = []
    for folder in folders:
        found = [_read(metrics.parent) for metrics in sorted(folder.rglob("metrics.json")) if _trained(metrics)]
        if not found:
            raise FileNotFoundError(f"no finished run in {folder}")
        rows += sorted(found, key=lambda row: (row.variant, row.seed, row.run))
    return rows


def _trained(metrics: Path) -> bool:
    return json.loads(metrics.read_text(encoding="utf-8")).get("stage", "fit") == "fit"


def _read(folder: Path) -> LocalizationRow:
    known: dict[str, Any] = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    known |= json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    known |= {"variant": folder.parent.name, "run": folder.name}
    absent = [name for name in _METRICS.values() if name not in known]
    if absent:
        raise ValueError(f"{folder} is no run of the localization network: its metrics have no {absent[0]}")
    known |= {ours: known[theirs] for ours, theirs in _METRICS.items()}
    return LocalizationRow(**{field.name: known[field.name] for field in fields(LocalizationRow)})


def write_localization(
    folder: Path, runs: Sequence[Path], *, baseline: str, command: str, classifiers: Sequence[Path] = ()
) -> list[LocalizationRow]:
    """Collect finished runs into `detection.csv` and the marked part of `README.md` of an experiment.

    Args:
        folder: Folder of the experiment; made, with a README, where there is none.
        runs: Folders that hold the runs of each variant.
        baseline: Variant that the others are compared with, seed by seed.
        command: The command that writes this again, quoted beside the table.
        classifiers: Runs that the features came from; told with their accuracy and commit.

    Raises:
        FileNotFoundError: If no run has finished.
        ValueError: If the README has no place for results.
    """
    rows = read_localization_runs(runs)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "README.md").is_file():
        (folder / "README.md").write_text("\n".join(["# Localization", "", *result_marks(), ""]), encoding="utf-8")
    with (folder / "detection.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(LocalizationRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    trained = [
        row for path in classifiers for metrics in path.rglob("metrics.json") if (row := read_run(metrics.parent))
    ]
    parts = [localization_table(rows, baseline=baseline), _provenance(rows)]
    if trained:
        told = "; ".join(
            f"{row.variant}, seed {row.seed}: {100 * row.top1:.1f} % of the trimmed clips, commit `{row.commit[:10]}`"
            for row in trained
        )
        parts.append(f"Features from: {told}.")
    insert_results(folder / "README.md", "\n\n".join([*parts, f"```bash\n{command}\n```"]))
    return rows


def localization_table(rows: Sequence[LocalizationRow], *, baseline: str) -> str:
    """Summarise runs: a line a variant, means over seeds, average mAP with its 95 % interval and difference."""
    head = ["features", "average mAP %", "mAP at 0.5", "mAP at 0.75", "AR@100", "seeds", "seconds a run"]
    head.append(f"average mAP minus {baseline}, 95 % interval")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    alike = cast(Sequence[RunRow], rows)  # of which only variant, seed and the metric are read
    for variant in dict.fromkeys(row.variant for row in rows):
        of_variant = [row for row in rows if row.variant == variant]
        cells = [variant]
        if len(of_variant) > 1:
            mean = mean_interval(alike, variant, "average_map")
            cells.append(f"{100 * mean.mean:.1f} ± {100 * (mean.high - mean.mean):.1f}")
        else:
            cells.append(f"{100 * of_variant[0].average_map:.1f}")
        cells += [
            f"{100 * fmean(getattr(row, name) for row in of_variant):.1f}" for name in ("map_50", "map_75", "ar_100")
        ]
        cells.append(" ".join(str(row.seed) for row in of_variant))
        cells.append(f"{fmean(row.seconds for row in of_variant):.0f}")
        cells.append("" if variant == baseline else _difference(alike, variant, baseline))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(rows: Sequence[RunRow], variant: str, baseline: str) -> str:
    try:
        found = paired_difference(rows, variant, baseline, "average_map")
    except ValueError:
        return "needs two shared seeds"
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _provenance(rows: Sequence[LocalizationRow]) -> str:
    commits = dict.fromkeys(f"`{row.commit[:10]}`{' with changes' if row.uncommitted_changes else ''}" for row in rows)
    machines = dict.fromkeys(f"{row.device}, {row.cpu_threads} thread{'s' * (row.cpu_threads != 1)}" for row in rows)
    epochs = dict.fromkeys(str(row.epochs) for row in rows)
    counts = dict.fromkeys(f"{row.videos} videos with {row.segments} segments" for row in rows)
    return (
        f"± is half the 95 % interval over seeds of the localization network. Last epoch of {'/'.join(epochs)}; "
        f"{', '.join(counts)}; commit {', '.join(commits)}; {', '.join(machines)}. Every run is a row of "
        "[detection.csv](detection.csv)."
    )
