"""Classifiers: over the segments of a clip (Wang et al. 2016, section 3, arXiv:1608.00859), and over all of it."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Consensus = Literal["mean", "identity"]


class _Classifiers(nn.Module):
    """One linear layer, or several side by side."""

    def __init__(self, num_features: int, num_classes: int | Sequence[int], *, dropout: float, init_std: float) -> None:
        super().__init__()
        self.num_features, self.init_std = num_features, init_std
        self.dropout = nn.Dropout(dropout)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int | Sequence[int]) -> None:
        """Put new classifiers in, weights drawn from a narrow normal distribution and biases zero."""
        sizes = list(num_classes) if isinstance(num_classes, Sequence) else [num_classes]
        if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"num_classes={num_classes} leaves nothing to predict; give a number >= 1, or several")
        old = getattr(self, "fc", None)
        layers = [self._classifier(size) for size in sizes]
        self.num_classes = num_classes if isinstance(num_classes, int) else tuple(sizes)
        self.fc = layers[0] if isinstance(num_classes, int) else nn.ModuleList(layers)
        if old is not None:
            self.fc.to(next(old.parameters()))

    def _classifier(self, num_classes: int) -> nn.Linear:
        layer = nn.Linear(self.num_features, num_classes)
        nn.init.normal_(layer.weight, std=self.init_std)
        nn.init.zeros_(layer.bias)
        return layer

    def classify(self, features: Float[Tensor, "*B D"]) -> tuple[Tensor, ...] | Tensor:
        """Logits (*B, K) of any features, one by one; a tuple where there are several classifiers."""
        features = self.dropout(features)
        if isinstance(self.fc, nn.ModuleList):
            return tuple(fc(features) for fc in self.fc)
        return self.fc(features)


class ClipHead(_Classifiers):
    """Score a clip from the mean of its features over frames and pixels.

        logits = W dropout(x) + b

    Args:
        num_features: Size of D.
        num_classes: Size of K; a tuple makes one classifier each, and forward returns a tuple (verb and noun, say).
        dropout: Probability in [0, 1) of dropping a feature.
        init_std: Of the first weights.

    Shape:
        (B, D) to (B, K).

    Raises:
        ValueError: If a number of classes is below 1.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int | Sequence[int],
        *,
        dropout: float = 0.5,
        init_std: float = 0.01,
    ) -> None:
        super().__init__(num_features, num_classes, dropout=dropout, init_std=init_std)

    def forward(self, features: Float[Tensor, "B D"]) -> Tensor | tuple[Tensor, ...]:
        return self.classify(features)


class SegmentHead(_Classifiers):
    """Score every frame by the same linear layer, then agree on one score per clip.

        logits = mean over t of (W dropout(x_t) + b)

    Args:
        num_features: Size of D.
        num_classes: Size of K; a tuple makes one classifier each, and forward returns a tuple (verb and noun, say).
        dropout: Probability in [0, 1) of dropping a feature.
        consensus: "mean" of the logits over the frames, or "identity" to keep a score per frame.

    Shape:
        (B, T, D) to (B, K), or to (B, T, K) for consensus "identity".

    Raises:
        ValueError: If the consensus is unknown, or a number of classes is below 1.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int | Sequence[int],
        *,
        dropout: float = 0.5,
        consensus: Consensus = "mean",
    ) -> None:
        if consensus not in ("mean", "identity"):
            raise ValueError(f"consensus={consensus!r} is unknown; give 'mean' or 'identity'")
        super().__init__(num_features, num_classes, dropout=dropout, init_std=0.001)  # as in the TSM code
        self.consensus = consensus

    def forward(self, features: Float[Tensor, "B T D"]) -> Tensor | tuple[Tensor, ...]:
        logits = self.classify(features)
        return tuple(map(self._agree, logits)) if isinstance(logits, tuple) else self._agree(logits)

    def _agree(self, logits: Float[Tensor, "B T K"]) -> Tensor:
        return logits.mean(dim=1) if self.consensus == "mean" else logits
