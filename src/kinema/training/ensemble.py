"""Several runs as one: the weighted mean of the scores they recorded for every video."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from kinema.evaluation.metrics import read_scores
from kinema.evaluation.views import VideoScores
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
        videos: Scores of every video, in the order of the first run.
        names: Paths of the videos.
        class_names: Names of the classes by id.
        members: The scores of each run, in the same order.
    """

    runs: list[Path]
    weights: list[float]
    videos: VideoScores
    names: list[str]
    class_names: list[str]
    members: list[VideoScores]


def average_runs(runs: Sequence[str | Path], *, weights: Sequence[float] | None = None, part: Part = "val") -> Ensemble:
    """Average the per-video scores of evaluated runs: s_v = sum_r w_r s_rv / sum_r w_r.

    Scores are what each run recorded, means over the views of a video: probabilities, or logits where the run averages
    logits (two-stream TSM is the plain mean of these, Lin, Gan and Han 2019, arXiv:1811.08383). Videos are matched by their
    path, so their order in a run does not matter. A video that one of the runs could not decode counts as wrong, as in that
    run.

    Args:
        runs: Run folders, or folders of runs, of which the newest is taken.
        weights: One for each run, none below 0; equal when None.
        part: Whether the validation or the test scores are averaged.

    Raises:
        EnsembleError: If the runs are fewer than two, or differ in videos, labels, classes, or in what they averaged.
        FileNotFoundError: If a run was not evaluated on this part.
    """
    if len(runs) < 2:
        raise EnsembleError(f"an ensemble needs at least two runs, got {len(runs)}")
    shares = _shares(weights, len(runs))
    folders = [_evaluated(run, part) for run in runs]
    if len({folder.path.resolve() for folder in folders}) < len(folders):
        told = ", ".join(str(folder.path) for folder in folders)
        raise EnsembleError(f"a run was given twice among {told}; use weights to weigh runs")
    first, names, class_names = read_scores(folders[0].scores(part))
    members = [first]
    for folder in folders[1:]:
        members.append(_matched(folder, part, folders[0], first, names, class_names))
    kinds = [_of_probabilities(member) for member in members]
    if len(set(kinds)) > 1:
        told = ", ".join(
            f"{folder.path}: {'probabilities' if kind else 'logits'}"
            for folder, kind in zip(folders, kinds, strict=True)
        )
        raise EnsembleError(
            f"the runs recorded different scores ({told}); evaluate them with the same --model.average, probabilities or logits"
        )
    scores = torch.stack([share * member.scores for share, member in zip(shares, members, strict=True)]).sum(0)
    decoded = torch.stack([member.decoded for member in members]).all(0)
    num_views = torch.stack([member.num_views for member in members]).sum(0)
    videos = VideoScores(first.videos, scores, first.labels, decoded, num_views)
    return Ensemble([folder.path for folder in folders], shares, videos, names, class_names, members)


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


def _matched(
    folder: RunFolder, part: Part, reference: RunFolder, first: VideoScores, names: list[str], class_names: list[str]
) -> VideoScores:
    """The scores of a run in the order of the first one."""
    videos, own_names, own_classes = read_scores(folder.scores(part))
    where = f"{folder.path} and {reference.path}"
    if own_classes != class_names:
        different = [pair for pair in zip(own_classes, class_names, strict=False) if pair[0] != pair[1]][:2]
        raise EnsembleError(
            f"{where} have different classes: {len(own_classes)} and {len(class_names)}, such as {different}; "
            "their order counts too"
        )
    rows = _rows_by_sample(own_names)
    samples = list(_rows_by_sample(names))
    missing = [sample for sample in samples if sample not in rows]
    surplus = rows.keys() - set(samples)
    if missing or surplus:
        example = (missing or sorted(surplus))[0][0]
        raise EnsembleError(
            f"{where} scored different videos: {len(missing)} are in the second alone and {len(surplus)} in the first, such as "
            f"{example}; evaluate both on the same manifest"
        )
    order = torch.tensor([rows[sample] for sample in samples])
    labels = videos.labels[order]
    if not torch.equal(labels, first.labels):
        differ = (labels != first.labels).nonzero().flatten().tolist()
        own, other = (class_names[int(ids[differ[0]])] for ids in (labels, first.labels))
        raise EnsembleError(
            f"{where} label {len(differ)} videos differently, {names[differ[0]]} being {own} and {other}; "
            "evaluate both on the same manifest"
        )
    return VideoScores(first.videos, videos.scores[order], labels, videos.decoded[order], videos.num_views[order])


def _rows_by_sample(names: list[str]) -> dict[tuple[str, int], int]:
    """Row of each sample: its path, and how often the path stood before, where a long video holds several samples."""
    seen: dict[str, int] = {}
    rows: dict[tuple[str, int], int] = {}
    for row, name in enumerate(names):
        rows[name, seen.get(name, 0)] = row
        seen[name] = seen.get(name, 0) + 1
    return rows


def _of_probabilities(videos: VideoScores) -> bool:
    scores: Tensor = videos.scores[videos.decoded]
    return bool((scores >= 0).all() and ((scores.sum(1) - 1).abs() < 1e-4).all())
