"""Which class is taken for which."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Int
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from kinema.evaluation.views import VideoScores


def confusion(videos: VideoScores) -> Int[Tensor, "K K"]:
    """Decoded videos by true class (rows) and best guess (columns)."""
    kept = videos.decoded
    return multiclass_confusion_matrix(
        videos.scores[kept].argmax(1), videos.labels[kept], num_classes=videos.scores.shape[1]
    )


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
