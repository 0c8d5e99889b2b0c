"""`kinema sweep FILE`: run the variants of an experiment with several seeds, and write what they come to beside the question.

What has a row in results.csv is not run again, so a sweep that was stopped goes on, also on another machine.
"""

import argparse
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinema.cli.messages import say
from kinema.sweeps.grid import Sweep, SweepError, SweepRun, read_sweep
from kinema.sweeps.launchers import Launcher, LauncherError, Local, RayCluster, Slurm
from kinema.sweeps.report import result_marks, write_sweep_report
from kinema.sweeps.running import SweepStatus, compute_again, rows_elsewhere, run_sweep, sweep_status
from kinema.training.record import source_state, source_tree


def run(arguments: Sequence[str]) -> int:
    arguments = list(arguments[1:])
    collect = arguments[:1] == ["collect"]
    parser = _collect_parser() if collect else _parser()
    options, extra = parser.parse_known_args(arguments[1:] if collect else arguments)
    stray = [argument for argument in extra if not (argument.startswith("--") and "." in argument and "=" in argument)]
    if stray:
        parser.error(f"{' '.join(stray)} is not understood; options for all runs have the form --data.root=FOLDER")
    try:
        return (_collect if collect else _sweep)(options, extra)
    except (SweepError, LauncherError, FileNotFoundError, ValueError, OSError) as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with it")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kinema sweep",
        description=__doc__,
        epilog="Options of kinema fit with a value, such as --data.root=FOLDER, are given to all runs. "
        "'kinema sweep collect FILE' only writes table and picture again.",
    )
    _add_common(parser)
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="run these variants alone")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check",
        action="store_true",
        help="compute recorded runs of the first seed again, and compare; nothing is written",
    )
    instead.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm", "ray"),
        default="local",
        help="where runs are computed: by processes of this machine (the default), or on a cluster that is there already",
    )
    parser.add_argument("--workers", type=int, help="runs at a time on this machine; by its processors if not given")
    parser.add_argument("--threads", type=int, default=1, help="processors of each run")
    parser.add_argument("--address", help="of the Ray cluster, HOST:PORT")
    parser.add_argument(
        "--slurm", nargs="+", default=[], metavar="NAME=VALUE", help="for submitit: timeout_min=600 slurm_partition=gpu"
    )
    return parser


def _collect_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kinema sweep collect", description="Write table and picture of a sweep again."
    )
    _add_common(parser)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="such as experiments/shift_fraction/sweep.yaml; or its folder")
    parser.add_argument("--output", type=Path, help="folder of results.csv, figure.png and README.md; that of the file")


def _sweep(options: argparse.Namespace, extra: list[str]) -> int:
    from kinema.cli import main

    sweep = read_sweep(options.file)
    unknown = sorted(set(options.only) - {variant.name for variant in sweep.variants})
    if unknown:
        names = ", ".join(variant.name for variant in sweep.variants)
        raise SweepError(f"--only names {', '.join(unknown)}, which is no variant; the variants are {names}")
    _check_options(sweep, extra)
    folder = _output(sweep, options)
    state = sweep_status(sweep, folder / sweep.results, extra)
    if options.check:
        return _check(sweep, state, options, extra)
    missing = [run for run in state.missing if not options.only or run.variant.name in options.only]
    to_do = f"{sweep.name}: {len(sweep.variants)} variants x {len(sweep.seeds)} seeds, {len(missing)} runs to do"
    if options.dry_run:
        print(to_do)
        for one in missing:
            print("kinema", shlex.join(one.arguments(options.root)))
        return 0
    _keep_published(sweep, state, options, extra)
    launcher = _launcher(options)
    if options.launcher == "local":
        sweep.need_places()
    print(to_do)
    source = _source()
    folder.mkdir(parents=True, exist_ok=True)
    rows = run_sweep(
        sweep,
        main,
        launcher,
        root=options.root,
        table=folder / sweep.results,
        extra=extra,
        only=options.only,
        elsewhere=rows_elsewhere(sorted(folder.resolve().parent.glob("*/results*.csv")), source),
        source=source,
    )
    failed = [row for row in rows if not row.done]
    _write(sweep, sweep_status(sweep, folder / sweep.results, extra), options, extra)
    for row in failed:
        say(f"{row.variant}, seed {row.seed} {row.status}")
    return 1 if failed else 0


