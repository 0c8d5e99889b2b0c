"""The score of every class for every video, as a table that spreadsheets and other programs read."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from kinema.evaluation.task_views import TaskScores
from kinema.evaluation.views import VideoScores

_SCORE_COLUMNS = ["video", "label", "guess", "right", "decoded", "views"]


def write_scores(path: Path, videos: VideoScores, names: Sequence[str], class_names: Sequence[str]) -> None:
    """Write one row per video: its name, true class, best guess, whether it is right, and the score of every class.

    Where scores are not finite, or the video could not be decoded, there is no guess, which is wrong.
    """
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
            guess = int(scores.argmax()) if decoded and scores.isfinite().all() else -1
            writer.writerow(
                [
                    name,
                    class_names[label],
                    class_names[guess] if guess >= 0 else "",
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
            guessed = decoded and all(bool(task.scores[row].isfinite().all()) for task in videos.tasks.values())
            labels, guesses = videos.labels[row].tolist(), videos.guesses[row].tolist()
            shown: list[str] = []
            for task, label, guess in zip(videos.tasks, labels, guesses, strict=True):
                shown += [class_names[task][label], class_names[task][guess] if guessed else ""]
            writer.writerow(
                [
                    name,
                    *shown,
                    int(guessed and labels == guesses),
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
