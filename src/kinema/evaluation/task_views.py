"""Video scores where a sample has several labels, as a verb and a noun that make an action (EPIC-KITCHENS).

The network gives logits for each task. An action's score in one view is the product of the probabilities of its verb and its
noun, and in a video the sum over its views, as in the code of TAdaConv:

    action[v, n] = mean over views of softmax(verb logits)[v] * softmax(noun logits)[n]

That is not the product of the averaged probabilities; both are given. All 97 x 300 pairs count, also those that training
never showed. Scores of actions are not kept, only where the true one stands among them: for 10,000 videos they would take
2 GB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.evaluation.views import Average, VideoScores, ViewScores


@dataclass(frozen=True)
class TaskScores:
    """One row per video, in the order of the manifest.

    Args:
        tasks: Scores of each task by its name.
        rank: How many combinations of classes score above the true one, per view and then averaged. Of equal scores the
            combination of lower ids comes first. For a video that could not be decoded it is the number of combinations.
        fused_rank: The same for products of scores that were averaged over the views before.
        guesses: Classes of the best combination, one for each task.
    """

    tasks: dict[str, VideoScores]
    rank: Int[Tensor, " videos"]
    fused_rank: Int[Tensor, " videos"]
    guesses: Int[Tensor, "videos tasks"]

    @property
    def videos(self) -> Int[Tensor, " videos"]:
        return self._any.videos

    @property
    def decoded(self) -> Bool[Tensor, " videos"]:
        return self._any.decoded

    @property
    def num_views(self) -> Int[Tensor, " videos"]:
        return self._any.num_views

    @property
    def labels(self) -> Int[Tensor, "videos tasks"]:
        return torch.stack([scores.labels for scores in self.tasks.values()], dim=1)

    @property
    def _any(self) -> VideoScores:
        return next(iter(self.tasks.values()))


class TaskViewScores(ViewScores):
    """Collects the logits of views of several tasks; otherwise as `ViewScores`.

    Args:
        num_videos: Videos that must arrive.
        num_classes: Classes of each task by its name.
        average: What is averaged over views. Of averaged logits, probabilities are taken before they are multiplied, and
            `rank` is `fused_rank`.
    """

    def __init__(self, num_videos: int, num_classes: Mapping[str, int], *, average: Average = "probabilities") -> None:
        super().__init__(num_videos, average=average)
        self.num_classes = dict(num_classes)

    def add(self, logits: tuple[Float[Tensor, "N K"], ...], **keys: Tensor) -> None:  # pyrefly: ignore[bad-override]
        """Add the views of a batch; `label` is (N, tasks), the rest as in `ViewScores.add`."""
        super().add(torch.cat(logits, dim=1), **keys)

    def compute(self, *, whole: bool = True) -> TaskScores:  # pyrefly: ignore[bad-override]
        """Gather over all processes and average; as in `ViewScores.compute`."""
        rows = self.rows(whole=whole)
        logits = rows.logits.split(list(self.num_classes.values()), dim=1)
        probabilities = [part.softmax(dim=1) for part in logits]
        means = [rows.mean(part) for part in (probabilities if self.average == "probabilities" else logits)]
        tasks = {
            name: VideoScores(rows.present, mean, rows.labels[:, task], rows.decoded, rows.num_views)
            for task, (name, mean) in enumerate(zip(self.num_classes, means, strict=True))
        }
        fused = means if self.average == "probabilities" else [mean.softmax(dim=1) for mean in means]
        ranks, fused_ranks, guesses = [], [], []
        sizes = tuple(self.num_classes.values())
        for video, (start, count) in enumerate(zip(rows.starts.tolist(), rows.num_views.tolist(), strict=True)):
            label, decoded = rows.labels[video], bool(rows.decoded[video])
            product = joint_scores([part[video : video + 1] for part in fused])
            views = joint_scores([part[start : start + count] for part in probabilities])
            joint = views if self.average == "probabilities" else product
            fused_ranks.append(rank_of(product, label) if decoded else product.numel())
            ranks.append(rank_of(joint, label) if decoded else joint.numel())
            guesses.append(torch.stack(torch.unravel_index(joint.argmax(), sizes)))
        return TaskScores(tasks, torch.tensor(ranks), torch.tensor(fused_ranks), torch.stack(guesses))


def combine_averaged(tasks: Mapping[str, VideoScores], *, average: Average) -> TaskScores:
    """Combinations of scores of which only the averages over views are known, as files and means of runs hold them.

    `rank` is `fused_rank`: that of products of averaged scores.

    Args:
        tasks: Scores of each task by its name, of the same videos in the same order.
        average: What these scores are: of logits, probabilities are taken before they are multiplied.
    """
    first = next(iter(tasks.values()))
    labels = torch.stack([videos.labels for videos in tasks.values()], dim=1)
    scores = [
        videos.scores if average == "probabilities" else videos.scores.softmax(dim=1) for videos in tasks.values()
    ]
    sizes = tuple(part.shape[1] for part in scores)
    ranks, guesses = [], []
    for video, decoded in enumerate(first.decoded.tolist()):
        joint = joint_scores([part[video : video + 1] for part in scores])
        ranks.append(rank_of(joint, labels[video]) if decoded else prod(sizes))
        guesses.append(torch.stack(torch.unravel_index(joint.argmax(), sizes)))
    return TaskScores(dict(tasks), torch.tensor(ranks), torch.tensor(ranks), torch.stack(guesses))


def joint_scores(scores: list[Float[Tensor, "V K"]]) -> Float[Tensor, "..."]:
    """Scores of all combinations of classes: the outer product of the tasks' scores, averaged over views.

    Shape: one (V, K) for each task to (K1, K2, ...).
    """
    *others, last = scores
    joint = others[0]
    for part in others[1:]:
        joint = (joint[:, :, None] * part[:, None, :]).flatten(1)
    # The sum over the views of outer products is a matrix product.
    return (joint.T @ last / len(last)).reshape([part.shape[1] for part in scores])


def rank_of(scores: Float[Tensor, "..."], label: Int[Tensor, " tasks"]) -> int:
    """How many entries come before the one at `label`: those that are higher, and of equal ones those of lower ids.

    Were equal scores not counted, a network that scores everything alike would always be right.
    """
    place = int(sum(int(index) * stride for index, stride in zip(label, scores.stride(), strict=True)))
    flat = scores.flatten()
    return int((flat > flat[place]).sum() + (flat[:place] == flat[place]).sum())
