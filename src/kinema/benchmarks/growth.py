"""How time and memory of networks grow with the frames of a clip; what does not fit stays in the table."""

import multiprocessing
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Network = tuple[str, Mapping[str, Any]]
"""Name of a network, and its options."""


@dataclass(frozen=True)
class GrowthRow:
    """One network at one length.

    Args:
        name: What the network is called here.
        num_frames: Frames of the clip.
        median_ms: Of one clip; None if it failed.
        peak_memory_mib: Allocated at once beyond parameters and clip.
        failure: What went wrong, if anything did.
    """

    name: str
    num_frames: int
    median_ms: float | None = None
    peak_memory_mib: float | None = None
    failure: str | None = None


def measure_growth(
    networks: Mapping[str, Network],
    lengths: Sequence[int],
    *,
    mode: str = "forward",
    size: int = 224,
    rounds: int = 3,
    warmup: int = 1,
    memory_gib: float | None = None,
    known: Sequence[GrowthRow] = (),
    on_row: Callable[[Sequence[GrowthRow]], None] | None = None,
    **measuring: Any,
) -> list[GrowthRow]:
    """Time every network at every length, each in a process of its own, so that one that runs out of memory ends alone.

    Args:
        networks: Name in the table to network.
        lengths: Numbers of frames.
        mode: "forward" or "forward_backward".
        size: Side of the square frames, in pixels.
        rounds: Timed calls of each.
        warmup: Calls before these.
        memory_gib: What a process may take; nine tenths of what is free when None.
        known: Rows of an earlier call that was stopped, which are not measured again.
        on_row: Gets all rows so far after each.
        measuring: Of `kinema.evaluation.latency.compare_latency`.

    Returns:
        One row for each network and length, in that order of lengths.
    """
    limit = int((memory_gib or 0.9 * _free_gib()) * 2**30)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows: list[GrowthRow] = []
    earlier = {(row.name, row.num_frames): row for row in known}
    with Progress(*columns) as progress:
        task = progress.add_task(mode, total=len(networks) * len(lengths))
        for num_frames in lengths:
            for name, network in networks.items():
                progress.update(task, description=f"{name}, {num_frames} frames, {mode.replace('_', ' + ')}")
                options = {"mode": mode, "rounds": rounds, "warmup": warmup, **measuring}
                row = earlier.get((name, num_frames)) or _apart(name, network, num_frames, size, options, limit)
                rows.append(row)
                if on_row is not None:
                    on_row(rows)
                progress.advance(task)
    return rows


def _apart(
    name: str, network: Network, num_frames: int, size: int, options: Mapping[str, Any], limit: int
) -> GrowthRow:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, name, network, num_frames, size, dict(options), limit))
    process.start()
    sender.close()
    try:
        row = receiver.recv()
    except EOFError:
        row = None
    process.join()
    # The system ends what takes the memory of the machine by SIGKILL.
    told = "out of memory" if process.exitcode == -signal.SIGKILL else f"ended with status {process.exitcode}"
    return row or GrowthRow(name, num_frames, failure=told)


def _measure(
    sender: Connection,
    name: str,
    network: Network,
    num_frames: int,
    size: int,
    options: dict[str, Any],
    limit: int,
) -> None:
    import torch

    from kinema.evaluation.latency import compare_latency
    from kinema.models import create_model

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        torch.manual_seed(0)
        model = create_model(network[0], 400, num_frames, **network[1])
        (row,) = compare_latency({name: model}, (1, 3, num_frames, size, size), **options)
        sender.send(GrowthRow(name, num_frames, row.median_ms, row.peak_memory_mib))
    except Exception as error:  # whatever it is, it stands in the table; torch has none of its own for memory
        text = str(error)
        out = isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text
        told = f"{type(error).__name__}: {(text.splitlines() or ['no reason'])[0]}"
        sender.send(GrowthRow(name, num_frames, failure="out of memory" if out else told))
    finally:
        sender.close()


def _free_gib() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError("/proc/meminfo does not tell how much memory is free; give memory_gib")


def growth_table(rows: Sequence[GrowthRow], title: str) -> str:
    """Milliseconds and MiB as Markdown, a row for each network, a column for each length."""
    lengths = list(dict.fromkeys(row.num_frames for row in rows))
    found = {(row.name, row.num_frames): row for row in rows}
    lines = [
        "| " + " | ".join([title, *(f"T = {length}: ms, MiB" for length in lengths)]) + " |",
        "|---" * (len(lengths) + 1) + "|",
    ]
    for name in dict.fromkeys(row.name for row in rows):
        cells = [_cell(found[name, length]) for length in lengths]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def _cell(row: GrowthRow) -> str:
    if row.failure is not None or row.median_ms is None or row.peak_memory_mib is None:
        return row.failure or "no result"
    return f"{row.median_ms:,.0f}, {row.peak_memory_mib:,.0f}"


def draw_growth(path: Path, rows: Mapping[str, Sequence[GrowthRow]], *, title: str = "") -> None:
    """Draw time and memory over frames, both axes logarithmic; what failed is a cross at the top.

    Args:
        path: Picture to write.
        rows: Mode to its rows.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    names = list(dict.fromkeys(row.name for measured in rows.values() for row in measured))
    heads = {name.rpartition("=")[0] for name in names}
    labels = [name.rpartition("=")[2] if len(heads) == 1 and heads != {""} else name for name in names]
    figure = Figure(figsize=(4.2 * 2, 3.2 * len(rows) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 2, squeeze=False)
    for (mode, measured), (left, right) in zip(rows.items(), panels, strict=True):
        lengths = sorted({row.num_frames for row in measured})
        for axes, field, scale, label in (
            (left, "median_ms", 1e-3, "seconds a clip"),
            (right, "peak_memory_mib", 2**-10, "GiB at once"),
        ):
            for place, name in enumerate(names):
                own = [row for row in measured if row.name == name]
                done = [row for row in own if row.failure is None]
                # Lines that lie on one another stay to be seen: each later one is thinner.
                axes.plot(
                    [row.num_frames for row in done],
                    [scale * getattr(row, field) for row in done],
                    color=f"C{place}",
                    marker="o",
                    markersize=3,
                    linewidth=3.5 - 0.6 * place,
                    label=labels[place],
                )
                failed = [row.num_frames for row in own if row.failure is not None]
                transform = axes.get_xaxis_transform()
                axes.plot(failed, [0.97 - 0.04 * place] * len(failed), "x", color=f"C{place}", transform=transform)
            axes.set(xscale="log", yscale="log", xlabel="frames", ylabel=f"{mode.replace('_', ' + ')}: {label}")
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.minorticks_off()
            axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.spines[["top", "right"]].set_visible(False)
    handles, _ = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize=8,
        title="x: did not finish",
    )
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
