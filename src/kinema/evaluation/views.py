"""From the scores of views to the scores of videos, complete and without duplicates, whatever the number of processes."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

Average = Literal["probabilities", "logits"]


class IncompleteEvaluationError(RuntimeError):
    """Some view of some video never arrived, so no number can be given."""


@dataclass(frozen=True)
class VideoScores:
    """One row per video, in the order of the manifest.

    Args:
        videos: Place of each video in the manifest.
        scores: Mean over the views of the softmax probabilities, or of the logits.
        labels: Class ids.
        decoded: False where the video could not be decoded; its scores are NaN and it counts as wrong.
        num_views: Views that were averaged.
    """

    videos: Int[Tensor, " videos"]
    scores: Float[Tensor, "videos K"]
    labels: Int[Tensor, " videos"]
    decoded: Bool[Tensor, " videos"]
    num_views: Int[Tensor, " videos"]


@dataclass(frozen=True)
class ViewRows:
    """The views of an evaluation, complete and without duplicates, in the order (video, view).

    Args:
        keys: Video, view, number of views, label or labels, and whether it was decoded.
        logits: Of each view.
        video: Place of each view's video in `present`.
        present: Place of each video in the manifest.
        starts: Row of the first view of each video.
        num_views: Views of each video.
    """

    keys: Int[Tensor, "rows columns"]
    logits: Float[Tensor, "rows K"]
    video: Int[Tensor, " rows"]
    present: Int[Tensor, " videos"]
    starts: Int[Tensor, " videos"]
    num_views: Int[Tensor, " videos"]

    @property
    def labels(self) -> Int[Tensor, "videos labels"]:
        return self.keys[self.starts, 3:-1]

    @property
    def decoded(self) -> Bool[Tensor, " videos"]:
        return self.keys[self.starts, -1].bool()

    def mean(self, values: Float[Tensor, "rows K"]) -> Float[Tensor, "videos K"]:
        """Mean over the views of each video; NaN where it could not be decoded."""
        total = torch.zeros(len(self.present), values.shape[1], dtype=torch.float64).index_add_(0, self.video, values)
        means = total / self.num_views[:, None]
        means[~self.decoded] = float("nan")
        return means


class ViewScores:
    """Collects the logits of views during an evaluation and averages them per video at its end.

    Views are gathered over all processes as rows (video, view, scores). Rows that arrive twice, as when a sampler pads
    its last batch, are dropped; a row that is missing is an error. Everything is averaged in float64 in the order
    (video, view), so the result does not depend on how the views were dealt to processes.

    Args:
        num_videos: Videos that must arrive.
        average: What is averaged over views.
    """

    def __init__(self, num_videos: int, *, average: Average = "probabilities") -> None:
        if average not in ("probabilities", "logits"):
            raise ValueError(f"average must be 'probabilities' or 'logits', got '{average}'")
        self.num_videos, self.average = num_videos, average
        self._rows: list[tuple[Tensor, Tensor]] = []

    def add(
        self,
        logits: Float[Tensor, "N K"],
        *,
        label: Int[Tensor, "N *labels"],
        video: Int[Tensor, " N"],
        view: Int[Tensor, " N"],
        num_views: Int[Tensor, " N"],
        decoded: Bool[Tensor, " N"],
    ) -> None:
        """Add the views of a batch."""
        places = torch.stack([video, view, num_views], dim=1)
        keys = torch.cat([places, label.reshape(len(label), -1), decoded.long()[:, None]], dim=1)
        self._rows.append((keys.cpu(), logits.detach().float().cpu()))

    def compute(self, *, whole: bool = True) -> VideoScores:
        """Gather over all processes and average.

        Args:
            whole: Require every video. Otherwise the videos that arrived are given, for evaluations cut short on
                purpose; each of them must still be complete.

        Raises:
            IncompleteEvaluationError: If a view of a video, or a video, is missing.
        """
        rows = self.rows(whole=whole)
        values = rows.logits.softmax(-1) if self.average == "probabilities" else rows.logits
        return VideoScores(rows.present, rows.mean(values), rows.labels.squeeze(1), rows.decoded, rows.num_views)

    def rows(self, *, whole: bool = True) -> ViewRows:
        """Gather the views of all processes; as for `compute`."""
        keys, logits = _gathered(torch.cat([k for k, _ in self._rows]), torch.cat([s for _, s in self._rows]))
        keys, first = _unique_rows(keys)
        logits = logits[first].double()
        video, num_views = keys[:, 0], keys[:, 2]
        present, video, arrived = torch.unique(video, return_inverse=True, return_counts=True)
        starts = torch.searchsorted(video, torch.arange(len(present)))
        if whole and len(present) != self.num_videos:
            missing = sorted(set(range(self.num_videos)) - set(present.tolist()))
            raise IncompleteEvaluationError(
                f"{len(missing)} of {self.num_videos} videos never arrived, such as {missing[:5]}; "
                "every video of the manifest must pass through the evaluation"
            )
        expected = num_views[starts]
        if not torch.equal(arrived, expected):
            short = (arrived != expected).nonzero().flatten().tolist()
            raise IncompleteEvaluationError(
                f"{len(short)} videos lack views: video {int(present[short[0]])} has {int(arrived[short[0]])} of "
                f"{int(expected[short[0]])}; all views of a video must be evaluated once"
            )
        return ViewRows(keys, logits, video, present, starts, arrived)


def _unique_rows(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows by (video, view) and keep the first of each."""
    order = torch.argsort(keys[:, 1], stable=True)
    order = order[torch.argsort(keys[order, 0], stable=True)]
    ordered = keys[order]
    fresh = torch.ones(len(ordered), dtype=torch.bool)
    fresh[1:] = (ordered[1:, :2] != ordered[:-1, :2]).any(1)
    return ordered[fresh], order[fresh]


def _gathered(keys: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return keys, logits
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(keys)], device=device))
    longest = int(max(counts))

    def gather(rows: Tensor) -> Tensor:
        padded = rows.new_zeros(longest, rows.shape[1], device=device)
        padded[: len(rows)] = rows.to(device)
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(count)].cpu() for part, count in zip(parts, counts, strict=True)])

    return gather(keys), gather(logits)
