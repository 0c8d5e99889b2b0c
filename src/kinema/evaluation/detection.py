"""How well segments were found: average precision over tIoU, as ActivityNet's evaluator has it.

tIoU is the overlap in time of two segments: their intersection over their union. A detection is right at a threshold if it
overlaps by at least that with a segment of its class that no better detection has taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

ACTIVITYNET_TIOU = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
EPIC_TIOU = tuple(float(value) for value in np.linspace(0.1, 0.5, 5))

_LARGEST = 2**31 - 1
"""Video and label are joined into one number of 64 bits."""


@dataclass(frozen=True)
class Spans:
    """Labelled stretches of many videos, as columns: arrays, or sequences, which become arrays.

    Args:
        video: Number of the video.
        start: Second at which each begins.
        end: Second at which each ends.
        label: Class id; one column per task where there are several.
        score: Of detections; None for what was annotated.

    Raises:
        ValueError: If columns differ in length, a video or label is below 0 or above 2**31 - 1, a time or score is NaN, or a
            segment is reversed.
    """

    video: Int[np.ndarray, " N"]
    start: Float[np.ndarray, " N"]
    end: Float[np.ndarray, " N"]
    label: Int[np.ndarray, "N ..."]
    score: Float[np.ndarray, " N"] | None = None

    def __post_init__(self) -> None:
        for name in ("video", "start", "end", "label", "score"):
            column = getattr(self, name)
            if column is not None:  # of an empty list NumPy would make fractions
                whole = name in ("video", "label") and not len(column)
                object.__setattr__(self, name, np.asarray(column, dtype=np.int64 if whole else None))
        columns = [self.video, self.start, self.end, self.label, *([] if self.score is None else [self.score])]
        if len({len(column) for column in columns}) > 1:
            raise ValueError(
                f"columns of {[len(column) for column in columns]} stretches were given; one length was expected"
            )
        for name, column in (
            ("video", self.video),
            ("label", self.label),
        ):  # numbered together, so -1 would be another's
            strange = ((column < 0) | (column > _LARGEST)).reshape(len(column), -1).any(1) if len(column) else column
            if strange.any():
                first = int(strange.argmax())
                raise ValueError(
                    f"{int(strange.sum())} of {len(column)} stretches have a {name} that is none, the first is stretch {first} "
                    f"(video {self.video[first]}) with {np.asarray(column[first]).tolist()}; number them from 0 to {_LARGEST}"
                )
        for name, column in (("start", self.start), ("end", self.end), ("score", self.score)):
            if column is not None and np.isnan(column).any():
                first = int(np.isnan(column).argmax())
                raise ValueError(
                    f"{int(np.isnan(column).sum())} of {len(column)} values of '{name}' are NaN, the first of stretch "
                    f"{first} (video {self.video[first]}); a network that diverged gives such"
                )
        if (self.end < self.start).any():
            first = int((self.end < self.start).argmax())
            raise ValueError(
                f"stretch {first} (video {self.video[first]}) ends at {self.end[first]} s, before it starts at "
                f"{self.start[first]} s"
            )

    def __len__(self) -> int:
        return len(self.video)

    def of_task(self, task: int) -> "Spans":
        """The same stretches with the labels of one task alone."""
        return replace(self, label=self.label[:, task])


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision by threshold and class.

    Args:
        tiou: Thresholds, J.
        classes: Ids of the classes that were annotated, K; others count for nothing.
        values: Average precision of each; 0 for a class of which nothing was detected.
    """

    tiou: tuple[float, ...]
    classes: Int[np.ndarray, " K"]
    values: Float[np.ndarray, "J K"]

    @property
    def mean(self) -> Float[np.ndarray, " J"]:
        """mAP at each threshold: the mean over classes."""
        return self.values.mean(1)

    @property
    def average(self) -> float:
        """Average mAP: its mean over thresholds."""
        return float(self.mean.mean())


