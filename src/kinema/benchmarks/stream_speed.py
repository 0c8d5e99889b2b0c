"""What one more frame costs: the step of a causal network, a frame-wise step, and a window of frames computed anew.

And whether it stays so: latencies and memory of a stream of many frames.
"""

import os
import statistics
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.evaluation.latency import LatencyRow, compare_latency
from kinema.models.streaming import Streaming


@dataclass(frozen=True)
class StreamRow:
    """A causal network beside a frame-wise one, in milliseconds a frame.

    Args:
        name: The causal network.
        baseline: The frame-wise one.
        window: Frames that are computed anew for every frame where there is no step.
        baseline_ms: Median time of a step of the frame-wise network.
        step_ms: Median time of a step of the causal network.
        window_ms: Median time of the causal network on a clip of `window` frames.
        ratio: Median over the rounds of a step over a frame-wise step in the same round; `ratio_low` and `ratio_high` are
            its quartiles.
        cheaper: Median over the rounds of the time of a window over that of a step; `cheaper_low`, `cheaper_high` likewise.
        state_kib: Memory of the state of one stream.
    """

    name: str
    baseline: str
    window: int
    baseline_ms: float
    step_ms: float
    window_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cheaper: float
    cheaper_low: float
    cheaper_high: float
    state_kib: float


@dataclass(frozen=True)
class SustainedRow:
    """A stream of many frames.

    Args:
        name: The network.
        frames: How many were stepped through, after as many as warm up.
        p50_ms, p99_ms, longest_ms: Latency of a step: median, the value that one of a hundred exceeds, and the largest.
        resident_mib: Memory of the process at equal distances, the first in front of all frames, the last behind them.
        growth_mib: Last less first.
    """

    name: str
    frames: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    resident_mib: tuple[float, ...]
    growth_mib: float


