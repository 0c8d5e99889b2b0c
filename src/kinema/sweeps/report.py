"""Write the results of an experiment into its folder: the rows, the picture, and the table in its README."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from kinema.sweeps.claims import Claim, Verdict, judge, verdict_table
from kinema.sweeps.collect import RunRow, markdown_table, read_runs, validation_curve, write_results
from kinema.sweeps.figures import draw_bars, draw_curves
from kinema.sweeps.grid import Sweep, read_sweep
from kinema.sweeps.running import SweepStatus, sweep_status

INDEX_BEGIN, INDEX_END = "<!-- index: written by a command, not by hand -->", "<!-- end of index -->"


def result_marks(part: str = "") -> tuple[str, str]:
    """The two lines of a README between which results stand, those of `sweep-PART.yaml` if a part is named."""
    what = f"results of {part}" if part else "results"
    return f"<!-- {what}: written by a command, not by hand -->", f"<!-- end of {what} -->"


def write_report(
    folder: Path,
    runs: Sequence[Path],
    *,
    command: str,
    baseline: str | None = None,
    curves: bool = False,
    ceiling: float | None = None,
    title: str = "",
) -> list[RunRow]:
    """Collect finished runs into `results.csv`, `figure.png` and the marked part of `README.md` of an experiment.

    Args:
        folder: Folder of the experiment.
        runs: Folders that hold the runs, such as `runs/quickstart-tsm`.
        command: The command that writes this again, quoted beside the table.
        baseline: Variant that the others are compared with, seed by seed.
        curves: Draw validation accuracy over epochs, not bars.
        ceiling: Dashed line in the curves.
        title: Above the picture.

    Raises:
        FileNotFoundError: If no run has finished.
        ValueError: If the README has no place for results.
    """
    rows = read_runs(runs)
    write_results(folder / "results.csv", rows)
    if curves:
        by_variant: dict[str, list[list[tuple[int, float]]]] = {}
        for row in rows:
            where = next(path for root in runs for path in root.rglob(row.run) if path.parent.name == row.variant)
            by_variant.setdefault(row.variant, []).append(validation_curve(where))
        draw_curves(folder / "figure.png", by_variant, ceiling=ceiling, title=title)
    else:
        draw_bars(folder / "figure.png", rows, title=title)
    insert_results(
        folder / "README.md",
        f"{markdown_table(rows, baseline=baseline)}\n\n{_provenance(rows)}\n\n```bash\n{command}\n```",
    )
    return rows


def write_sweep_report(sweep: Sweep, state: SweepStatus, folder: Path, *, command: str) -> None:
    """Write where a sweep stands into its folder: `figure.png`, and the table and verdicts in `README.md`.

    Where nothing but runs of another configuration, or failed ones, is recorded, the README says that, and the picture of
    what was there before is taken away.

    Args:
        sweep: The sweep.
        state: What has been run of it.
        folder: Gets picture and README, which must have the two marks.
        command: The command that runs the sweep and writes this.

    Raises:
        FileNotFoundError: If no run is recorded.
        ValueError: If the README has no place for results.
    """
    rows = list(state.rows)
    marks, told = result_marks(sweep.part), f"```bash\n{command}\n```"
    if not state.recorded:
        raise FileNotFoundError(f"no run of the sweep {sweep.name} has finished; start it with 'kinema sweep'")
    if not rows:
        (folder / sweep.figure).unlink(missing_ok=True)
        parts = ["No finished run of the configuration of now is recorded.", *_flags(state), told]
        insert_results(folder / "README.md", "\n\n".join(parts), marks=marks)
        return
    title = sweep.title or sweep.name.replace("_", " ")
    draw_bars(
        folder / sweep.figure, rows, title=title, baseline=sweep.baseline, pairs=sweep.pairs, label=_axis_of(sweep)
    )
    baseline = sweep.baseline if any(row.variant == sweep.baseline for row in rows) else None
    parts = [markdown_table(rows, baseline=baseline), f"![Top-1 of every variant; dots are seeds]({sweep.figure})"]
    if sweep.claims:
        parts.append(verdict_table(sweep.claims, rows))
        parts += _without_width(sweep.claims, rows)
    parts += [*_flags(state), _provenance(rows, sweep.results), told]
    insert_results(folder / "README.md", "\n\n".join(parts), marks=marks)


def _axis_of(sweep: Sweep) -> str:
    held_out = any(option.endswith(".hold_out") for variant in sweep.variants for option in variant.changes)
    return f"top-1 on {'held-out training' if held_out else 'validation'} videos, %"


def _without_width(claims: Sequence[Claim], rows: Sequence[RunRow]) -> list[str]:
    """What a reader must know of verdicts that look certain because all seeds came to one number."""
    judged = [(claim, judge(claim, rows)[1]) for claim in claims]
    alike = [str(claim) for claim, measured in judged if measured is not None and measured.high - measured.low < 1e-9]
    if not alike:
        return []
    return [f"**Without width**: all seeds came to one number, so the interval holds nothing else: {'; '.join(alike)}."]


def _flags(state: SweepStatus) -> list[str]:
    """What a reader must know of a table that is not whole."""
    flags = []
    if state.failed:
        told = "; ".join(f"{row.variant}, seed {row.seed}: {row.status}" for row in state.failed)
        flags.append(f"**Failed**: {told}.")
    if state.missing:
        told = ", ".join(f"{run.variant.name} seed {run.seed}" for run in state.missing)
        flags.append(f"**Not run yet**: {told}.")
    if state.foreign:
        told = "; ".join(f"{row.variant}, seed {row.seed}: {_came_to(row)}" for row in state.foreign)
        flags.append(f"**Left out**, being of another configuration than that of the sweep now: {told}.")
    sources = list(dict.fromkeys(row.source for row in state.rows))
    if len(sources) > 1:
        counts = ", ".join(
            f"{sum(row.source == source for row in state.rows)} of `{source[:10]}`" for source in sources
        )
        flags.append(f"**Mixed**: the runs are of {len(sources)} states of the source: {counts}.")
    if any(row.uncommitted_changes for row in state.rows):
        changed = sum(row.uncommitted_changes for row in state.rows)
        flags.append(f"**Changed**: {changed} runs are of a source with changes that were not committed.")
    return flags


def _came_to(row: RunRow) -> str:
    return f"{row.top1:.1%} after {row.epochs} epochs" if row.done else row.status


def insert_results(readme: Path, text: str, *, marks: tuple[str, str] | None = None) -> None:
    """Put text between two marks of a README, those for results by default.

    Raises:
        ValueError: If a mark is missing.
    """
    begin, end = marks or result_marks()
    whole = readme.read_text(encoding="utf-8")
    before, found_begin, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{readme} has no place for results; add the two lines '{begin}' and '{end}'")
    readme.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _provenance(rows: Sequence[RunRow], results: str = "results.csv") -> str:
    commits = ", ".join(
        dict.fromkeys(f"`{row.commit[:10]}`{' with changes' if row.uncommitted_changes else ''}" for row in rows)
    )
    machines = ", ".join(
        dict.fromkeys(f"{row.device}, {row.cpu_threads} thread{'s' if row.cpu_threads != 1 else ''}" for row in rows)
    )
    epochs = "/".join(dict.fromkeys(str(row.epochs) for row in rows))
    lost = sum(row.undecodable for row in rows)
    versions = ", ".join(dict.fromkeys(row.torch or "not recorded" for row in rows))
    return (
        f"Last epoch of {epochs}; undecodable videos: {lost}; commit {commits}; {machines}; "
        f"torch {versions}. "
        f"± is the standard deviation over seeds. Every run is a row of [{results}]({results})."
    )


def _counted(claims: Sequence[Claim], rows: Sequence[RunRow]) -> str:
    if not claims or not rows:
        return "not run yet" if claims else ""
    judged = [judge(claim, rows)[0] for claim in claims]
    return ", ".join(f"{verdict}: {judged.count(verdict)}" for verdict in get_args(Verdict) if verdict in judged)


def write_index(experiments: Path, *, command: str) -> None:
    """Write the table of all sweeps, their questions and verdicts, into the README of the folder of experiments.

    Args:
        experiments: Folder of the experiments; its README must have the two marks.
        command: The command that writes this.

    Raises:
        ValueError: If the README has no place for it, or a sweep cannot be read.
    """
    lines = ["| experiment | question | runs | the papers' claims | our expectations |", "|---|---|---|---|---|"]
    for file in sorted(experiments.glob("*/sweep*.yaml")):
        sweep = read_sweep(file)
        state = sweep_status(sweep, file.with_name(sweep.results))
        theirs = _counted([claim for claim in sweep.claims if claim.paper], state.rows)
        own = _counted([claim for claim in sweep.claims if not claim.paper], state.rows)
        question = file.with_name("README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        done = f"{len(state.rows)} of {len(state.rows) + len(state.missing)}"
        place = f"{file.parent.name}/README.md{_section(file.with_name('README.md'), sweep.part)}"
        lines.append(f"| [{sweep.name}]({place}) | {question} | {done} | {theirs} | {own} |")
    text = "\n".join(lines) + f"\n\n```bash\n{command}\n```"
    insert_results(experiments / "README.md", text, marks=(INDEX_BEGIN, INDEX_END))


def _section(readme: Path, part: str) -> str:
    """The section that holds the results of a part, as the end of a link: '#real-recordings'; "" for those of the page."""
    if not part:
        return ""
    before, found, _ = readme.read_text(encoding="utf-8").partition(result_marks(part)[0])
    headings = [line.lstrip("#").strip() for line in before.splitlines() if line.startswith("## ")]
    if not found or not headings:
        return ""
    kept = "".join(letter for letter in headings[-1].lower() if letter.isalnum() or letter in " -_")
    return "#" + kept.replace(" ", "-")