def average_precision(truth: Spans, found: Spans, tiou: Sequence[float] = ACTIVITYNET_TIOU) -> AveragePrecision:
    """Average precision of detections, as ActivityNet's evaluator computes it.

    Detections of a class are taken by falling score, equal ones in the order given. Each takes the segment of its video and
    class that it overlaps with most and that is free; if it does not reach the threshold it is wrong, as one in a video
    without such a segment is. A segment that is annotated twice wants two detections. Average precision is the area under
    precision over recall, where the precision at a recall is the best at that recall or above.

    The segments of all videos and classes are matched side by side, best detection of each first, so a step of Python
    treats thousands of detections.

    Args:
        truth: What was annotated.
        found: What was detected.
        tiou: Thresholds.

    Raises:
        ValueError: If nothing was annotated, or detections have no scores, or there are several labels: see
            `action_precision`.
    """
    if truth.label.ndim != 1 or found.label.ndim != 1:
        raise ValueError("stretches have several labels; choose one with of_task, or see action_precision")
    if not len(truth):
        raise ValueError("nothing was annotated, so average precision has no value; give the videos that were")
    if found.score is None:
        raise ValueError("detections have no scores; give them one each")
    found = _sorted(found)
    right = _match(truth, found, np.asarray(tiou))
    classes = np.unique(truth.label)
    values = np.zeros((len(tiou), len(classes)))
    by_class = _by_group(found.label)
    begins = np.searchsorted(found.label[by_class], classes, side="left")
    ends = np.searchsorted(found.label[by_class], classes, side="right")
    wanted = np.searchsorted(np.sort(truth.label), classes, side="right") - np.searchsorted(
        np.sort(truth.label), classes, side="left"
    )
    for column, (begin, end, count) in enumerate(zip(begins, ends, wanted, strict=True)):
        values[:, column] = _area(right[by_class[begin:end]].T, int(count))
    return AveragePrecision(tuple(tiou), classes, values)


def action_precision(
    truth: Spans, found: Spans, names: Sequence[str] = ("verb", "noun"), tiou: Sequence[float] = EPIC_TIOU
) -> dict[str, AveragePrecision]:
    """Average precision of each task by itself, and of the combination of all as "action": EPIC-KITCHENS-100.

    Every detection counts in every task, as in the evaluation of the challenge (epic-kitchens/C2-Action-Detection,
    `evaluate_detection_json_ek100.py`). TAdaConv's differs for single tasks: see `tadaconv_action_precision`.

    Args:
        truth, found: With a column of labels per task.
        names: What the tasks tell.
        tiou: Thresholds.

    Raises:
        ValueError: As `average_precision`.
    """
    combined, place, known = _as_actions(truth, found, names)
    result = {
        name: average_precision(truth.of_task(task), found.of_task(task), tiou) for task, name in enumerate(names)
    }
    # What is never annotated is of no class, so leaving it out changes nothing.
    actions = replace(truth, label=combined), replace(_those(found, known), label=place[known])
    return result | {"action": average_precision(*actions, tiou)}


def tadaconv_action_precision(
    truth: Spans, found: Spans, names: Sequence[str] = ("verb", "noun"), tiou: Sequence[float] = EPIC_TIOU
) -> dict[str, AveragePrecision]:
    """Average precision as TAdaConv's code has it (`eval_epic_detection.py`), for comparison with its published numbers.

    As `action_precision`, but detections of a combination that is never annotated are left out in every task, in single ones
    too, where some of them are right. So verbs and nouns are not those of the challenge; actions are.

    Args:
        truth, found, names, tiou: As for `action_precision`.

    Raises:
        ValueError: As `average_precision`.
    """
    _, _, known = _as_actions(truth, found, names)
    return action_precision(truth, _those(found, known), names, tiou)


