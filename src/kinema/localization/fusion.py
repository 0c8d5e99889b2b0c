"""Classes of proposals: from the scores of the clips they cover, or from the best classes of the whole video.

A classifier that was trained on cut clips says of every clip of a long video what it shows. On EPIC-KITCHENS-100 the authors
of TAdaConv read these scores for each proposal by itself; on ActivityNet and HACS, where a video mostly shows one thing,
common practice gives every proposal the best classes of the video.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinema.localization.sampling import sample_points


class Ranked(NamedTuple):
    """The best classes of each row, best first; a label is one id per task."""

    score: Float[np.ndarray, "P L"]
    label: Int[np.ndarray, "P L tasks"]


def class_probabilities(
    logits: Float[Tensor, "K T"],
    first: Int[np.ndarray, " P"],
    length: Int[np.ndarray, " P"],
    *,
    num_samples: int = 6,
    num_points: int = 3,
) -> Float[Tensor, "P K"]:
    """Class probabilities of the proposals of a window: the mean over samples of the softmax of their logits.

    Samples are taken from first to last bin as boundary matching takes them, without what lies before and behind.

    Args:
        logits: Class scores of each bin, before any softmax.
        first, length: First bin and bins of each proposal, within the window.
        num_samples: Samples of a proposal.
        num_points: Points that each sample averages.
    """
    points = sample_points(first, length, logits.shape[1], num_samples=num_samples, num_points=num_points, context=0.0)
    lower, upper = (torch.from_numpy(index) for index in (points.lower, points.upper))
    low, high = (torch.from_numpy(weight) for weight in (points.lower_weight, points.upper_weight))
    bins = logits.double().T  # (T, K)
    samples = (bins[lower] * low[..., None] + bins[upper] * high[..., None]).sum(2)  # (P, N, K)
    return samples.softmax(-1).mean(1)


def video_probabilities(logits: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Class probabilities of a video: the mean over its clips of the softmax of their logits."""
    return logits.double().softmax(1).mean(0)


def rank_classes(
    probabilities: Sequence[Float[np.ndarray, "P K"]], num_labels: int, *, top: Sequence[int] = (10, 30)
) -> Ranked:
    """The best classes of each row; with several tasks the best products of one class of each.

    With several tasks only the `top` classes of each are combined, 10 verbs and 30 nouns in the code of TAdaConv's authors.

    Args:
        probabilities: Of each task.
        num_labels: Classes per row, L; all that there are if there are fewer.
        top: Classes of each task that are combined; not used with one task.
    """
    if len(probabilities) == 1:
        order, best = _best(probabilities[0], num_labels)
        return Ranked(best, order[..., None])
    score: np.ndarray | None = None
    parts: list[np.ndarray] = []
    for number, task in enumerate(probabilities):
        count = top[number] if number < len(top) else top[-1]
        order, best = _best(task, count)
        if score is None:
            score, parts = best, [order]
            continue
        score = (score[:, :, None] * best[:, None, :]).reshape(len(task), -1)
        parts = [np.repeat(part, best.shape[1], axis=1) for part in parts]
        parts.append(np.tile(order, (1, score.shape[1] // best.shape[1])))
    assert score is not None
    order, best = _best(score, num_labels)
    return Ranked(best, np.stack([np.take_along_axis(part, order, 1) for part in parts], -1))


def _best(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of the largest of each row, the first of equals first."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(values, order, 1)
