"""Pictures of clips with heat on them, and of calibration factors. Figures are returned; `figure.savefig(path)` writes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Num
from torch import Tensor

from kinema.explain.calibration import Factors, Variation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME_INCHES = 0.9
_HEAT = "inferno"
_FACTOR_NAMES = {"cin": "input channels", "cout": "output channels", "kernel": "taps", "bias": "bias"}


@dataclass(frozen=True)
class Strip:
    """One row of a film strip.

    Args:
        frames: Pixels as they were before they were normalised: uint8, or floats in [0, 1].
        heat: In [0, 1], drawn over the frames.
        label: Beside the row.
    """

    frames: Num[Tensor, "C T H W"]
    heat: Float[Tensor, "T H W"] | None = None
    label: str = ""


def draw_film(strips: Sequence[Strip], *, title: str = "", heat_label: str = "", strength: float = 0.65) -> "Figure":
    """Draw clips as rows of frames from left to right, heat laid over them.

    Args:
        strips: The rows; they may have different numbers of frames.
        title: Above the picture.
        heat_label: Beside the scale of the heat, which is drawn if it is given.
        strength: How much of a frame the hottest place hides, in [0, 1]. Where there is no heat the frame is seen as it is.

    Raises:
        ValueError: If there is nothing to draw, frames are no (C, T, H, W), or heat is of another size than its frames.
    """
    if not strips:
        raise ValueError("there is no row to draw; give at least one Strip")
    from matplotlib.cm import ScalarMappable

    pictures = [film_row(strip, strength) for strip in strips]
    most = max(strip.frames.shape[1] for strip in strips)
    figure = new_figure((1.9 + _FRAME_INCHES * most, 0.55 + _FRAME_INCHES * 1.04 * len(strips)))
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axis, strip, picture in zip(axes, strips, pictures, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set(xticks=[], yticks=[], xlim=(-0.5, picture.shape[1] * most / strip.frames.shape[1] - 0.5))
        axis.set_ylabel(strip.label, rotation=0, ha="right", va="center", fontsize=8, parse_math=False)
        axis.spines[:].set_visible(False)
    num_frames = strips[-1].frames.shape[1]
    width = strips[-1].frames.shape[3] + 2
    axes[-1].set_xticks([width * (frame + 0.5) for frame in range(num_frames)], range(num_frames), fontsize=8)
    axes[-1].tick_params(length=0)
    axes[-1].set_xlabel("frame", fontsize=8)
    if heat_label:
        bar = figure.colorbar(ScalarMappable(cmap=_HEAT), ax=list(axes), fraction=0.02, pad=0.01)
        bar.set_label(heat_label, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def draw_factors(factors: Sequence[Factors], *, clip: int = 0, columns: int = 4, title: str = "") -> "Figure":
    """Draw calibration factors over time: one panel a layer, with a scale of its own; a thin line a channel, a thick one
    their mean, a dotted one the value that changes nothing.

    Args:
        factors: Of the layers to draw.
        clip: Which clip of the batch.
        columns: Panels beside each other.
        title: Above the picture.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not factors:
        raise ValueError("there are no factors to draw; see kinema.explain.calibration.calibration_factors")
    rows = -(-len(factors) // columns)
    figure = new_figure((2.3 * min(columns, len(factors)), 0.5 + 1.75 * rows))
    axes = figure.subplots(rows, min(columns, len(factors)), squeeze=False)
    for place, axis in enumerate(axes.flat):
        if place >= len(factors):
            axis.set_axis_off()
            continue
        values = factors[place].values[clip].cpu().numpy()
        time = np.arange(values.shape[1])
        axis.plot(time, values.T, color="C0", alpha=min(0.6, max(0.12, 6 / len(values))), linewidth=0.7)
        axis.plot(time, values.mean(axis=0), color="C3", linewidth=1.8)
        axis.axhline(1, color="0.4", linestyle=":", linewidth=0.8)
        what = _FACTOR_NAMES.get(factors[place].factor, factors[place].factor)
        axis.set_title(f"{short_name(factors[place].layer)}\n{len(values)} {what}", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        if place + columns >= len(factors):
            axis.set_xlabel("frame of the layer", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("factor", fontsize=8)
    told = title or "Calibration factors: every channel (blue) and their mean (red)"
    figure.suptitle(told, fontsize=10, parse_math=False)
    return figure


def draw_variation(variations: Sequence[Variation], *, title: str = "") -> "Figure":
    """Draw how much the factors of every layer vary over time and over channels.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not variations:
        raise ValueError("there is no variation to draw; see kinema.explain.calibration.variation")
    figure = new_figure((6.4, 1.4 + 0.36 * len(variations)))
    axes = figure.subplots()
    places = np.arange(len(variations))
    axes.barh(places - 0.2, [each.over_time for each in variations], height=0.38, color="C3", label="over time")
    axes.barh(places + 0.2, [each.over_channels for each in variations], height=0.38, color="C0", label="over channels")
    for place, each in zip(places, variations, strict=True):
        end = max(each.over_time, each.over_channels)
        axes.annotate(f" {each.time_share:.0%} over time", (end, place), va="center", fontsize=7, color="0.3")
    names = [
        short_name(each.layer) + (f", {each.factor}" if each.factor in ("kernel", "bias") else "")
        for each in variations
    ]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(max(each.over_time, each.over_channels) for each in variations) or 1)
    axes.set_xlabel("standard deviation of the factor within a clip", fontsize=8)
    told = title or "Where the calibration varies; % of the variance that is over time"
    axes.set_title(told, fontsize=10, parse_math=False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)  # on the axes it covers a bar
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def short_name(layer: str) -> str:
    """The name of a layer without the parts that all layers share, such as "layer1.0.conv2"."""
    return ".".join(
        part for part in layer.split(".") if part not in ("backbone", "trunk", "operator", "block", "model", "mixer")
    )


def new_figure(size: tuple[float, float]) -> "Figure":
    """An empty figure of so many inches that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    return figure


def film_row(strip: Strip, strength: float = 0.65) -> np.ndarray:
    """The frames side by side (H, T * (W + 2), 3), in [0, 1], two white columns behind each."""
    from matplotlib import colormaps

    if strip.frames.ndim != 4 or strip.frames.shape[0] not in (1, 3):
        raise ValueError(
            f"the frames of {strip.label!r} have shape {tuple(strip.frames.shape)}; give (C, T, H, W) with 3 channels or 1"
        )
    frames = strip.frames.detach().cpu()
    frames = frames.float() / 255 if not frames.is_floating_point() else frames.float().clamp(0, 1)
    pixels = frames.expand(3, -1, -1, -1).permute(1, 2, 3, 0).numpy()
    if strip.heat is not None:
        if tuple(strip.heat.shape) != tuple(strip.frames.shape[1:]):
            raise ValueError(
                f"the heat of {strip.label!r} has shape {tuple(strip.heat.shape)} and its frames (T, H, W) "
                f"{tuple(strip.frames.shape[1:])}; give heat for every pixel"
            )
        heat = strip.heat.detach().cpu().float().clamp(0, 1).numpy()
        cover = strength * heat[..., None]
        pixels = (1 - cover) * pixels + cover * colormaps[_HEAT](heat)[..., :3]
    return np.concatenate([np.pad(frame, ((0, 0), (0, 2), (0, 0)), constant_values=1) for frame in pixels], axis=1)
