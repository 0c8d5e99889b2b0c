"""Pictures of collected runs."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from kinema.sweeps.collect import Difference, RunRow, paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    axes.set(xlabel="epoch", ylabel="top-1 on validation videos, %", ylim=(0, 101))
    figure.suptitle("\n".join(textwrap.wrap(title, width=54)))
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


def draw_bars(
    path: Path,
    rows: Sequence[RunRow],
    *,
    title: str = "",
    baseline: str | None = None,
    pairs: Mapping[str, str] | None = None,
    label: str = "top-1 on validation videos, %",
) -> None:
    """Draw the mean top-1 of each variant, every seed as a dot; upright for few variants, lying for many or beside differences.

    Where all runs were evaluated with frames in other orders, the means of those stand in the bars as marks. Beside the bars
    stands by how much each variant is above the one it is compared with, seed by seed, with its 95 % interval: bars near 100 %
    look alike.

    Args:
        path: Picture to write.
        rows: Finished runs.
        title: Above the picture.
        baseline: Variant that all others are compared with.
        pairs: Or for each of some variants the one that it is compared with.
        label: Of the axis of top-1.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    variants = list(dict.fromkeys(row.variant for row in rows))
    values = {variant: [100 * row.top1 for row in rows if row.variant == variant] for variant in variants}
    compared = dict.fromkeys(variants, baseline) if baseline is not None else dict(pairs or {})
    differences = _differences(rows, compared)
    lying = len(variants) > 4 or bool(differences)
    size = (6.4, 1.2 + 0.34 * len(variants)) if lying else (max(4.0, 1.6 + 1.2 * len(variants)), 3.6)
    if differences:
        size = (9.2, max(2.6, size[1]))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    if differences:
        axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[5, 3])
        figure.get_layout_engine().set(wspace=0.12)  # pyrefly: ignore[missing-attribute]
        _draw_differences(beside, differences, variants, baseline or "what each is compared with")
    else:
        axes = figure.subplots()
    for place, variant in enumerate(variants):
        mean, dots = fmean(values[variant]), values[variant]
        plain = variant == baseline or (not baseline and variant not in differences)
        colour = f"C{place}" if not compared else "0.5" if plain else "C0"
        style = {"color": "black", "zorder": 5, "clip_on": False, "label": None if place else "a seed"}
        if lying:
            axes.barh(place, mean, color=colour, alpha=0.6, height=0.7)
            axes.scatter(dots, [place] * len(dots), s=10, **style)
            axes.annotate(f"{mean:.1f}", (101.5, place), va="center", fontsize=8, annotation_clip=False)
        else:
            axes.bar(place, mean, color=colour, alpha=0.6, width=0.6)
            axes.scatter([place] * len(dots), dots, s=14, **style)
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
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    limits, wrapped = (0, 100), "\n".join(textwrap.wrap(title, width=int(9 * size[0])))
    if lying:
        axes.set_yticks(range(len(variants)), variants, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel=label, xlim=limits)
    else:
        axes.set_xticks(range(len(variants)), variants)
        axes.set(ylabel=label, ylim=limits)
    figure.suptitle(wrapped)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _differences(rows: Sequence[RunRow], compared: Mapping[str, str | None]) -> dict[str, Difference]:
    """Of every variant that shares two seeds with the one it is compared with."""
    found: dict[str, Difference] = {}
    for variant, other in compared.items():
        if other is not None and variant != other:
            try:
                found[variant] = paired_difference(rows, variant, other)
            except ValueError:  # too few seeds so far
                continue
    return found


def _draw_differences(axes: "Axes", differences: Mapping[str, Difference], variants: Sequence[str], other: str) -> None:
    axes.axvline(0, color="0.4", linewidth=1)
    for variant, difference in differences.items():
        mean, half = 100 * difference.mean, 100 * (difference.high - difference.mean)
        axes.errorbar(mean, variants.index(variant), xerr=half, fmt="o", color="C0", markersize=4, capsize=3)
    axes.set_xlabel(f"points above {other}\nand 95 % interval", fontsize=9)
    axes.grid(True, axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
