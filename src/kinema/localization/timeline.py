"""A picture of what happens when: one row a class, a bar for each segment."""

from collections.abc import Sequence
from pathlib import Path

from kinema.data.untrimmed.segments import Segment
from kinema.localization.segment_files import FoundSegment, clock

_COLUMNS = 9.0  # inches
_LONGEST_LABEL = 28


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
    from matplotlib.ticker import FuncFormatter

    happens = [(each, truth_names[each.label]) for each in truth if isinstance(each.label, int)]
    labels = sorted({each.label for each in segments} | {name for _, name in happens})
    figure = Figure(figsize=(_COLUMNS, 1.0 + 0.28 * max(1, len(labels))), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows = {label: place for place, label in enumerate(labels)}
    best = max((each.score for each in segments), default=0) or 1
    for each in sorted(segments, key=lambda each: each.score):
        shade = 0.15 + 0.85 * max(0.0, each.score / best)
        axes.barh(rows[each.label], each.end - each.start, left=each.start, height=0.62, color="C0", alpha=shade)
    for each, name in happens:
        axes.barh(
            rows[name], each.end - each.start, left=each.start, height=0.9, fill=False, edgecolor="C3", linewidth=1.2
        )
    axes.set_yticks(range(len(labels)), [_shortened(label) for label in labels], fontsize=8, parse_math=False)
    axes.set(xlim=(0, duration), ylim=(max(1, len(labels)) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds).removesuffix(".0")))
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not labels:
        axes.text(duration / 2, 0, "no segment was found", ha="center", va="center", color="0.4")
    told = title or f"{len(segments)} segments, the surer the darker" + (", annotated ones outlined" if happens else "")
    axes.set_title(told, fontsize=10, parse_math=False)
    figure.savefig(path)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
