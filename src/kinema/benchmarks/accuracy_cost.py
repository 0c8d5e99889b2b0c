"""Accuracy that experiments recorded, against what the networks cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
import yaml

from kinema.evaluation.cost import profile
from kinema.evaluation.latency import compare_latency
from kinema.models import create_model
from kinema.sweeps.collect import RunRow
from kinema.sweeps.dashboard import Experiment, read_experiments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDE = 10
"""Times the smallest cost, above which an axis is logarithmic."""


@dataclass(frozen=True)
class CostPoint:
    """A network, what it costs, and how right it was.

    Args:
        experiment: That recorded it.
        variant: Its name there.
        model: Name of the network in `kinema.list_models()`.
        options: Options of the network.
        clip_shape: (B, C, T, H, W) of one clip.
        top1: Validation accuracy, mean over seeds, in [0, 1].
        top1_low: Of the worst seed.
        top1_high: Of the best.
        seeds: How many.
        params: Parameters.
        mmacs: Million multiply-adds of a clip.
        latency_ms: Of a clip, forward, in the round that was least disturbed; None where it was not measured.
    """

    experiment: str
    variant: str
    model: str
    options: Mapping[str, Any]
    clip_shape: tuple[int, ...]
    top1: float
    top1_low: float
    top1_high: float
    seeds: int
    params: int
    mmacs: float
    latency_ms: float | None = None

    @property
    def frames(self) -> int:
        return self.clip_shape[2]

    @property
    def size(self) -> int:
        """Side of its square frames, in pixels."""
        return self.clip_shape[4]


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs for one clip.

    Args:
        model: Name of the network.
        frames: Of the clip.
        size: Side of its square frames, in pixels.
        million_parameters: Of the network with 400 classes.
        gmacs: Billion multiply-adds.
    """

    model: str
    frames: int
    size: int
    million_parameters: float
    gmacs: float


def network_costs(models: Sequence[str], *, size: int = 224, num_classes: int = 400) -> list[NetworkCost]:
    """Parameters and multiply-adds of networks by name, each for a clip of the frames it is meant for; nothing is computed."""
    costs = []
    for model in models:
        with torch.device("meta"):
            network: Any = create_model(model, num_classes)
        cost = profile(network, (1, 3, network.num_frames, size, size))
        costs.append(NetworkCost(model, network.num_frames, size, cost.params / 1e6, cost.macs / 1e9))
    return costs


def cost_points(
    folder: str | Path,
    names: Sequence[str] | None = None,
    *,
    data: str = "MotionData",
    num_classes: int = 12,
) -> list[CostPoint]:
    """The networks of finished runs on one data set, with parameters and multiply-adds.

    Which network a variant is follows from its configuration: the base of a sweep with the variant's changes, or the file
    whose run has the variant's name.

    Args:
        folder: Of the experiments.
        names: Experiments to take; all when None.
        data: Class of the data; accuracies on other data are left out, for they are not comparable.
        num_classes: Of that data.

    Raises:
        ValueError: If an experiment is named that is not there.
    """
    experiments = {experiment.name: experiment for experiment in read_experiments(folder)}
    unknown = sorted(set(names or ()) - set(experiments))
    if unknown:
        raise ValueError(f"no experiment is named {', '.join(unknown)}; there are {', '.join(experiments)}")
    points: list[CostPoint] = []
    for name in experiments if names is None else names:
        for variant, config in _configurations(experiments[name], Path(folder)).items():
            rows = [row for row in experiments[name].rows if row.variant == variant]
            if rows and config["data"]["class_path"].rpartition(".")[2] == data:
                points.append(_point(name, variant, config, rows, num_classes))
    return points