def _check(sweep: Sweep, state: SweepStatus, options: argparse.Namespace, extra: list[str]) -> int:
    from kinema.cli import main

    with tempfile.TemporaryDirectory() as folder:
        pairs = compute_again(sweep, state, main, _launcher(options), root=Path(folder), extra=extra, only=options.only)
    for recorded, again in pairs:
        if not again.done:
            told = again.status
        elif again.top1 == recorded.top1:
            told = f"{again.top1:.2%} again"
        else:
            told = f"{again.top1:.2%} instead of {recorded.top1:.2%}"
        print(f"{recorded.variant}, seed {recorded.seed}: {told}")
    return int(any(again.top1 != recorded.top1 or not again.done for recorded, again in pairs))


def _source() -> str:
    """Git's hash of the source as it runs; "" where no hash tells what that is."""
    commit, changes = source_state()
    return source_tree() if commit and not changes else ""


def _collect(options: argparse.Namespace, extra: list[str]) -> int:
    sweep = read_sweep(options.file)
    table = _output(sweep, options) / sweep.results
    state = sweep_status(sweep, table, extra)
    if not state.recorded:
        raise FileNotFoundError(f"{table} records no run; start the sweep with 'kinema sweep {options.file}'")
    _keep_published(sweep, state, options, extra)
    _write(sweep, state, options, extra)
    return 0


def _output(sweep: Sweep, options: argparse.Namespace) -> Path:
    return options.output or sweep.folder


def _keep_published(sweep: Sweep, state: SweepStatus, options: argparse.Namespace, extra: Sequence[str]) -> None:
    """Refuse to put runs with other options in the place of those that the experiment has recorded."""
    if extra and options.output is None and state.foreign and not state.rows:
        table = sweep.folder / sweep.results
        raise SweepError(
            f"{table} holds {len(state.foreign)} runs without {shlex.join(extra)}, whose table and picture these would "
            "replace; give --output FOLDER for runs of your own"
        )


def _write(sweep: Sweep, state: SweepStatus, options: argparse.Namespace, extra: Sequence[str]) -> None:
    if not state.recorded:
        return
    folder = _output(sweep, options)
    readme = folder / "README.md"
    if not readme.is_file():
        begin, end = result_marks(sweep.part)
        readme.write_text(f"# {sweep.title or sweep.name}\n\n{begin}\n\n{end}\n", encoding="utf-8")
    write_sweep_report(sweep, state, folder, command=shlex.join(["kinema", "sweep", str(options.file), *extra]))
    print(f"{len(state.rows)} of {len(state.rows) + len(state.missing)} runs in {readme}")


def _launcher(options: argparse.Namespace) -> Launcher:
    if options.slurm and options.launcher != "slurm":
        raise LauncherError(
            f"--slurm {' '.join(options.slurm)} needs --launcher slurm, and {options.launcher} was given"
        )
    if options.launcher == "slurm":
        parameters = dict(pair.split("=", 1) for pair in options.slurm)
        values: dict[str, Any] = {name: int(value) if value.isdigit() else value for name, value in parameters.items()}
        return Slurm(options.root / "submitit", threads=options.threads, **values)
    if options.launcher == "ray":
        return RayCluster(options.address, threads=options.threads)
    return Local(options.workers, options.threads)


def _check_options(sweep: Sweep, extra: Sequence[str]) -> None:
    """Read the configuration of every variant before any is run: a misspelt key fails now, not in an hour."""
    from jsonargparse import ArgumentError

    from kinema.cli.training import TrainingCLI, quieten, told_shortly

    quieten()

    class Checked(TrainingCLI):
        def instantiate_classes(self) -> None:
            pass

    for run in sweep.runs(extra):
        if run.seed != sweep.seeds[0]:
            break
        try:
            Checked(run.arguments(Path("runs")))
        except ArgumentError as error:
            whose = f"the variant {run.variant.name}" if _is_read(Checked, run) else "an option for all runs"
            raise SweepError(f"{whose}: {told_shortly(str(error))}") from error


def _is_read(cli: Any, run: SweepRun) -> bool:
    """Whether the configuration of a run can be read without what its variant changes."""
    from jsonargparse import ArgumentError

    try:
        cli(replace(run, variant=replace(run.variant, changes={})).arguments(Path("runs")))
    except ArgumentError:
        return False
    return True
