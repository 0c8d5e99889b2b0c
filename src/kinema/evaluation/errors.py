"""Where a model is wrong: its hardest videos, and the classes it takes for one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kinema.evaluation.confusion import confusion
from kinema.evaluation.views import Average, VideoScores


@dataclass(frozen=True)
class HardVideo:
    """A video and what the model made of it.

    Args:
        video: Its name.
        label: Its true class.
        guess: The class of the highest score.
        score: Probability of the true class.
        guess_score: Probability of the guess.
        loss: -ln(score), in nats; infinite where the score is 0.
    """

    video: str
    label: str
    guess: str
    score: float
    guess_score: float
    loss: float


@dataclass(frozen=True)
class ConfusedPair:
    """A class that was taken for another.

    Args:
        label: The true class.
        guess: What it was taken for.
        count: How many of its videos were.
        share: Part of its decoded videos, in [0, 1].
        back: How many videos of the other class were taken for this one.
    """

    label: str
    guess: str
    count: int
    share: float
    back: int


def hardest_videos(
    videos: VideoScores,
    names: Sequence[str],
    class_names: Sequence[str],
    *,
    count: int = 10,
    average: Average = "probabilities",
) -> list[HardVideo]:
    """The videos whose true class has the lowest score, hardest first; videos that are guessed right may be among them.

    Undecodable videos are left out: they have no score.

    Args:
        videos: Scores of an evaluation.
        names: Of the videos, in their order.
        class_names: Names by class id.
        count: How many at most.
        average: What the scores are; logits are turned into probabilities first.

    Raises:
        ValueError: If there is another number of names than of videos or classes, or probabilities do not sum to one.
    """
    _check(videos, class_names)
    if len(names) != len(videos.labels):
        raise ValueError(f"{len(names)} names came for {len(videos.labels)} videos; give one for each")
    scores = videos.scores.double()
    if average == "logits":
        scores = scores.softmax(dim=1)
    elif bool(((scores[videos.decoded].sum(dim=1) - 1).abs() > 1e-3).any()):
        raise ValueError("the scores of a video do not sum to one, so they are no probabilities; give average='logits'")
    found = []
    for name, row, label, decoded in zip(
        names, scores.tolist(), videos.labels.tolist(), videos.decoded.tolist(), strict=True
    ):
        if decoded:
            guess = max(range(len(row)), key=row.__getitem__)
            loss = -math.log(row[label]) if row[label] > 0 else math.inf
            found.append(HardVideo(name, class_names[label], class_names[guess], row[label], row[guess], loss))
    return sorted(found, key=lambda video: video.score)[:count]


def confused_pairs(videos: VideoScores, class_names: Sequence[str], *, count: int = 10) -> list[ConfusedPair]:
    """Which classes are taken for which others, most videos first, then the largest share of a class.

    Args:
        videos: Scores of an evaluation; undecodable videos are left out.
        class_names: Names by class id.
        count: How many pairs at most.

    Raises:
        ValueError: If there is another number of names than of classes.
    """
    _check(videos, class_names)
    matrix = confusion(videos).tolist()
    pairs = [
        ConfusedPair(class_names[label], class_names[guess], number, number / sum(row), matrix[guess][label])
        for label, row in enumerate(matrix)
        for guess, number in enumerate(row)
        if number and guess != label
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:count]


def _check(videos: VideoScores, class_names: Sequence[str]) -> None:
    if len(class_names) != videos.scores.shape[1]:
        raise ValueError(
            f"{len(class_names)} class names came for scores of {videos.scores.shape[1]} classes; give one for each"
        )
