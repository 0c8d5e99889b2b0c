"""Several runs as one: the weighted mean of the scores they recorded for every video."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from kinema.evaluation.score_files import read_task_scores
from kinema.evaluation.task_views import TaskScores, combine_averaged
from kinema.evaluation.views import Average, VideoScores
from kinema.training.record import RunFolder, find_run

Part = Literal["val", "test"]


class EnsembleError(ValueError):
    """Runs whose scores cannot be averaged."""


@dataclass(frozen=True)
class Ensemble:
    """The mean of runs, and what it was computed from.

    Args:
        runs: Their folders.
        weights: Of the runs, summing to 1.
        videos: Scores of every video, in the order of the first run; of each task, where samples have several labels.
        names: Paths of the videos.
        class_names: Names of the classes by id, for each task; the task of samples with one label is called "".
        members: The scores of each run, in the same order.
    """

    runs: list[Path]
    weights: list[float]
    videos: VideoScores | TaskScores
    names: list[str]
    class_names: dict[str, list[str]]
    members: list[VideoScores | TaskScores]


@dataclass(frozen=True)
class _Recorded:
    """What a run has recorded, by task."""

    path: Path
    tasks: dict[str, VideoScores]
    names: list[str]
    class_names: dict[str, list[str]]

    @property
    def average(self) -> Average:
        """What it averaged over views, which the scores show."""
        return "probabilities" if all(map(_of_probabilities, self.tasks.values())) else "logits"

    @property
    def videos(self) -> VideoScores | TaskScores:
        return _whole(self.tasks, self.average)


def average_runs(runs: Sequence[str | Path], *, weights: Sequence[float] | None = None, part: Part = "val") -> Ensemble:
    """Average the per-video scores of evaluated runs: s_v = sum_r w_r s_rv / sum_r w_r.

    Scores are what each run recorded, means over the views of a video: probabilities, or logits where the run averages
    logits (two-stream TSM is the plain mean of these, Lin, Gan and Han 2019, arXiv:1811.08383). Videos are matched by their
    path, samples within a video by their seconds too, so their order in a run does not matter. A video that one of the runs
    could not decode counts as wrong, as in that run.

    Where samples have several labels, the scores of verbs and those of nouns are averaged, and actions are products of the
    averages: runs do not record what they gave to single views. So the `top1` of a mean, and of its members here, is what a
    run's own metrics call `fused_top1`.

    Args:
        runs: Run folders, or folders of runs, of which the newest is taken.
        weights: One for each run, none below 0; equal when None.
        part: Whether the validation or the test scores are averaged.

    Raises:
        EnsembleError: If the runs are fewer than two, or differ in videos, labels, tasks, classes, or in what they averaged.
        FileNotFoundError: If a run was not evaluated on this part.
    """
    if len(runs) < 2:
        raise EnsembleError(f"an ensemble needs at least two runs, got {len(runs)}")
    shares = _shares(weights, len(runs))
    folders = [_evaluated(run, part) for run in runs]
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        told = ", ".join(str(folder.path) for folder in folders)
        raise EnsembleError(f"a run was given twice among {told}; use weights to weigh runs")
    first, *others = [_Recorded(folder.path, *read_task_scores(folder.scores(part))) for folder in folders]
    members = [first, *(_matched(other, first) for other in others)]
    kinds = [member.average for member in members]
    if len(set(kinds)) > 1:
        told = ", ".join(f"{member.path}: {kind}" for member, kind in zip(members, kinds, strict=True))
        raise EnsembleError(
            f"the runs recorded different scores ({told}); evaluate them with the same --model.average, probabilities or logits"
        )
    means = {task: _mean([member.tasks[task] for member in members], shares) for task in first.tasks}
    return Ensemble(
        [member.path for member in members],
        shares,
        _whole(means, kinds[0]),
        first.names,
        first.class_names,
        [member.videos for member in members],
    )


def _whole(tasks: dict[str, VideoScores], average: Average) -> VideoScores | TaskScores:
    return tasks[""] if "" in tasks else combine_averaged(tasks, average=average)


def _mean(members: Sequence[VideoScores], shares: Sequence[float]) -> VideoScores:
    scores = torch.stack([share * member.scores for share, member in zip(shares, members, strict=True)]).sum(0)
    decoded = torch.stack([member.decoded for member in members]).all(0)
    num_views = torch.stack([member.num_views for member in members]).sum(0)
    return VideoScores(members[0].videos, scores, members[0].labels, decoded, num_views)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    weights = [1.0] * count if weights is None else list(weights)
    if len(weights) != count:
        raise EnsembleError(f"{len(weights)} weights were given for {count} runs; give one for each")
    if min(weights) < 0 or not sum(weights) > 0:
        raise EnsembleError(f"weights must not be below 0 and one must be above, got {weights}")
    return [weight / sum(weights) for weight in weights]


def _evaluated(run: str | Path, part: Part) -> RunFolder:
    folder = find_run(run)
    if not folder.scores(part).is_file():
        command = "validate" if part == "val" else "test"
        raise FileNotFoundError(
            f"{folder.path} holds no {part}_scores.csv; evaluate it first: kinema {command} --ckpt_path {folder.path}, and "
            "give the folder that this prints"
        )
    return folder


def _matched(run: _Recorded, first: _Recorded) -> _Recorded:
    """The scores of a run in the order of the first one."""
    where = f"{run.path} and {first.path}"
    if list(run.tasks) != list(first.tasks):
        raise EnsembleError(f"{where} tell different things of a video: {_told(run)} and {_told(first)}")
    for task, class_names in first.class_names.items():
        own_classes = run.class_names[task]
        if own_classes != class_names:
            different = [pair for pair in zip(own_classes, class_names, strict=False) if pair[0] != pair[1]][:2]
            raise EnsembleError(
                f"{where} have different classes{f' of {task}' if task else ''}: {len(own_classes)} and {len(class_names)}, "
                f"such as {different}; their order counts too"
            )
    rows = _rows_by_sample(run.names)
    samples = list(_rows_by_sample(first.names))
    missing = [sample for sample in samples if sample not in rows]
    surplus = rows.keys() - set(samples)
    if missing or surplus:
        example = (missing or sorted(surplus))[0][0]
        raise EnsembleError(
            f"{where} scored different videos: {len(missing)} are in the second alone and {len(surplus)} in the first, such as "
            f"{example}; evaluate both on the same manifest"
        )
    order = torch.tensor([rows[sample] for sample in samples])
    tasks: dict[str, VideoScores] = {}
    for task, videos in run.tasks.items():
        labels, expected = videos.labels[order], first.tasks[task].labels
        if not torch.equal(labels, expected):
            differ = (labels != expected).nonzero().flatten().tolist()
            own, other = (first.class_names[task][int(ids[differ[0]])] for ids in (labels, expected))
            raise EnsembleError(
                f"{where} label {len(differ)} videos differently, {first.names[differ[0]]} being {own} and {other}; "
                "evaluate both on the same manifest"
            )
        tasks[task] = VideoScores(
            first.tasks[task].videos, videos.scores[order], labels, videos.decoded[order], videos.num_views[order]
        )
    return _Recorded(run.path, tasks, first.names, first.class_names)


def _told(run: _Recorded) -> str:
    return "one label" if "" in run.tasks else " and ".join(run.tasks)


def _rows_by_sample(names: list[str]) -> dict[tuple[str, int], int]:
    """Row of each sample: its name, and how often that stood before, where several samples are of the same seconds."""
    seen: dict[str, int] = {}
    rows: dict[tuple[str, int], int] = {}
    for row, name in enumerate(names):
        rows[name, seen.get(name, 0)] = row
        seen[name] = seen.get(name, 0) + 1
    return rows


def _of_probabilities(videos: VideoScores) -> bool:
    scores: Tensor = videos.scores[videos.decoded]
    return bool((scores >= 0).all() and ((scores.sum(1) - 1).abs() < 1e-4).all())
