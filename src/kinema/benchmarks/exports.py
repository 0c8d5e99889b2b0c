"""Every network exported: how far the file is from the network, and how fast it runs beside it."""

import copy
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from kinema.deployment.export import Exported, Prepared, prepare
from kinema.deployment.export_stream import NEXT, STATE, Step, prepare_steps
from kinema.deployment.exported import SUFFIXES, Format, open_exported
from kinema.evaluation.latency import LatencyRow, compare_latency
from kinema.models import create_model, list_models, list_options

Mode = Literal["clips", "frames"]
"""Whole clips at a time; or one frame of a stream, states in and out."""
FORMATS: tuple[Format, ...] = ("onnx", "torch")
NUM_CLASSES = 10
_SMALL = {"depths": (1, 1, 2, 1), "depth": 2, "drop_path": 0.0}
"""What makes a network small that lets its depth be chosen: every kind of block is still there."""


@dataclass(frozen=True)
class ExportRow:
    """One network, exported.

    Args:
        name: As in `kinema.list_models()`.
        options: It was built with.
        clip_shape: (B, C, T, H, W) of a clip; T is 1 for frames.
        params: Parameters.
        largest_logit: Of the first clip compared, so that a difference can be judged.
        folded: Batch norms folded into convolutions.
        norms_left: Batch norms that are still there.
        differences: Format to the largest difference of a logit.
        mib: Format to the size of the file.
        seconds: Format to what writing and comparing took.
        speed: Latency of "eager" and each format: median and least disturbed round, ratios to eager within rounds and their
            quartiles; empty where it was not measured.
        failures: Format to why there is no file.
        mode: What the file takes. Of frames, differences are of logits and next states.
    """

    name: str
    options: dict[str, Any]
    clip_shape: tuple[int, ...]
    params: int
    largest_logit: float
    folded: int = 0
    norms_left: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    speed: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    mode: Mode = "clips"

    @property
    def key(self) -> tuple[str, bool, str]:
        """What tells it from other rows of a table, whatever its sizes: the network, whether it is causal, and the mode."""
        return self.name, bool(self.options.get("causal")), self.mode


def streaming_models() -> list[str]:
    """Networks that have a causal form, by their options."""
    return [name for name in list_models() if "causal" in list_options(name)]


def small_options(name: str, size: int) -> dict[str, Any]:
    """Options that make a named network as small as they allow, for clips of 8 frames of `size` pixels."""
    known = list_options(name)
    options = {option: value for option, value in _SMALL.items() if option in known and not name.endswith("_nano")}
    if "depths" in options and not name.startswith("uniformer"):
        del options["depths"]
    if "image_size" in known:
        options["image_size"] = size // 14 * 14 if name.endswith("_l14") else size  # whole patches
    if name == "slowfast_r50":
        options["alpha"] = 4  # 8 frames would leave the slow pathway one
    return options


def measure_export(
    name: str,
    options: Mapping[str, Any],
    *,
    mode: Mode = "clips",
    num_frames: int = 8,
    size: int = 64,
    rounds: int = 0,
    num_threads: int | None = None,
) -> ExportRow:
    """Build a network, export it in every format, compare and time it.

    Its weights are drawn, and its norms and what starts at zero moved away from where they do nothing, so that a graph that
    leaves something out shows. Norms are then fitted to the size of what they see, as those of trained networks are: else
    activations grow from block to block, and in TAda2D-R50, whose factors grow with them, to 4e25, where single precision
    itself differs from double by more than the limit.

    Args:
        name: Of the network.
        options: Of the network.
        mode: Whether to export it on clips, or its step on frames, which takes a causal network.
        num_frames: Frames of a clip.
        size: Side of the frames in pixels.
        rounds: Timed rounds of all side by side; 0 for none.
        num_threads: Threads of PyTorch and of onnxruntime alike.
    """
    torch.manual_seed(0)
    side = options.get("image_size", size)
    shape = (1, 3, num_frames, side, side)
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    network = settled(moved(create_model(name, NUM_CLASSES, num_frames, **options)), clip)
    with torch.no_grad():
        logits = network(clip)
    params = sum(parameter.numel() for parameter in network.parameters())
    told = shape if mode == "clips" else (1, 3, 1, side, side)
    row = ExportRow(name, dict(options), told, params, float(logits.abs().max()), mode=mode)
    found: dict[str, Exported] = {}
    try:
        prepared = prepare(network, shape) if mode == "clips" else prepare_steps(network, (1, 3, side, side))
    except ValueError as error:
        return replace(row, failures=dict.fromkeys(FORMATS, str(error)))
    with tempfile.TemporaryDirectory() as folder:
        for format in FORMATS:
            start = time.perf_counter()
            try:
                path = Path(folder) / f"{name}{SUFFIXES[format]}"
                found[format] = prepared.write(path, format, outputs=_outputs(prepared))
            except ValueError as error:
                row.failures[format] = str(error)
            row.seconds[format] = round(time.perf_counter() - start, 1)
        for format, written in found.items():
            row.differences[format] = written.max_difference
            row.mib[format] = round(written.num_bytes / 2**20, 2)
        if rounds and found:
            row.speed.update(_speed(network, prepared, found, shape, rounds, num_threads))
    return replace(row, folded=prepared.folded, norms_left=prepared.norms_left)


def _outputs(prepared: Prepared) -> list[str]:
    """Names of the outputs: logits, and of a step the states that follow those that are given."""
    return ["logits", *(NEXT + name.removeprefix(STATE) for name in prepared.inputs if name.startswith(STATE))]