def _as_actions(
    truth: Spans, found: Spans, names: Sequence[str]
) -> tuple[Int[np.ndarray, " G"], Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Combinations of labels as one number each: of what was annotated and what was detected; and which of these are known."""
    if {truth.label.shape[1:], found.label.shape[1:]} != {(len(names),)}:
        raise ValueError(
            f"labels of shape {truth.label.shape} and {found.label.shape} were given; a column for each of {names} expected"
        )
    if not len(truth):
        raise ValueError("nothing was annotated, so average precision has no value; give the videos that were")
    combinations, combined = np.unique(truth.label, axis=0, return_inverse=True)
    size = int(max(truth.label.max(), found.label.max() if len(found) else 0)) + 1
    if size ** len(names) > 2**63 - 1:
        raise ValueError(
            f"labels up to {size - 1} of {len(names)} tasks have too many combinations to be numbered; give smaller ids"
        )
    powers = size ** np.arange(len(names))[::-1]
    place = np.searchsorted(combinations @ powers, found.label @ powers).clip(max=len(combinations) - 1)
    return combined.reshape(-1), place, (combinations[place] == found.label).all(1)


def _those(spans: Spans, kept: Bool[np.ndarray, " N"]) -> Spans:
    return Spans(*(None if column is None else column[kept] for column in _columns(spans)))  # pyrefly: ignore


@dataclass(frozen=True)
class AverageRecall:
    """Recall over the number of proposals per video, 100 points.

    Args:
        proposals: Proposals per annotated video on average, at each point.
        recall: Recall there, averaged over thresholds.
    """

    proposals: Float[np.ndarray, " 100"]
    recall: Float[np.ndarray, " 100"]

    def at(self, number: int) -> float:
        """AR@AN: recall with at most so many proposals per video on average; 0 where the curve begins above it."""
        place = np.flatnonzero(self.proposals <= number + 1e-9)
        return float(self.recall[place[-1]]) if len(place) else 0.0

    @property
    def auc(self) -> float:
        """Area under the curve as a share of that of perfect recall."""
        return float(np.trapezoid(self.recall, self.proposals) / self.proposals[-1])


def average_recall(
    truth: Spans,
    found: Spans,
    *,
    max_proposals: float | None = 100,
    tiou: Sequence[float] = ACTIVITYNET_TIOU,
) -> AverageRecall:
    """AR@AN of proposals, whatever their classes, as ActivityNet's evaluator computes it.

    The number of proposals is set by one share for all videos: a video with twice as many proposals gives twice as many,
    its best ones. V are the videos in which something is annotated. With P proposals of all videos, each retrieves the share
    `max_proposals` V / P of its own, rounded down, at most all. At point j of 100 the share of these is such that j % of
    `max_proposals` per annotated video are taken on average. So proposals in a video in which nothing is annotated are never
    right or wrong; they only lower the share of the others.

    Args:
        truth: What was annotated, labels aside.
        found: Proposals with scores.
        max_proposals: Proposals per annotated video at the last point; all there are when None.
        tiou: Thresholds.

    Raises:
        ValueError: If nothing was annotated, or proposals have no scores.
    """
    if not len(truth):
        raise ValueError("nothing was annotated, so recall has no value; give the videos that were")
    if found.score is None:
        raise ValueError("proposals have no scores; give them one each")
    names = np.unique(np.concatenate([truth.video, found.video]))
    videos = len(np.unique(truth.video))
    grid = np.arange(1, 101) / 100.0
    if not len(found):
        return AverageRecall(grid * (max_proposals or 0), np.zeros(100))
    most = len(found) / videos if max_proposals is None else max_proposals
    ratio = most * videos / len(found)
    found = _sorted(found)
    # Each annotated segment is found from some rank of its video on: the first proposal that overlaps enough.
    order = _by_group(found.video)
    begins = np.searchsorted(found.video[order], names, side="left")
    counts = np.searchsorted(found.video[order], names, side="right") - begins
    retrieved = np.minimum((counts * ratio).astype(int), counts)
    place = np.searchsorted(names, truth.video)
    total = int(retrieved[np.unique(place)].sum())
    if not total:
        return AverageRecall(grid * most, np.zeros(100))
    shares = grid * (most * videos / total)
    hits = np.zeros((len(tiou), 100))
    for video in np.unique(place):
        mine = order[begins[video] : begins[video] + retrieved[video]]
        if not len(mine):
            continue
        segments = np.flatnonzero(place == video)
        overlap = _tiou(found.start[mine, None], found.end[mine, None], truth.start[segments], truth.end[segments])
        taken = np.minimum((len(mine) * shares).astype(int), len(mine))
        reached = np.maximum.accumulate(overlap, axis=0)  # best overlap within the first ranks
        reached = np.concatenate([np.full((1, len(segments)), -1.0), reached])[taken]
        hits += (reached[None] >= np.asarray(tiou)[:, None, None]).sum(-1)
    return AverageRecall(shares * (total / videos), (hits / len(truth)).mean(0))


def detection_summary(results: AveragePrecision | Mapping[str, AveragePrecision]) -> dict[str, float]:
    """Names and values to log: `average_mAP` and `mAP@0.50` and so on, of several tasks with their names before them."""
    if isinstance(results, AveragePrecision):
        by_tiou = {f"mAP@{tiou:.2f}": float(value) for tiou, value in zip(results.tiou, results.mean, strict=True)}
        return {"average_mAP": results.average, **by_tiou}
    return {
        f"{task}_{name}": value for task, part in results.items() for name, value in detection_summary(part).items()
    }


def _columns(spans: Spans) -> list[np.ndarray | None]:
    return [spans.video, spans.start, spans.end, spans.label, spans.score]


def _sorted(found: Spans) -> Spans:
    assert found.score is not None
    order = np.argsort(-found.score, kind="stable")
    return Spans(found.video[order], found.start[order], found.end[order], found.label[order], found.score[order])


def _tiou(start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray) -> np.ndarray:
    shared = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0)
    union = (end - start) + (other_end - other_start) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _match(truth: Spans, found: Spans, tiou: Float[np.ndarray, " J"]) -> Bool[np.ndarray, "N J"]:
    """Which detections, sorted by score, are right at each threshold.

    A group is what is annotated of one class in one video. Detections of different groups never compete, so the first of
    all groups are matched at once, then the second of all groups that have one, and so on.
    """
    right = np.zeros((len(found), len(tiou)), dtype=bool)
    size = int(max(truth.label.max(), found.label.max() if len(found) else 0)) + 1
    keys, group_of_truth = np.unique(truth.video.astype(np.int64) * size + truth.label, return_inverse=True)
    own = found.video.astype(np.int64) * size + found.label
    group = np.searchsorted(keys, own).clip(max=len(keys) - 1)
    competing = np.flatnonzero(keys[group] == own)  # the others have nothing to match: all wrong
    if not len(competing):
        return right
    # Annotated segments by group, padded with segments that overlap with nothing.
    in_order = _by_group(group_of_truth)
    rank = _rank(group_of_truth[in_order])
    starts, ends = (np.full((len(keys), rank.max() + 1), np.nan) for _ in range(2))
    starts[group_of_truth[in_order], rank] = truth.start[in_order]
    ends[group_of_truth[in_order], rank] = truth.end[in_order]
    # What overlaps with nothing by enough is wrong, and in nobody's way.
    overlaps = _tiou(
        found.start[competing, None], found.end[competing, None], starts[group[competing]], ends[group[competing]]
    )
    overlaps = np.nan_to_num(overlaps, copy=False, nan=-1.0)
    near = (overlaps >= tiou.min()).any(1)
    competing, overlaps = competing[near], overlaps[near]
    # Detections by group and score; groups with most of them first, so that those still going are always the first ones.
    order = _by_group(group[competing])
    competing, overlaps = competing[order], overlaps[order]
    counts = np.bincount(group[competing], minlength=len(keys))
    by_count = np.argsort(-counts, kind="stable")
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    free = np.ones((len(keys), len(tiou), starts.shape[1]), dtype=bool)
    for step in range(int(counts.max())):
        groups = by_count[: int((counts > step).sum())]
        mine = begins[groups] + step
        offered = np.where(free[groups], overlaps[mine, None, :], -1.0)  # (groups, J, segments)
        best = offered.argmax(2)
        hit = np.take_along_axis(offered, best[..., None], 2)[..., 0] >= tiou
        right[competing[mine]] = hit
        taken, threshold = np.nonzero(hit)
        free[groups[taken], threshold, best[taken, threshold]] = False
    return right


def _by_group(groups: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Order by group, within a group as before; numpy sorts numbers of 16 bits several times faster than others."""
    small = len(groups) and groups.min() >= 0 and groups.max() < 2**16
    return np.argsort(groups.astype(np.uint16) if small else groups, kind="stable")


def _rank(groups: np.ndarray) -> np.ndarray:
    """Place of each element within its group, where groups stand one after another."""
    if not len(groups):
        return np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    lengths = np.diff(np.concatenate([first, [len(groups)]]))
    return np.arange(len(groups)) - np.repeat(first, lengths)


def _area(right: Bool[np.ndarray, "J N"], wanted: int) -> Float[np.ndarray, " J"]:
    """Area under precision over recall, of detections by falling score; recall rises by 1 / wanted at each right one."""
    if not right.shape[1]:
        return np.zeros(len(right))
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (best_from_here * right).sum(1) / wanted
