"""TSM's figure 2 with both axes that its text speaks of: accuracy, and time, over the share of channels moved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from kinema.sweeps.collect import RunRow
from kinema.sweeps.grid import Sweep

Curve = dict[float, list[float]]
"""Share of the channels to values, one for each seed or round."""


def accuracy_curves(sweep: Sweep, rows: Sequence[RunRow]) -> dict[str, Curve]:
    """Placement to top-1 in %, by share, of a sweep over `shift_fraction` and `placement`; no shift belongs to both."""
    curves: dict[str, Curve] = {"residual": {}, "in_place": {}}
    for variant in sweep.variants:
        changes = {name.rpartition(".")[2]: value for name, value in variant.changes.items()}
        values = [100 * row.top1 for row in rows if row.variant == variant.name]
        if "shift_fraction" in changes and values:
            share = float(changes["shift_fraction"])
            for placement in curves if share == 0 else [str(changes.get("placement", "residual"))]:
                curves[placement][share] = values
    return {placement: dict(sorted(curve.items())) for placement, curve in curves.items() if curve}


def latency_curves(measured: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Placement to time relative to the baseline, by share, of rows of `kinema bench model`; the baseline has no shift.

    Args:
        measured: Rows of one mode: "tsn_r50", "tsm_r50:shift_fraction=0.5", "tsm_r50:shift_fraction=0.5,placement=in_place".
    """
    curves: dict[str, Curve] = {"residual": {}, "in_place": {}}
    for row in measured:
        _, _, options = row["name"].partition(":")
        told = dict(pair.split("=", 1) for pair in options.split(",") if pair)
        quartiles = [row["ratio_low"], row["ratio"], row["ratio_high"]]
        share = float(told.get("shift_fraction", 0.0))
        for placement in curves if share == 0 else [told.get("placement", "residual")]:
            curves[placement][share] = quartiles
    return {placement: dict(sorted(curve.items())) for placement, curve in curves.items()}


def draw_shift_curve(
    path: Path, accuracy: Mapping[str, Curve], latency: Mapping[str, Mapping[str, Curve]], *, title: str = ""
) -> None:
    """Draw accuracy beside the time of every mode; accuracy has a dot for each seed, time its quartiles.

    Args:
        path: Picture to write.
        accuracy: Of `accuracy_curves`.
        latency: Mode, such as "forward", to `latency_curves` of it.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * (1 + len(latency)), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + len(latency), squeeze=False)[0]
    for place, (placement, curve) in enumerate(accuracy.items()):
        shares, label = range(len(curve)), placement.replace("_", "-")
        panels[0].plot(shares, [fmean(values) for values in curve.values()], color=f"C{place}", marker="o", label=label)
        for share, values in zip(shares, curve.values(), strict=True):
            panels[0].scatter([share] * len(values), values, color=f"C{place}", s=10, alpha=0.6)
    for panel, (mode, curves) in zip(panels[1:], latency.items(), strict=True):
        for place, (placement, curve) in enumerate(curves.items()):
            low, middle, high = zip(*curve.values(), strict=True)
            below = [m - a for m, a in zip(middle, low, strict=True)]
            above = [b - m for b, m in zip(high, middle, strict=True)]
            panel.errorbar(
                range(len(curve)), middle, [below, above], color=f"C{place}", marker="o", capsize=3, label=placement
            )
        panel.axhline(1, color="0.5", linestyle="--", linewidth=1)
        panel.set(ylabel="time relative to no shift")
        panel.set_title(mode.replace("_", " + "), fontsize=9)
    panels[0].set(ylabel="top-1 on validation videos, %")
    panels[0].set_title("accuracy", fontsize=9)
    shares = sorted({share for curve in accuracy.values() for share in curve})
    for panel in panels:
        panel.set_xticks(range(len(shares)), [_share(share) for share in shares])
        panel.set(xlabel="share of the channels that is moved")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)


def _share(share: float) -> str:
    return f"1/{round(1 / share)}" if 0 < share < 1 else f"{share:g}"
