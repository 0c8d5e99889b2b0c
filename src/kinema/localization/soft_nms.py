"""Soft non-maximum suppression of segments (Bodla et al. 2017, section 3, arXiv:1704.04503), over many videos at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Kept(NamedTuple):
    """Proposals in the order in which they were chosen; where a video has no more, the index is -1 and the score -inf."""

    index: Int[np.ndarray, "V K"]
    score: Float[np.ndarray, "V K"]


def soft_nms(
    start: Float[np.ndarray, "V P"],
    end: Float[np.ndarray, "V P"],
    score: Float[np.ndarray, "V P"],
    *,
    keep: int,
    alpha: float = 0.4,
    low: float = 0.25,
    high: float = 0.9,
) -> Kept:
    """Choose the best proposal of each video, lower the score of those that overlap with it, and go on.

    Once a proposal of width w is chosen, the score of one that overlaps with it by v > low + (high - low) * w is multiplied
    by exp(-v^2 / alpha). Every step is done for all videos at once.

    The code of TAdaConv's authors never returns the last proposal that is left, and mmaction2's returns `keep` + 1; here up
    to `keep` are returned and none is lost.

    Args:
        start, end: As shares of the duration of their video, so that widths are in [0, 1].
        score: Of each; -inf where a video has fewer than P.
        keep: Proposals returned of each video, K.
        alpha: How slowly scores fall.
        low, high: Overlap that is let pass beside a proposal of width 0 and 1.

    Raises:
        ValueError: If a score is NaN, or shapes differ.
    """
    if not start.shape == end.shape == score.shape or start.ndim != 2:
        raise ValueError(
            f"start, end and score have the shapes {start.shape}, {end.shape} and {score.shape}; one (videos, proposals) was "
            "expected"
        )
    if np.isnan(score).any():
        raise ValueError(
            f"{int(np.isnan(score).sum())} of {score.size} scores are NaN; the network that made them diverged"
        )
    videos, count = score.shape
    keep = min(keep, count)
    score = score.astype(np.float64)  # a copy: it is written to
    start, end = start.astype(np.float64), end.astype(np.float64)
    width = end - start
    threshold = low + (high - low) * width
    rows = np.arange(videos)
    index = np.full((videos, keep), -1)
    chosen = np.full((videos, keep), -np.inf)
    shared, spare = np.empty_like(score), np.empty_like(score)
    for step in range(keep):
        best = score.argmax(1)
        value = score[rows, best]
        left = value > -np.inf
        if not left.any():
            break
        index[left, step], chosen[left, step] = best[left], value[left]
        # In place: most of the time of small steps goes into getting memory.
        np.minimum(end, end[rows, best][:, None], out=shared)
        np.maximum(start, start[rows, best][:, None], out=spare)
        shared -= spare
        np.maximum(shared, 0, out=shared)
        np.add(width, width[rows, best][:, None], out=spare)
        spare -= shared
        np.divide(shared, spare, out=shared, where=spare > 0)
        near = np.flatnonzero(shared > threshold[rows, best][:, None])
        overlap = shared.ravel()[near]
        score.ravel()[near] *= np.exp(-overlap * overlap / alpha)
        score[rows, best] = -np.inf
    return Kept(index, chosen)
