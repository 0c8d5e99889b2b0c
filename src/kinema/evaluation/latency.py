"""Time networks side by side: interleaved in one process, so that what slows one round slows all of it."""

import copy
import gc
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kinema.memory_format import to_channels_last

Mode = Literal["forward", "forward_backward"]
MODES: tuple[Mode, ...] = ("forward", "forward_backward")


@dataclass(frozen=True)
class LatencyRow:
    """Times of one network.

    Args:
        name: As given.
        median_ms: Median time of a batch over the rounds.
        clips_per_s: Clips per second at that time.
        ratio: Median over the rounds of its time divided by that of the baseline in the same round.
        ratio_low: First quartile of these ratios.
        ratio_high: Third quartile.
        peak_memory_mib: Largest memory in tensors at once, beyond parameters and input.
        times_ms: Time of every round.
    """

    name: str
    median_ms: float
    clips_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    peak_memory_mib: float
    times_ms: tuple[float, ...]


def compare_latency(
    models: Mapping[str, Callable[[Tensor], Any]],
    clip_shape: Sequence[int] | Mapping[str, Sequence[int]] = (1, 3, 8, 224, 224),
    *,
    mode: Mode = "forward",
    rounds: int = 10,
    warmup: int = 2,
    baseline: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    compile: bool = False,
    num_threads: int | None = None,
    input_gradient: bool = False,
) -> list[LatencyRow]:
    """Time several networks on the same clip, round by round: A B C, C B A, A B C, ...

    Clocks drift, caches warm and neighbours come and go, all of which two runs after each other would take for a
    difference between networks. Here each is compared within a round, and only the ratios are averaged.

    Args:
        models: Name to network, or to any callable on clips. Networks are copied, so they stay as they are.
        clip_shape: (B, C, T, H, W) of the clip, whose values are drawn from N(0, 1); a dict from name to shape where
            networks take clips of their own.
        mode: "forward" in evaluation mode without gradients, or "forward_backward" in training mode, the loss being the
            sum of the outputs.
        rounds: Timed rounds, at least 1.
        warmup: Rounds before these, not counted; compilation falls into them.
        baseline: Name of the network the ratios are relative to; the first by default.
        device: Where to run; on a GPU every time includes waiting for it.
        dtype: Of parameters and clip.
        channels_last: Keep convolution weights, and so feature maps, with channels innermost in memory.
        compile: Compile each network with torch.compile, whole graph and for this shape.
        num_threads: Threads within an operation on the CPU, for the time of the comparison; as it is by default.
        input_gradient: Differentiate with respect to the clip too, as a layer within a network does.

    Returns:
        One row per network, in the order given.

    Raises:
        ValueError: If there is no network, the mode or baseline is unknown, a number of rounds is too small, a backward
            pass is asked of what gives no gradient, or compilation on the CPU finds no C++ compiler.
    """
    names = list(models)
    baseline = names[0] if baseline is None and names else baseline
    if not names or baseline not in models:
        raise ValueError(
            f"baseline={baseline!r} is none of the networks {names}; give two or more, one of them the baseline"
        )
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is unknown; give one of {MODES}")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds={rounds} and warmup={warmup}: give at least one round, and no negative number")
    device = torch.device(device)
    if compile:
        need_compiler(device)

    threads = torch.get_num_threads()
    torch.set_num_threads(num_threads or threads)
    try:
        shapes = {name: clip_shape[name] if isinstance(clip_shape, Mapping) else clip_shape for name in names}
        clips = {shape: _clip(shape, device, dtype) for shape in map(tuple, shapes.values())}
        for clip in clips.values():
            clip.requires_grad_(input_gradient and mode == "forward_backward")
        steps = {
            name: _step(_prepared(model, mode, device, dtype, channels_last, compile), clips[tuple(shapes[name])], mode)
            for name, model in models.items()
        }
        times: dict[str, list[float]] = {name: [] for name in names}
        with _only_new_garbage():
            for number in range(warmup + rounds):
                for name in names if number % 2 == 0 else reversed(names):
                    elapsed = _time(steps[name], device)
                    if number >= warmup:
                        times[name].append(elapsed)
        memory = {name: _peak_memory(step, device) for name, step in steps.items()}
    finally:
        torch.set_num_threads(threads)
    return [_row(name, times[name], times[baseline], memory[name], shapes[name][0]) for name in names]


def latency_table(rows: Sequence[LatencyRow]) -> str:
    """The rows as text, one line each."""
    lines = [("network", "ms", "clips/s", "ratio", "quartiles", "MiB")]
    lines += [
        (
            row.name,
            f"{row.median_ms:.1f}",
            f"{row.clips_per_s:.2f}",
            f"{row.ratio:.3f}",
            f"{row.ratio_low:.3f} - {row.ratio_high:.3f}",
            f"{row.peak_memory_mib:.0f}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _clip(shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(device, dtype)


def _prepared(
    model: Callable[[Tensor], Any],
    mode: Mode,
    device: torch.device,
    dtype: torch.dtype,
    channels_last: bool,
    compile: bool,
) -> Callable[[Tensor], Any]:
    if isinstance(model, nn.Module):
        model = copy.deepcopy(model).to(device, dtype).train(mode == "forward_backward")
        if channels_last:
            to_channels_last(model)
    return torch.compile(model, fullgraph=True, dynamic=False) if compile else model


def _step(model: Callable[[Tensor], Any], clip: Tensor, mode: Mode) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            model(clip)

    def forward_backward() -> None:
        outputs = model(clip)
        outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        loss = torch.stack([output.sum() for output in outputs]).sum()
        if not loss.requires_grad:
            raise ValueError("there is nothing to differentiate: no parameter of the network requires a gradient")
        loss.backward()
        clip.grad = None
        for parameter in model.parameters() if isinstance(model, nn.Module) else ():
            parameter.grad = None

    return forward if mode == "forward" else forward_backward


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """The garbage collector, which runs before each call, passes over what is there now: all modules, over and over."""
    gc.collect()
    if gc.get_freeze_count() > 0:  # somebody else's
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _time(step: Callable[[], None], device: torch.device) -> float:
    """Milliseconds of one call, with the garbage collector held back."""
    gc.collect()
    gc.disable()
    try:
        _wait(device)
        start = time.perf_counter()
        step()
        _wait(device)
        return 1e3 * (time.perf_counter() - start)
    finally:
        gc.enable()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(step: Callable[[], None], device: torch.device) -> float:
    """MiB allocated at once in one call, from the allocator's own count on a GPU and from the profiler's on the CPU."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        _wait(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would complain on stderr where there is no GPU
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak / 2**20


def _row(name: str, times: list[float], base: list[float], memory: float, clips: int) -> LatencyRow:
    ratios = [own / other for own, other in zip(times, base, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    median = statistics.median(times)
    return LatencyRow(name, median, 1e3 * clips / median, statistics.median(ratios), low, high, memory, tuple(times))


def need_compiler(device: torch.device) -> None:
    """Refuse to compile where it cannot work: on the CPU, torch.compile writes C++, and fails deep inside without a compiler.

    Raises:
        ValueError: If a CPU is to be compiled for and no C++ compiler is found.
    """
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    if device.type == "cpu" and not any(shutil.which(name) for name in wanted):
        raise ValueError(
            f"compile=True needs a C++ compiler on the CPU and none of {wanted} is found; install g++, "
            "set CXX to the path of a compiler, or compare without compile"
        )
