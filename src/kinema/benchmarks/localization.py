"""The yardsticks of localization: dense boundary matching, and Soft-NMS and evaluation as literal loops.

Nothing but `kinema bench localization` and the tests uses them.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.evaluation.detection import ACTIVITYNET_TIOU, Spans, average_precision
from kinema.localization.fusion import rank_classes
from kinema.localization.sampling import BoundaryMatching
from kinema.localization.soft_nms import soft_nms


@dataclass(frozen=True)
class MadeVideos:
    """Proposals, class probabilities and annotated segments of V videos, drawn from a seed.

    Args:
        start, end: Of proposals, as shares of the video.
        score: Of proposals.
        probabilities: Class probabilities of each video.
        truth: Segments, in the same shares.
    """

    start: Float[np.ndarray, "V P"]
    end: Float[np.ndarray, "V P"]
    score: Float[np.ndarray, "V P"]
    probabilities: Float[np.ndarray, "V K"]
    truth: Spans


@dataclass(frozen=True)
class LoopRow:
    """Time of one way from proposals to average mAP.

    Args:
        name: What it is.
        median_s: Median over the rounds.
        faster: Median over the rounds of the time of the loops divided by its own.
        average_map: What it computed.
        times_s: Of every round.
    """

    name: str
    median_s: float
    faster: float
    average_map: float
    times_s: tuple[float, ...]


def made_videos(videos: int, proposals: int, classes: int, *, segments: int = 5, seed: int = 0) -> MadeVideos:
    """Videos of two classes each, with proposals around their segments and elsewhere."""
    draws = np.random.default_rng(seed)
    begins = draws.uniform(0, 0.9, (videos, segments))
    ends = np.minimum(begins + draws.uniform(0.03, 0.3, begins.shape), 1)
    chosen = draws.integers(0, segments, (videos, proposals))
    near = draws.random((videos, proposals)) < 0.5
    start = np.where(near, np.take_along_axis(begins, chosen, 1), draws.uniform(0, 0.9, near.shape))
    end = np.where(near, np.take_along_axis(ends, chosen, 1), start + draws.uniform(0.03, 0.3, near.shape))
    start = np.clip(start + 0.02 * draws.standard_normal(start.shape), 0, 0.95)
    end = np.clip(np.maximum(end + 0.02 * draws.standard_normal(end.shape), start + 0.01), None, 1)
    score = draws.random(start.shape) * np.where(near, 1.0, 0.6)
    labels = draws.integers(0, classes, (videos, 2))
    probabilities = draws.random((videos, classes)) / classes
    np.put_along_axis(probabilities, labels, draws.uniform(0.2, 1, labels.shape), 1)
    of_segments = np.take_along_axis(labels, draws.integers(0, 2, begins.shape), 1)
    numbers = np.repeat(np.arange(videos), segments)
    truth = Spans(numbers, begins.ravel(), ends.ravel(), of_segments.ravel())
    return MadeVideos(start, end, score, probabilities, truth)


def at_once(made: MadeVideos, num_labels: int = 2) -> float:
    """Average mAP after Soft-NMS and fusion with the best classes of each video, as kinema computes it."""
    kept = soft_nms(made.start, made.end, made.score, keep=made.score.shape[1])
    ranked = rank_classes([made.probabilities], num_labels)
    videos, count = kept.index.shape
    start, end = (np.take_along_axis(times, kept.index, 1) for times in (made.start, made.end))
    score = kept.score[:, :, None] * ranked.score[:, None, :]
    shape = (videos, count, num_labels)
    columns = [np.arange(videos)[:, None, None], start[..., None], end[..., None], ranked.label[:, None, :, 0]]
    video, begin, finish, label = (np.broadcast_to(column, shape).ravel() for column in columns)
    return average_precision(made.truth, Spans(video, begin, finish, label, score.ravel())).average


def in_loops(made: MadeVideos, num_labels: int = 2) -> float:
    """The same by plain loops over proposals, detections and segments, one number at a time."""
    truth: dict[tuple[int, int], list[tuple[float, float]]] = {}
    columns = (made.truth.video, made.truth.label, made.truth.start, made.truth.end)
    for video, label, start, end in zip(*(column.tolist() for column in columns), strict=True):
        truth.setdefault((video, label), []).append((start, end))
    found: dict[int, list[tuple[float, int, float, float]]] = {}
    for video in range(len(made.score)):
        rows = list(zip(made.start[video].tolist(), made.end[video].tolist(), made.score[video].tolist(), strict=True))
        probabilities = made.probabilities[video].tolist()
        best = sorted(range(len(probabilities)), key=lambda label: -probabilities[label])[:num_labels]
        for start, end, score in loop_soft_nms(rows):
            for label in best:
                found.setdefault(label, []).append((score * probabilities[label], video, start, end))
    means = []
    for label in sorted({label for _, label in truth}):
        of_class = sorted(found.get(label, []), key=lambda row: -row[0])
        wanted = sum(len(spans) for (_, other), spans in truth.items() if other == label)
        for tiou in ACTIVITYNET_TIOU:
            means.append(_loop_precision(of_class, truth, label, wanted, tiou))
    return sum(means) / len(means)


def loop_soft_nms(
    rows: Sequence[tuple[float, float, float]], *, alpha: float = 0.4, low: float = 0.25, high: float = 0.9
) -> list[tuple[float, float, float]]:
    """Soft-NMS of (start, end, score) by a double loop."""
    left = [list(row) for row in rows]
    chosen = []
    while left:
        best = max(range(len(left)), key=lambda number: left[number][2])
        start, end, score = left.pop(best)
        chosen.append((start, end, score))
        for row in left:
            overlap = _loop_tiou(start, end, row[0], row[1])
            if overlap > low + (high - low) * (end - start):
                row[2] *= math.exp(-overlap * overlap / alpha)
    return chosen


def _loop_tiou(start: float, end: float, other_start: float, other_end: float) -> float:
    shared = max(min(end, other_end) - max(start, other_start), 0.0)
    return shared / (end - start + other_end - other_start - shared)


def _loop_precision(
    found: Sequence[tuple[float, int, float, float]],
    truth: Mapping[tuple[int, int], Sequence[tuple[float, float]]],
    label: int,
    wanted: int,
    tiou: float,
) -> float:
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, video, start, end in found:
        best, place = tiou, -1
        for number, (begin, finish) in enumerate(truth.get((video, label), ())):
            overlap = _loop_tiou(start, end, begin, finish)
            if overlap >= best and (video, number) not in taken and (overlap > best or place < 0):
                best, place = overlap, number
        if place >= 0:
            taken.add((video, place))
        hits.append(place >= 0)
    area, right, envelope = 0.0, sum(hits), 0.0
    for rank in range(len(hits), 0, -1):
        if hits[rank - 1]:
            envelope = max(envelope, right / rank)
            area += envelope
            right -= 1
        else:
            envelope = max(envelope, right / rank)
    return area / wanted


def compare_loops(made: MadeVideos, *, rounds: int = 3, num_labels: int = 2) -> list[LoopRow]:
    """Time both ways in the same rounds.

    Raises:
        RuntimeError: If they do not compute the same number.
    """
    ways: dict[str, Callable[[MadeVideos, int], float]] = {"plain loops": in_loops, "kinema": at_once}
    times: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            values[name] = way(made, num_labels)
            times[name].append(time.perf_counter() - begin)
    if not math.isclose(*values.values(), rel_tol=1e-9):
        raise RuntimeError(f"the two ways compute different average mAPs, {values}: one of them is wrong")
    return [
        LoopRow(
            name,
            statistics.median(of_way),
            statistics.median(a / b for a, b in zip(times["plain loops"], of_way, strict=True)),
            values[name],
            tuple(of_way),
        )
        for name, of_way in times.items()
    ]


class DenseMatching(nn.Module):
    """Boundary matching as the paper and its published codes do it: a product with the dense sampling matrix.

    Args:
        matching: Whose samples to take.
        collapse: The convolution over all samples that follows; none when None.
    """

    def __init__(self, matching: BoundaryMatching, collapse: nn.Conv3d | None = None) -> None:
        super().__init__()
        bins = torch.eye(matching.num_bins)[None]
        self.register_buffer("matrix", matching(bins)[0].flatten(1).contiguous(), persistent=False)
        self.sizes = (matching.num_samples, matching.max_bins, matching.num_bins)
        self.collapse = collapse

    def forward(self, x: Float[Tensor, "B C T"]) -> Tensor:
        samples = (x @ self.matrix).unflatten(2, self.sizes)
        return samples if self.collapse is None else self.collapse(samples)[:, :, 0]


class SparseMatching(nn.Module):
    """The same as the network does it: samples and the convolution over them in one, or the samples alone."""

    def __init__(self, matching: BoundaryMatching, collapse: nn.Conv3d | None = None) -> None:
        super().__init__()
        self.matching, self.collapse = matching, collapse

    def forward(self, x: Float[Tensor, "B C T"]) -> Tensor:
        if self.collapse is None:
            return self.matching(x)
        return self.matching.collapse(x, self.collapse.weight[..., 0, 0], self.collapse.bias)


def matching_forms(num_bins: int, max_bins: int, channels: int, outputs: int) -> dict[str, nn.Module]:
    """The boundary-matching layer with and without the convolution over its samples, dense and as kinema has it."""
    matching = BoundaryMatching(num_bins, max_bins)
    collapse = nn.Conv3d(channels, outputs, (matching.num_samples, 1, 1))
    return {
        "dense product": DenseMatching(matching),
        "dense product and convolution": DenseMatching(matching, collapse),
        "sparse product": SparseMatching(matching),
        "kinema (product and convolution in one)": SparseMatching(BoundaryMatching(num_bins, max_bins), collapse),
    }


def held_mib(form: nn.Module) -> float:
    """What a form keeps beside trained parameters: the sampling weights."""
    return sum(buffer.nbytes for buffer in form.buffers()) / 2**20
