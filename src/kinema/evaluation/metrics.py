"""Video-level numbers: all from one table of scores, computed once."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from kinema.evaluation.task_views import TaskScores
from kinema.evaluation.views import VideoScores

_SCORE_COLUMNS = ["video", "label", "guess", "right", "decoded", "views"]


def video_metrics(videos: VideoScores | TaskScores) -> dict[str, float]:
    """Accuracy over videos.

    `top1` and `top5` count an undecodable video as wrong; `top1_decodable` and `top5_decodable` leave it out.
    `mean_class` is the mean over classes of the top-1 accuracy of the class, undecodable videos counted as wrong.
    With fewer than five classes, `top5` is the accuracy of that many guesses. A video with a score that is NaN or infinite has
    no best class and counts as wrong; `not_finite` says how many there are, where there are any.

    Where samples have several labels, these are of their combination, which is right if all labels are; `verb_top1`,
    `noun_top5` and so on are of each task by itself, and `fused_top1` of the combination by scores averaged over the views
    before they were multiplied. For a verb and a noun the combination also stands as `action_top1` and `action_top5`.
    """
    if bad := int(not_finite(videos).sum()):
        return video_metrics(_without_guess(videos)) | {
            "undecodable": int((~videos.decoded).sum()),
            "not_finite": bad,
        }
    if isinstance(videos, TaskScores):
        return _task_metrics(videos)
    total, decodable = len(videos.labels), int(videos.decoded.sum())
    num_classes = videos.scores.shape[1]
    metrics: dict[str, float] = {"videos": total, "undecodable": total - decodable}
    for k in (1, 5):
        right = _right(videos, top_k=min(k, num_classes))
        metrics[f"top{k}"] = right / total
        metrics[f"top{k}_decodable"] = right / decodable if decodable else 0.0
    guesses = torch.where(videos.decoded, videos.scores.nan_to_num(0).argmax(1), (videos.labels + 1) % num_classes)
    if num_classes > 1:
        accuracy = multiclass_accuracy(guesses, videos.labels, num_classes, average="none")
        metrics["mean_class"] = float(accuracy[videos.labels.unique()].double().mean())
    else:
        metrics["mean_class"] = metrics["top1"]
    return metrics


def not_finite(videos: VideoScores | TaskScores) -> Bool[Tensor, " videos"]:
    """Videos that were decoded and have a score, of any task, that is NaN or infinite."""
    parts = videos.tasks.values() if isinstance(videos, TaskScores) else [videos]
    # Those of videos that could not be decoded are NaN on purpose.
    return torch.stack([part.decoded & ~part.scores.isfinite().all(dim=1) for part in parts]).any(dim=0)


def _without_guess(videos: VideoScores | TaskScores) -> VideoScores | TaskScores:
    """The same, what is not finite treated as what was not decoded."""
    kept = videos.decoded & ~not_finite(videos)
    if isinstance(videos, TaskScores):
        return replace(videos, tasks={name: replace(part, decoded=kept) for name, part in videos.tasks.items()})
    return replace(videos, decoded=kept)


def confusion(videos: VideoScores) -> Int[Tensor, "K K"]:
    """Decoded videos by true class (rows) and best guess (columns)."""
    kept = videos.decoded
    return multiclass_confusion_matrix(
        videos.scores[kept].argmax(1), videos.labels[kept], num_classes=videos.scores.shape[1]
    )


def write_scores(path: Path, videos: VideoScores, names: Sequence[str], class_names: Sequence[str]) -> None:
    """Write one row per video: its name, true class, best guess, whether it is right, and the score of every class."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_SCORE_COLUMNS, *class_names])
        for name, scores, label, decoded, views in zip(
            names,
            videos.scores,
            videos.labels.tolist(),
            videos.decoded.tolist(),
            videos.num_views.tolist(),
            strict=True,
        ):
            guess = int(scores.argmax()) if decoded else -1
            writer.writerow(
                [
                    name,
                    class_names[label],
                    class_names[guess] if decoded else "",
                    int(guess == label),
                    int(decoded),
                    views,
                    *(f"{score:.8g}" for score in scores.tolist()),
                ]
            )


def read_scores(path: Path) -> tuple[VideoScores, list[str], list[str]]:
    """Read what `write_scores` wrote: the scores, the names of the videos, and those of the classes.

    Videos are numbered by their row.

    Raises:
        ValueError: If the file is no table of scores.
    """
    head, *rows = _table(path)
    if _tasks_of(head):
        raise ValueError(
            f"{path} holds scores of several tasks, such as verbs and nouns; only runs of one label a video can be read as one "
            "table of scores"
        )
    if head[: len(_SCORE_COLUMNS)] != _SCORE_COLUMNS or not rows:
        raise ValueError(f"{path} is no table of scores; give the val_scores.csv of a run folder")
    class_names = head[len(_SCORE_COLUMNS) :]
    scores = torch.tensor([[float(score) for score in row[len(_SCORE_COLUMNS) :]] for row in rows], dtype=torch.float64)
    videos = VideoScores(
        torch.arange(len(rows)),
        scores,
        torch.tensor([class_names.index(row[1]) for row in rows]),
        torch.tensor([row[4] == "1" for row in rows]),
        torch.tensor([int(row[5]) for row in rows]),
    )
    return videos, [row[0] for row in rows], class_names


