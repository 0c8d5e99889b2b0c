"""What a classifier says of videos: of each as a whole, and over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.data.clips import EvalClips
from kinema.data.manifest import VIDEO_SUFFIXES
from kinema.data.untrimmed.clips_over_time import ClipsOverTime
from kinema.data.video_names import printable
from kinema.training.restore import Predictor


@dataclass(frozen=True)
class Timeline:
    """Scores over time.

    Args:
        times: Middle of each window, in seconds.
        window_s: Length of the windows; their mean where dense clips lie in a video of variable rate.
        scores: Of every class, one row a window; each sums to one.
        note: What to know of windows that are shorter than what the network learnt; empty where they are not.
    """

    times: tuple[float, ...]
    window_s: float
    scores: Float[Tensor, "V K"]
    note: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one video, or why it says nothing.

    Args:
        video: As it was given.
        scores: Of every class, as in validation; None where a frame for them could not be decoded.
        error: What could not be decoded, if only for the scores over time. Of this and of the names of files, text is made
            when they are written: see `printable`.
        timeline: Scores over time, where they were asked for.
        picture: File of the picture, where one was drawn.
    """

    video: str
    scores: Float[Tensor, " K"] | None = None
    error: str = ""
    timeline: Timeline | None = None
    picture: str = ""


@dataclass(frozen=True)
class Guess:
    """One class and its score, in [0, 1]."""

    id: int
    name: str
    score: float


def find_videos(paths: Sequence[str | Path], *, pictures: bool = False) -> list[Path]:
    """The videos that are meant by files and folders: files as they are given, of folders every video below.

    Args:
        paths: What was given. A path that does not exist stays in the list; that it cannot be decoded is told later.
        pictures: Whether a folder without video files and sub-folders is itself a video, its frames pictures.

    Raises:
        ValueError: If a folder holds no video.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
        if not below and pictures:
            folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
            below = folders or [path]
        if not below:
            raise ValueError(
                f"the folder {path} holds no video; give files, or a folder with files of {', '.join(sorted(VIDEO_SUFFIXES))}"
            )
        found += below
    return list(dict.fromkeys(found))


def scores_over_time(
    predictor: Predictor, source: str | Path | bytes, *, num_windows: int = 16, seconds: float | None = None
) -> Timeline:
    """Scores of windows that slide over a video, see `ClipsOverTime`.

    Args:
        predictor: The classifier.
        source: The video.
        num_windows: How many.
        seconds: Their length, for segment sampling.

    Raises:
        DecodeError: If the video cannot be decoded.
        NonFiniteScoresError: If the network gives no numbers for it.
    """
    sliding = over_time(predictor.cutting(source), num_windows, seconds)
    times, scores, lengths, end = [], [], [], Fraction(0)
    name = "the video" if isinstance(source, bytes) else str(source)
    for view in sliding(source):
        scores.append(predictor.scores(view.pixels[None], name=name))
        times.append(float((view.clip.start + view.clip.end) / 2))
        lengths.append(view.clip.end - view.clip.start)
        end = view.clip.end  # the last window ends with the video
    window: Fraction = sum(lengths, Fraction(0)) / len(lengths)
    learnt = sliding.learnt_s(source)
    note = ""
    if learnt is None and window < end:
        note = f"windows of {float(window):.3g} s; the network learnt clips of whole videos, here of {float(end):.3g} s"
    elif learnt is not None and end < learnt:
        note = f"windows of {float(window):.3g} s; the network learnt clips of {float(learnt):.3g} s"
    return Timeline(tuple(times), float(window), torch.stack(scores), note)


def over_time(clips: EvalClips, num_windows: int, seconds: float | None) -> ClipsOverTime:
    """The windows that `scores_over_time` scores; seconds as a person writes them."""
    return ClipsOverTime(clips, num_windows, None if seconds is None else Fraction(str(seconds)))


def best_guesses(scores: Float[Tensor, " K"], names: Sequence[str], top: int) -> list[Guess]:
    """The classes of the highest scores, best first; of equal ones that of the lower id."""
    order = scores.argsort(descending=True, stable=True)[:top].tolist()
    return [Guess(label, names[label], float(scores[label])) for label in order]


def curve_keys(guesses: Sequence[Guess]) -> list[str]:
    """A key for the curve of each: the name of its class, or NAME (ID) where another one has the same name."""
    names = [guess.name for guess in guesses]
    keys: list[str] = []
    for guess in guesses:
        key = guess.name
        while names.count(key) > 1 or key in keys or (key != guess.name and key in names):
            key = f"{key} ({guess.id})"
        keys.append(key)
    return keys


def as_facts(prediction: Prediction, names: Sequence[str], top: int) -> dict[str, Any]:
    """A prediction as plain values, for JSON.

    `top` holds id, class and score of each guess, and `key` where its curve in `over_time` is not under the name of its class.
    """
    facts: dict[str, Any] = {"video": printable(prediction.video)}
    if prediction.error:
        facts["error"] = printable(prediction.error)
    if prediction.scores is None:
        return facts
    guesses = best_guesses(prediction.scores, names, top)
    keys = curve_keys(guesses)
    facts["top"] = [
        {"id": guess.id, "class": guess.name, "score": guess.score} | ({} if key == guess.name else {"key": key})
        for guess, key in zip(guesses, keys, strict=True)
    ]
    if prediction.timeline is not None:
        over_time: dict[str, Any] = {
            "times": list(prediction.timeline.times),
            "window_s": prediction.timeline.window_s,
            "scores": {
                key: prediction.timeline.scores[:, guess.id].tolist() for guess, key in zip(guesses, keys, strict=True)
            },
        }
        if prediction.timeline.note:
            over_time["note"] = prediction.timeline.note
        facts["over_time"] = over_time
    if prediction.picture:
        facts["picture"] = printable(prediction.picture)
    return facts


CSV_COLUMNS = ("video", "rank", "id", "class", "score", "error")


def as_rows(prediction: Prediction, names: Sequence[str], top: int) -> list[tuple[Any, ...]]:
    """A prediction as rows of `CSV_COLUMNS`: one a guess, or one that says why there is none."""
    video, error = printable(prediction.video), printable(prediction.error)
    if prediction.scores is None:
        return [(video, "", "", "", "", error)]
    guesses = best_guesses(prediction.scores, names, top)
    return [(video, rank, guess.id, guess.name, f"{guess.score:.6f}", error) for rank, guess in enumerate(guesses, 1)]