def moved(network: nn.Module) -> nn.Module:
    """A copy whose norms have statistics, scales and shifts of their own, and whose zeros and classifiers are seen."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() < 1e-5:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        for module in network.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
                module.weight.mul_(0.75 + 0.5 * torch.rand(module.weight.shape, generator=generator))
                module.bias.add_(0.1 * torch.randn(module.bias.shape, generator=generator))
        for parameter in network.get_submodule("head").parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network


def settled(network: nn.Module, clip: Tensor) -> nn.Module:
    """The network, the statistics of its batch norms times the size of what they see, so that activations stay of one size."""

    def fit(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        handles.pop(norm).remove()  # a norm may be called for several inputs
        (x,) = inputs
        assert isinstance(norm, _BatchNorm) and norm.running_var is not None and norm.running_mean is not None
        power = x.square().mean(dim=[axis for axis in range(x.ndim) if axis != 1])
        norm.running_var.mul_(power)
        norm.running_mean.mul_(power.sqrt())

    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    handles: dict[nn.Module, RemovableHandle] = {norm: norm.register_forward_pre_hook(fit) for norm in norms}
    with torch.no_grad():
        network.eval()(clip)
    for handle in handles.values():
        handle.remove()
    return network


def _speed(
    network: nn.Module,
    prepared: Prepared,
    found: Mapping[str, Exported],
    shape: Sequence[int],
    rounds: int,
    num_threads: int | None,
) -> dict[str, dict[str, float]]:
    files: dict[str, Any] = {
        format: open_exported(written.path, num_threads=num_threads) for format, written in found.items()
    }
    contenders: dict[str, Any] = {"eager": network} | files
    if prepared.inputs[0] == "frame":
        shape = (shape[0], shape[1], *shape[3:])
        states = [torch.zeros(shape[0], *state.shape[1:]) for state in prepared.cases[0].inputs[1:]]
        step = Step(network, tuple(name.removeprefix(STATE) for name in prepared.inputs[1:]))
        contenders = {"eager": lambda frame: step(frame, *states)}
        contenders |= {format: lambda frame, file=file: file.run([frame, *states])[0] for format, file in files.items()}
    rows = compare_latency(contenders, shape, rounds=rounds, baseline="eager", num_threads=num_threads)
    return {row.name: _times(row) for row in rows}


def _times(row: LatencyRow) -> dict[str, float]:
    return {
        "median_ms": row.median_ms,
        "least_ms": min(row.times_ms),
        "ratio": row.ratio,
        "ratio_low": row.ratio_low,
        "ratio_high": row.ratio_high,
    }


def export_table(rows: Sequence[ExportRow]) -> str:
    """The rows as Markdown: parity, what was folded, and speed where it was measured."""
    head = "| network | options | clip | M parameters | norms folded, left | largest logit | ONNX differs | torch differs |"
    timed = any(row.speed for row in rows)
    if timed:
        head += " eager ms | onnxruntime: ratio of least ms, median ratio (quartiles) | torch.export, likewise |"
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for row in rows:
        options = ", ".join(f"{name}={_short(value)}" for name, value in row.options.items())
        cells = [
            row.name,
            options,
            "step, " * (row.mode == "frames") + " x ".join(map(str, row.clip_shape[2 + (row.mode == "frames") :])),
            f"{row.params / 1e6:.2f}",
            f"{row.folded}, {row.norms_left}",
            f"{row.largest_logit:.2f}",
            *(_difference(row, format) for format in FORMATS),
        ]
        if timed:
            cells += _speed_cells(row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def export_summary(rows: Sequence[ExportRow]) -> str:
    """How many networks are exported in each format, the worst of them, and how onnxruntime compares, in sentences."""
    parts, steps = [], any(row.mode == "frames" for row in rows)
    for format, title in (("onnx", "ONNX"), ("torch", "torch.export")):
        good = [row for row in rows if format in row.differences]
        worst = max(good, key=lambda row: row.differences[format], default=None)
        told = f"{title}: {len(good)} of {len(rows)} {'networks' if not steps else 'networks and steps'}"
        parts.append(
            told if worst is None else f"{told}, the worst off by {worst.differences[format]:.1e} ({worst.name})"
        )
    timed = [row for row in rows if "onnx" in row.speed]
    if timed:
        slower = [row.name for row in timed if _least_ratio(row, "onnx") > 1]
        told = f"onnxruntime is slower than eager PyTorch in {len(slower)} of {len(timed)}"
        parts.append(told + (f" ({', '.join(slower)})" if slower else ""))
    return "; ".join(parts) + "."


def _difference(row: ExportRow, format: Format) -> str:
    return row.failures[format].replace("|", "/") if format in row.failures else f"{row.differences[format]:.1e}"


def _speed_cells(row: ExportRow) -> list[str]:
    if not row.speed:
        return ["", "", ""]
    cells = [f"{row.speed['eager']['least_ms']:.1f}"]
    for format in FORMATS:
        told = row.speed.get(format)
        quartiles = "" if told is None else f"{told['ratio']:.2f} ({told['ratio_low']:.2f} to {told['ratio_high']:.2f})"
        cells.append(f"{_least_ratio(row, format):.2f}, {quartiles}" if told else "")
    return cells


def _least_ratio(row: ExportRow, format: str) -> float:
    """Of the least disturbed rounds: where other work runs beside, a median says how long others ran."""
    return row.speed[format]["least_ms"] / row.speed["eager"]["least_ms"]


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