def write_task_scores(
    path: Path, videos: TaskScores, names: Sequence[str], class_names: Mapping[str, Sequence[str]]
) -> None:
    """Write one row per video: its name, each task's true class and its part of the best combination, and all scores."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        facts = [f"{kind}.{task}" for task in videos.tasks for kind in ("label", "guess")]
        scores = [f"{task}.{name}" for task in videos.tasks for name in class_names[task]]
        writer.writerow(["video", *facts, "right", "decoded", "views", *scores])
        for row, name in enumerate(names):
            decoded = bool(videos.decoded[row])
            labels, guesses = videos.labels[row].tolist(), videos.guesses[row].tolist()
            shown: list[str] = []
            for task, label, guess in zip(videos.tasks, labels, guesses, strict=True):
                shown += [class_names[task][label], class_names[task][guess] if decoded else ""]
            writer.writerow(
                [
                    name,
                    *shown,
                    int(decoded and labels == guesses),
                    int(decoded),
                    int(videos.num_views[row]),
                    *(f"{score:.8g}" for task in videos.tasks.values() for score in task.scores[row].tolist()),
                ]
            )


def read_task_scores(path: Path) -> tuple[dict[str, VideoScores], list[str], dict[str, list[str]]]:
    """Read what `write_task_scores` or `write_scores` wrote: the scores of each task, names of videos, classes of each task.

    Videos are numbered by their row. Which place the true combination had in each view is not in the file. Where videos have
    one label, there is one task, of the name "".

    Raises:
        ValueError: If the file is no table of scores.
    """
    head, *rows = _table(path)
    names = _tasks_of(head)
    if not names:
        videos, videos_names, class_names = read_scores(path)
        return {"": videos}, videos_names, {"": class_names}
    if not rows:
        raise ValueError(f"{path} holds no video; give the val_scores.csv of a run folder")
    decoded = torch.tensor([row[head.index("decoded")] == "1" for row in rows])
    num_views = torch.tensor([int(row[head.index("views")]) for row in rows])
    first = head.index("views") + 1
    tasks: dict[str, VideoScores] = {}
    classes: dict[str, list[str]] = {}
    for task in names:
        columns = [column for column in range(first, len(head)) if head[column].startswith(f"{task}.")]
        classes[task] = [head[column].removeprefix(f"{task}.") for column in columns]
        label = head.index(f"label.{task}")
        tasks[task] = VideoScores(
            torch.arange(len(rows)),
            torch.tensor([[float(row[column]) for column in columns] for row in rows], dtype=torch.float64),
            torch.tensor([classes[task].index(row[label]) for row in rows]),
            decoded,
            num_views,
        )
    return tasks, [row[0] for row in rows], classes


def _table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows:
        raise ValueError(f"{path} is empty; give the val_scores.csv of a run folder")
    return rows


def _tasks_of(head: Sequence[str]) -> list[str]:
    """Names of the tasks of a table of scores by its first row; none where videos have one label."""
    facts = head[: head.index("right")] if head[:1] == ["video"] and "right" in head else []
    return [column.removeprefix("label.") for column in facts if column.startswith("label.")]


def draw_confusion(path: Path, matrix: Int[Tensor, "K K"], class_names: Sequence[str], *, title: str = "") -> None:
    """Draw a confusion matrix as shares of each true class, with counts where there is room for them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = matrix.double()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    size = min(max(4.0, 0.45 * len(class_names) + 2), 24.0)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    axes.set(xlabel="guess", ylabel="true class", title=title)
    if len(class_names) <= 60:
        axes.set_xticks(range(len(class_names)), class_names, rotation=90)
        axes.set_yticks(range(len(class_names)), class_names)
    if len(class_names) <= 30:
        for row, column in counts.nonzero().tolist():
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, str(int(counts[row, column])), ha="center", va="center", color="white" if dark else "black"
            )
    figure.savefig(path, dpi=100)


def _task_metrics(videos: TaskScores) -> dict[str, float]:
    total, decodable = len(videos.decoded), int(videos.decoded.sum())
    metrics: dict[str, float] = {"videos": total, "undecodable": total - decodable}
    for k in (1, 5):
        # Not `rank < k` alone: with fewer combinations than k an undecodable video would be right.
        right = int(((videos.rank < k) & videos.decoded).sum())
        metrics[f"top{k}"] = right / total
        metrics[f"top{k}_decodable"] = right / decodable if decodable else 0.0
        metrics[f"fused_top{k}"] = int(((videos.fused_rank < k) & videos.decoded).sum()) / total
    for task, scores in videos.tasks.items():
        of_task = video_metrics(scores)
        metrics |= {f"{task}_{name}": of_task[name] for name in ("top1", "top5")}
    if set(videos.tasks) == {"verb", "noun"}:
        metrics |= {f"action_top{k}": metrics[f"top{k}"] for k in (1, 5)}
    return metrics


def _right(videos: VideoScores, *, top_k: int) -> int:
    kept = videos.decoded
    if not kept.any():
        return 0
    best = videos.scores[kept].topk(top_k, dim=1).indices
    return int((best == videos.labels[kept, None]).any(1).sum())
