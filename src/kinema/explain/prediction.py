"""One picture of what a network says of a video: frames, what it looked at, and its scores over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kinema.explain.calibration import Factors
from kinema.explain.pictures import Strip, film_row, new_figure, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 9.0


def draw_prediction(
    strips: Sequence[Strip],
    times: Sequence[float],
    scores: Float[Tensor, "V K"],
    names: Sequence[str],
    *,
    frame_times: Sequence[float] = (),
    factors: Factors | None = None,
    note: str = "",
    title: str = "",
) -> "Figure":
    """Draw frames of a clip row by row, the scores of some classes over time below, and calibration over time at the bottom.

    Args:
        strips: Rows of frames, with heat or without; all of one clip.
        times: Middle of each window in seconds, ascending.
        scores: Of the classes to show, in [0, 1], one row a window.
        names: Of these classes.
        frame_times: Seconds at which the frames were shown; written below them and marked in the scores.
        factors: Of one calibrated layer, for the clip that is shown: how its channels change over the frames.
        note: Below the scores.
        title: Above the picture.

    Raises:
        ValueError: If there is no row of frames, or times, scores and names do not fit.
    """
    if not strips:
        raise ValueError("there is no row of frames to draw; give at least one Strip")
    if tuple(scores.shape) != (len(times), len(names)):
        raise ValueError(
            f"scores of shape {tuple(scores.shape)} came with {len(times)} times and {len(names)} names; give (times, names)"
        )
    pictures = [film_row(strip) for strip in strips]
    heights = [_WIDTH * picture.shape[0] / picture.shape[1] + 0.08 for picture in pictures] + [2.0]
    heights += [1.6] if factors is not None else []
    figure = new_figure((_WIDTH + 1.4, sum(heights) + 0.9))
    axes = figure.subplots(len(heights), 1, height_ratios=heights)
    for axis, strip, picture in zip(axes, strips, pictures, strict=False):
        axis.imshow(picture, interpolation="nearest", aspect="auto")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(strip.label, rotation=0, ha="right", va="center", fontsize=8, parse_math=False)
        axis.spines[:].set_visible(False)
    count = strips[0].frames.shape[1]
    if frame_times:
        places = [pictures[0].shape[1] * (number + 0.5) / count for number in range(count)]
        axes[len(strips) - 1].set_xticks(places, [f"{seconds:.2f} s" for seconds in frame_times], fontsize=7)
        axes[len(strips) - 1].tick_params(length=0)
    _draw_scores(axes[len(strips)], times, scores.cpu().numpy(), names, frame_times, note)
    if factors is not None:
        _draw_factors(axes[-1], factors)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _draw_scores(
    axis: "Axes",
    times: Sequence[float],
    scores: np.ndarray,
    names: Sequence[str],
    frame_times: Sequence[float],
    note: str,
) -> None:
    for number, name in enumerate(names):
        axis.plot(times, scores[:, number], color=f"C{number}", label=name, linewidth=1.8, marker="o", markersize=2.5)
    for seconds in frame_times:
        axis.axvline(seconds, color="0.85", linewidth=0.8, zorder=0)
    axis.set(ylim=(-0.03, 1.03))
    axis.set_xlabel(f"seconds ({note})" if note else "seconds", fontsize=8, parse_math=False)
    axis.set_ylabel("score", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    legend = axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)  # class names are text, also those with a $


def _draw_factors(axis: "Axes", factors: Factors) -> None:
    values = factors.values[0].cpu().numpy()
    frames = np.arange(values.shape[1])
    axis.plot(frames, values.T, color="C0", alpha=min(0.6, max(0.12, 6 / len(values))), linewidth=0.7)
    axis.plot(frames, values.mean(axis=0), color="C3", linewidth=1.8)
    axis.set_ylabel(f"factors of\n{short_name(factors.layer)}", fontsize=8)
    axis.set_xlabel("frame: every channel (blue) and their mean (red)", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