class Stepper:
    """A network stepping through the frames of clips, its state carried from call to call.

    Args:
        network: On whose device the stream is.
        batch: Streams side by side.
        size: Side of the frames.
    """

    def __init__(self, network: Streaming, batch: int, size: int) -> None:
        self.network = network.eval()
        self.state = network.init_state(batch, size)

    def __call__(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        logits: Any = None
        with torch.inference_mode():
            for frame in clip.unbind(2):
                logits, self.state = self.network.step(frame.contiguous(), self.state)
        return logits


class Window:
    """A network that computes the last frames anew for every frame.

    Args:
        network: On clips.
        frames: Of a clip.
    """

    def __init__(self, network: Streaming, frames: int) -> None:
        self.network, self.frames = network.eval(), frames
        self.last: Tensor | None = None

    def __call__(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        logits: Any = None
        last = clip[:, :, :1].expand(-1, -1, self.frames, -1, -1) if self.last is None else self.last
        with torch.inference_mode():
            for frame in clip.split(1, dim=2):
                last = torch.cat([last[:, :, 1:], frame], dim=2)
                logits = self.network(last)
        self.last = last
        return logits


def compare_steps(
    baseline: tuple[str, Streaming],
    causal: tuple[str, Streaming],
    *,
    window: int = 8,
    frames: int = 4,
    batch: int = 1,
    size: int = 224,
    rounds: int = 15,
    warmup: int = 2,
    num_threads: int | None = None,
) -> StreamRow:
    """Time a step of a causal network beside a step of a frame-wise one and beside a whole window, round by round.

    Args:
        baseline: Name and network, frame-wise.
        causal: Name and network.
        window: Frames that a network without a step would see for every frame.
        frames: Frames timed at once.
        batch: Streams side by side.
        size: Side of the square frames.
        rounds, warmup, num_threads: As for `compare_latency`.

    Raises:
        ValueError: If a network sees frames to come, or a number is too small.
    """
    if window < 1 or frames < 1:
        raise ValueError(f"window={window} and frames={frames}: give at least one frame of each")
    contenders: dict[str, Callable[[Tensor], Any]] = {
        "frame-wise": Stepper(baseline[1], batch, size),
        "step": Stepper(causal[1], batch, size),
        "window": Window(causal[1], window),
    }
    channels = causal[1].backbone.in_channels
    shape = (batch, channels, frames, size, size)
    rows = compare_latency(contenders, shape, rounds=rounds, warmup=warmup, num_threads=num_threads)
    plain, step, whole = rows
    cheaper = [each / one for each, one in zip(whole.times_ms, step.times_ms, strict=True)]
    low, middle, high = statistics.quantiles(cheaper, n=4, method="inclusive") if rounds > 1 else cheaper * 3
    state = causal[1].init_state(1, size)
    return StreamRow(
        name=causal[0],
        baseline=baseline[0],
        window=window,
        baseline_ms=_per_frame(plain, frames),
        step_ms=_per_frame(step, frames),
        window_ms=_per_frame(whole, frames),
        ratio=step.ratio,
        ratio_low=step.ratio_low,
        ratio_high=step.ratio_high,
        cheaper=middle,
        cheaper_low=low,
        cheaper_high=high,
        state_kib=sum(tensor.numel() * tensor.element_size() for tensor in state.values()) / 1024,
    )


def sustain(
    name: str, network: Streaming, *, frames: int = 10_000, size: int = 224, readings: int = 10
) -> SustainedRow:
    """Step through many frames of one stream, each timed, and read the memory of the process on the way (Linux).

    Args:
        name: For the row.
        network: With a step.
        frames: How many, at least as many as readings; a twentieth of them come before, to warm up.
        size: Side of the square frames.
        readings: How often memory is read behind the first time.

    Raises:
        ValueError: If there are too few frames.
    """
    if frames < readings or readings < 1:
        raise ValueError(f"frames={frames} with readings={readings}: give at least one reading, and a frame for each")
    stepper = Stepper(network, 1, size)
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(16, 1, network.backbone.in_channels, 1, size, size, generator=generator).to(device)
    for number in range(frames // 20):
        stepper(pictures[number % 16])
    latencies, resident = array("d"), [_resident_mib()]
    for number in range(frames):
        start = time.perf_counter()
        stepper(pictures[number % 16])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        latencies.append(1e3 * (time.perf_counter() - start))
        if (number + 1) * readings // frames > number * readings // frames:
            resident.append(_resident_mib())
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return SustainedRow(
        name=name,
        frames=frames,
        p50_ms=percentiles[49],
        p99_ms=percentiles[98],
        longest_ms=max(latencies),
        resident_mib=tuple(resident),
        growth_mib=resident[-1] - resident[0],
    )


def stream_table(rows: Sequence[StreamRow], sustained: Sequence[SustainedRow], title: str) -> str:
    """The rows as Markdown."""
    lines = [
        f"| {title} | frame-wise ms | step ms | ratio, median of rounds | window ms | cheaper than the window | state |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} against {row.baseline} | {row.baseline_ms:.2f} | {row.step_ms:.2f} | {row.ratio:.3f} "
        f"({row.ratio_low:.3f} to {row.ratio_high:.3f}) | {row.window_ms:.1f} ({row.window} frames) | {row.cheaper:.2f} "
        f"({row.cheaper_low:.2f} to {row.cheaper_high:.2f}) | {row.state_kib:.0f} KiB |"
        for row in rows
    ]
    if sustained:
        lines += [
            "",
            "| many frames | frames | p50 ms | p99 ms | longest ms | memory MiB |",
            "|---|---|---|---|---|---|",
        ]
    lines += [
        f"| {row.name} | {row.frames} | {row.p50_ms:.2f} | {row.p99_ms:.2f} | {row.longest_ms:.1f} | "
        f"{row.resident_mib[0]:.1f} to {row.resident_mib[-1]:.1f} ({row.growth_mib:+.1f}) |"
        for row in sustained
    ]
    return "\n".join(lines)


def stream_tables(results: dict[str, Any]) -> str:
    """The rows of a file of `kinema bench stream` as Markdown."""
    rows = [StreamRow(**row) for row in results["streams"]]
    return stream_table(rows, [SustainedRow(**row) for row in results["sustained"]], stream_title(results))


def stream_title(results: dict[str, Any]) -> str:
    """What all rows share."""
    threads = results["threads"]
    return f"one frame of {results['size']} pixels, {threads} thread{'s' if threads != 1 else ''}"


def as_results(rows: Sequence[StreamRow], sustained: Sequence[SustainedRow]) -> dict[str, Any]:
    """For JSON."""
    return {"streams": [asdict(row) for row in rows], "sustained": [asdict(row) for row in sustained]}


def _per_frame(row: LatencyRow, frames: int) -> float:
    return row.median_ms / frames


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