def with_latency(
    points: Sequence[CostPoint], *, num_classes: int = 12, rounds: int = 10, num_threads: int = 1
) -> list[CostPoint]:
    """The same points with the time of one clip on this machine: the shortest of some rounds, all networks taking turns.

    The shortest, not the median, because notebooks run beside other work; `kinema bench` gives ratios with their spread.

    Args:
        points: See `cost_points`.
        num_classes: Of the networks that are built.
        rounds, num_threads: Of `kinema.evaluation.latency.compare_latency`.
    """
    networks, shapes = {}, {}
    for place, point in enumerate(points):
        networks[str(place)] = create_model(point.model, num_classes, **point.options)
        shapes[str(place)] = point.clip_shape
    measured = compare_latency(networks, shapes, rounds=rounds, num_threads=num_threads)
    return [replace(point, latency_ms=min(row.times_ms)) for point, row in zip(points, measured, strict=True)]


def draw_cost(points: Sequence[CostPoint], *, title: str = "") -> "Figure":
    """Draw accuracy against parameters, multiply-adds and, where it was measured, time; bars span the seeds.

    Raises:
        ValueError: If there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if not points:
        raise ValueError("no network was recorded, so there is nothing to draw; run an experiment first")
    costs = {
        "million parameters": [point.params / 1e6 for point in points],
        "million multiply-adds of a clip": [point.mmacs for point in points],
    }
    times = [point.latency_ms for point in points if point.latency_ms is not None]
    if len(times) == len(points):
        costs["ms of a clip, forward, on the CPU"] = times
    figure = Figure(figsize=(3.9 * len(costs), 4.2), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    markers = "osD^vP*X"
    experiments = list(dict.fromkeys(point.experiment for point in points))
    for axis, (label, values) in zip(figure.subplots(1, len(costs), sharey=True), costs.items(), strict=True):
        for place, (point, cost) in enumerate(zip(points, values, strict=True)):
            mean = 100 * point.top1
            reach = [[mean - 100 * point.top1_low], [100 * point.top1_high - mean]]
            marker = markers[experiments.index(point.experiment) % len(markers)]
            axis.errorbar(cost, mean, yerr=reach, fmt=marker, color=f"C{place % 10}", capsize=2, label=_label(point))
        if max(values) > _WIDE * min(values):
            axis.set_xscale("log")
            # Matplotlib labels every minor tick where values span about a decade, one label over the next.
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set_xlim(0, 1.08 * max(values))
        axis.set_xlabel(label, fontsize=9)
        axis.grid(True, which="both", alpha=0.2)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, which="both")
    figure.axes[0].set_ylabel("top-1 on validation videos, %", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(points)), fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _label(point: CostPoint) -> str:
    return (
        f"{point.variant.removeprefix(f'{point.experiment}-')} ({point.model}, {point.frames} frames of {point.size})"
    )


def _configurations(experiment: Experiment, folder: Path) -> dict[str, dict[str, Any]]:
    """What each variant of an experiment is configured as."""
    if experiment.sweep is not None:
        found = {}
        for variant in experiment.sweep.variants:
            config = yaml.safe_load(variant.base.read_text(encoding="utf-8"))
            for option, value in variant.changes.items():
                _set(config, option.split("."), value)
            found[variant.name] = config
        return found
    files = sorted((folder / experiment.name).glob("*.yaml"))
    configs = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files if not file.stem.startswith("sweep")]
    return {config["run"]["name"]: config for config in configs}


def _set(config: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        config = config.setdefault(name, {})
    config[path[-1]] = value


def _point(
    experiment: str, variant: str, config: Mapping[str, Any], rows: Sequence[RunRow], num_classes: int
) -> CostPoint:
    module, _, kind = config["model"]["class_path"].rpartition(".")
    # Without num_classes no network is built, only what it would be: so its name and options are known.
    classifier: Any = getattr(import_module(module), kind)(**config["model"].get("init_args", {}))
    data = config["data"]["init_args"]
    shape = (1, 3, data.get("num_frames", 8), data.get("size", 224), data.get("size", 224))
    with torch.device("meta"):
        network = create_model(classifier.model_name, num_classes, **classifier.options)
    cost = profile(network, shape)
    tops = [row.top1 for row in rows]
    return CostPoint(
        experiment,
        variant,
        classifier.model_name,
        classifier.options,
        shape,
        fmean(tops),
        min(tops),
        max(tops),
        len(tops),
        cost.params,
        cost.macs / 1e6,
    )
