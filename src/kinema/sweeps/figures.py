"""Pictures of collected runs."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from kinema.sweeps.collect import RunRow

_NAME_HEIGHT = 6.0  # of a line of text, in percent of the axis
_ORDERS = {
    "top1_shuffled": ("frames shuffled", "D", "C1"),
    "top1_reversed": ("reversed", "<", "C3"),
    "top1_frozen": ("frozen", "s", "C2"),
}
"""Columns of other orders of frames: what they are called, their mark and its colour."""


def draw_curves(
    path: Path,
    curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]],
    *,
    ceiling: float | None = None,
    title: str = "",
) -> None:
    """Draw validation accuracy over epochs, one colour a variant, one line a seed.

    Args:
        path: Picture to write.
        curves: For each variant the curves of its runs.
        ceiling: Accuracy that a network without knowledge of order cannot pass, drawn as a dashed line.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, runs in enumerate(curves.values()):
        for curve in runs:
            epochs, shares = [epoch for epoch, _ in curve], [100 * top1 for _, top1 in curve]
            axes.plot(epochs, shares, color=f"C{place}", marker="o", markersize=3)
    last = max(epoch for runs in curves.values() for curve in runs for epoch, _ in curve)
    # Right of all lines, in the order of their ends: no name stands on a line or on another name.
    ends = {variant: fmean(100 * curve[-1][1] for curve in runs) for variant, runs in curves.items()}
    for (variant, end), height in zip(ends.items(), _apart(list(ends.values()), _NAME_HEIGHT), strict=True):
        colour = f"C{list(curves).index(variant)}"
        axes.annotate(f"{variant} {end:.1f}", (last * 1.03, height), va="center", color=colour, annotation_clip=False)
    axes.set_xlim(0.9, last * 1.02)
    axes.set_xticks(range(1, last + 1, max(1, last // 10)))
    if ceiling is not None:
        axes.axhline(100 * ceiling, color="0.5", linestyle="--", linewidth=1)
        axes.annotate(
            f"no network that ignores the order of frames can pass {ceiling:.0%}",
            (1, 100 * ceiling + 1.5),
            color="0.4",
            fontsize=8,
        )
    axes.set(xlabel="epoch", ylabel="top-1 on validation videos, %", ylim=(0, 101), title=title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """The heights, moved down as far as needed to lie `least` apart."""
    placed = dict.fromkeys(range(len(heights)), 0.0)
    free = math.inf
    for index in sorted(placed, key=lambda index: -heights[index]):
        placed[index] = min(heights[index], free)
        free = placed[index] - least
    return list(placed.values())


def draw_bars(path: Path, rows: Sequence[RunRow], *, title: str = "", baseline: str | None = None) -> None:
    """Draw the mean top-1 of each variant, every seed as a dot; upright for few variants, lying for many.

    Where all runs were evaluated with frames in other orders, the means of those stand in the bars as marks.

    Args:
        path: Picture to write.
        rows: Finished runs.
        title: Above the picture.
        baseline: Variant whose mean is drawn through all others as a dashed line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    variants = list(dict.fromkeys(row.variant for row in rows))
    values = {variant: [100 * row.top1 for row in rows if row.variant == variant] for variant in variants}
    lying = len(variants) > 4
    size = (6.4, 1.2 + 0.34 * len(variants)) if lying else (max(4.0, 1.6 + 1.2 * len(variants)), 3.6)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, variant in enumerate(variants):
        mean, dots = fmean(values[variant]), values[variant]
        colour = "0.5" if variant == baseline else "C0" if baseline else f"C{place}"
        if lying:
            axes.barh(place, mean, color=colour, alpha=0.6, height=0.7)
            axes.scatter(dots, [place] * len(dots), color="black", s=12, zorder=3, clip_on=False)
            axes.annotate(f"{mean:.1f}", (101.5, place), va="center", fontsize=8, annotation_clip=False)
        else:
            axes.bar(place, mean, color=colour, alpha=0.6, width=0.6)
            axes.scatter([place] * len(dots), dots, color="black", s=14, zorder=3, clip_on=False)
            axes.annotate(f"{mean:.1f}", (place, 101.5), ha="center", annotation_clip=False)
    for column, (name, mark, colour) in _ORDERS.items():
        shares = {variant: [getattr(row, column) for row in rows if row.variant == variant] for variant in variants}
        if any(share is None for found in shares.values() for share in found):
            continue
        means = [100 * fmean(found) for found in shares.values()]
        places = range(len(variants))
        x, y = (means, places) if lying else (places, means)
        style = {"marker": mark, "color": colour, "s": 28, "edgecolors": "white", "linewidths": 0.6, "zorder": 4}
        axes.scatter(x, y, label=name, clip_on=False, **style)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    label, limits = "top-1 on validation videos, %", (0, 100)
    title = "\n".join(textwrap.wrap(title, width=int(9 * size[0])))
    if lying:
        axes.set_yticks(range(len(variants)), variants, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel=label, xlim=limits, title=title)
    else:
        axes.set_xticks(range(len(variants)), variants)
        axes.set(ylabel=label, ylim=limits)
        axes.set_title(title, pad=18)
    if baseline is not None and baseline in values:
        line = axes.axvline if lying else axes.axhline
        line(fmean(values[baseline]), color="0.4", linestyle="--", linewidth=1)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
