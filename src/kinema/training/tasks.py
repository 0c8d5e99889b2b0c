"""Training on several labels of a sample at a time, as a verb and a noun: one classifier each on shared features."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


def mean_over_tasks(
    loss: Callable[[Tensor, Tensor], Tensor],
    logits: tuple[Float[Tensor, "B K"], ...],
    labels: Int[Tensor, "B tasks"] | Float[Tensor, "B weights"],
) -> Tensor:
    """Mean of the losses of the tasks: of the size of one task's loss, so that learning rates keep their meaning.

    Args:
        loss: Loss of one task.
        logits: Of each task.
        labels: Class ids, a column for each task; or, of a mixed batch, the weights of the classes of all tasks behind each
            other. All tasks of a clip are mixed by the same share, for it is the pixels that are.

    Raises:
        ValueError: If there is not one column of labels for each classifier, or of weights for each class.
    """
    sizes = [part.shape[-1] for part in logits]
    if labels.is_floating_point():
        if labels.ndim != 2 or labels.shape[1] != sum(sizes):
            raise ValueError(
                f"the network has classifiers of {sizes} classes and weights of shape {tuple(labels.shape)} came; give one "
                f"weight for each of the {sum(sizes)} classes of each sample"
            )
        weights = labels.split(sizes, dim=1)
        return torch.stack([loss(part, weight) for part, weight in zip(logits, weights, strict=True)]).mean()
    if labels.ndim != 2 or labels.shape[1] != len(logits):
        raise ValueError(
            f"the network has {len(logits)} classifiers and labels of shape {tuple(labels.shape)} came; give one label for "
            "each classifier of each sample"
        )
    return torch.stack([loss(part, labels[:, task]) for task, part in enumerate(logits)]).mean()


def detached(logits: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Logits of one task or of several, without their graph."""
    return tuple(part.detach() for part in logits) if isinstance(logits, tuple) else logits.detach()


class AllRight(Metric):
    """Share of the samples whose labels are all guessed right.

    The best verb and the best noun make the best pair, as their scores are multiplied.
    """

    right: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: tuple[Float[Tensor, "B K"], ...], labels: Int[Tensor, "B tasks"]) -> None:
        guesses = torch.stack([part.argmax(dim=1) for part in logits], dim=1)
        self.right += (guesses == labels).all(dim=1).sum()
        self.total += len(labels)

    def compute(self) -> Tensor:
        return self.right / self.total
