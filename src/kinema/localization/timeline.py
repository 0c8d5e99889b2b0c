"""A picture of what happens when: a few lanes a class, a box for each segment."""

import math
from collections.abc import Sequence
from pathlib import Path

from kinema.data.untrimmed.segments import Segment
from kinema.localization.segment_files import FoundSegment, clock

_COLUMNS = 9.0  # inches
_LONGEST_LABEL = 28
_LANES = 4
_LANE_INCHES = 0.2
_GAP = 0.4  # between classes, in lanes
_SHORTEST_TOLD = 0.035  # share of the video below which a score does not fit into its box


def draw_timeline(
    path: str | Path,
    duration: float,
    segments: Sequence[FoundSegment],
    *,
    truth: Sequence[Segment] = (),
    truth_names: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw segments over the seconds of a video; the surer the network, the darker.

    Segments of one class that overlap stand in lanes above each other, the surest in the first, at most four: what overlaps
    with all of them is drawn over the last. Boxes that are wide enough tell their score.

    Args:
        path: PNG to write.
        duration: Length of the video in seconds.
        segments: What was found.
        truth: What does happen, outlined in the rows of its classes.
        truth_names: Names of the classes by the ids that are the labels of `truth`.
        title: Above the picture.

    Raises:
        ValueError: If there is no time to draw them over.
    """
    if not duration > 0:
        raise ValueError(f"the video lasts {duration} s; seconds above 0 were expected")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    happens = [(each, truth_names[each.label]) for each in truth if isinstance(each.label, int)]
    labels = sorted({each.label for each in segments} | {name for _, name in happens})
    rows = {label: _stacked([each for each in segments if each.label == label]) for label in labels}
    heights = [1 + max((lane for lane, _ in row), default=0) for row in rows.values()] or [1]
    tops = [sum(heights[:place]) + _GAP * place for place in range(len(heights))]
    total = sum(heights) + _GAP * len(heights)
    figure = Figure(figsize=(_COLUMNS, 1.0 + _LANE_INCHES * total), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    best = max((each.score for each in segments), default=0) or 1
    for top, row in zip(tops, rows.values(), strict=False):
        for lane, each in row:
            shade = 0.15 + 0.85 * max(0.0, each.score / best)
            length, middle = each.end - each.start, top + lane + 0.5
            axes.barh(
                middle, length, left=each.start, height=0.9, color="C0", alpha=shade, edgecolor="white", linewidth=0.8
            )
            if length >= _SHORTEST_TOLD * duration:
                axes.text(
                    each.start + length / 2,
                    middle,
                    f"{each.score:.2f}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if shade > 0.5 else "0.2",
                    clip_on=True,
                )
    for each, name in happens:
        place = labels.index(name)
        axes.barh(
            tops[place] + heights[place] / 2,
            each.end - each.start,
            left=each.start,
            height=heights[place] + 0.2,
            fill=False,
            edgecolor="C3",
            linewidth=1.2,
        )
    middles = [top + height / 2 for top, height in zip(tops, heights, strict=True)]
    axes.set_yticks(middles[: len(labels)], [_shortened(label) for label in labels], fontsize=8, parse_math=False)
    axes.set(xlim=(0, duration), ylim=(total - _GAP / 2, -_GAP / 2))
    ticks = [tick for tick in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(0, duration) if tick <= duration]
    axes.set_xticks(ticks, _seconds_told(ticks))
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not labels:
        axes.text(duration / 2, 0.5, "no segment was found", ha="center", va="center", color="0.4")
    told = f"{len(segments)} segments, the surer the darker" + (", annotated ones outlined" if happens else "")
    axes.set_xlabel(told, fontsize=8, color="0.4")
    axes.set_title(title, fontsize=10, parse_math=False)
    figure.savefig(path)


def _stacked(segments: Sequence[FoundSegment]) -> list[tuple[int, FoundSegment]]:
    """The lane of each segment, less sure ones first, so that surer ones are drawn over them."""
    lanes: list[list[FoundSegment]] = [[] for _ in range(_LANES)]
    placed = []
    for each in sorted(segments, key=lambda each: -each.score):
        free = (
            number
            for number, lane in enumerate(lanes)
            if all(each.end <= other.start or each.start >= other.end for other in lane)
        )
        number = next(free, _LANES - 1)
        lanes[number].append(each)
        placed.append((number, each))
    return placed[::-1]


def _seconds_told(ticks: Sequence[float]) -> list[str]:
    """Times of an axis, with as many digits as tell them apart."""
    step = ticks[1] - ticks[0]
    if step >= 0.1:
        return [clock(tick).removesuffix(".0") for tick in ticks]
    digits = math.ceil(-math.log10(step) - 1e-9)
    return [f"{tick:.{digits}f} s" for tick in ticks]


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
