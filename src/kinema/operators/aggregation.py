"""Temporal aggregation: the features of a frame, and those of its neighbourhood in time, each with a norm of its own.

Huang et al. 2022, section 3.3 (arXiv:2110.06178): a calibrated kernel sees one frame; this lets it answer for three.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators import aggregated_norm
from kinema.shapes import check_clip, fold_time, unfold_time

Pooling = Literal["avg", "max", "avg+max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class TemporalAggregation(nn.Module):
    """Sum of two norms, one of the features and one of the features pooled over time.

        y = norm(x) + norm_pool(pool(x))          own norms
        y = norm(x + pool(x))                     shared norm

    The scale of norm_pool starts at zero, so at first the layer is `norm` alone. The average counts frames outside the
    clip as zeros, as in the authors' code: with three frames the first and last are two thirds. The maximum does not
    look outside. "avg+max" is their sum, behind one norm.

    Args:
        norm: Norm of frames (B, C, H, W), or of whatever three axes the features have beside clip and frame; becomes
            part of this layer.
        norm_pool: Another of the same size, set to zero scale and shift here; None shares `norm`.
        pooling: "avg" (the paper's), "max" or "avg+max".
        kernel: Frames pooled, odd.

    Shape:
        (B, C, T, H, W) to the same; any T, also below `kernel`. Frames channels-last, as (B, H, T, W, C), are as good:
        time is axis 2, and the other axes matter to the norms alone.

    Raises:
        ValueError: On an unknown pooling or an even kernel.
    """

    def __init__(
        self,
        norm: nn.Module,
        norm_pool: nn.Module | None,
        *,
        pooling: Pooling = "avg",
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is unknown; give one of {', '.join(POOLINGS)}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} frames have no centre; give an odd number, 3 in the paper")
        self.norm, self.norm_pool = norm, norm_pool
        self.pooling, self.kernel = pooling, kernel
        if norm_pool is not None:
            for name in ("weight", "bias"):
                nn.init.zeros_(norm_pool.get_parameter(name))

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x)
        if self.pooling == "avg":
            frames = x.transpose(1, 2)
            norms = aggregated_norm.norms_taken(frames, self.norm, self.norm_pool)
            y = aggregated_norm.aggregated_norm(frames, *norms, self.kernel) if norms is not None else None
            if y is not None:
                return y.transpose(1, 2)
        if self.norm_pool is None:
            return self._on_frames(self.norm, x + self._pooled(x))
        return self._on_frames(self.norm, x) + self._on_frames(self.norm_pool, self._pooled(x))

    def _pooled(self, x: Tensor) -> Tensor:
        pooled = 0.0
        if "avg" in self.pooling:
            pooled = average_frames(x, self.kernel)
        if "max" in self.pooling:
            pooled = pooled + maximum_of_frames(x, self.kernel)
        assert isinstance(pooled, Tensor)
        return pooled

    @staticmethod
    def _on_frames(norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return unfold_time(norm(fold_time(x)), x.shape[2])

    def extra_repr(self) -> str:
        return f"pooling={self.pooling!r}, kernel={self.kernel}"


def average_frames(x: Float[Tensor, "B C T H W"], kernel: int) -> Float[Tensor, "B C T H W"]:
    """Mean over `kernel` frames around each, those outside the clip counted as zeros."""
    reach = kernel // 2
    total = x
    for offset in range(1, min(reach, x.shape[2] - 1) + 1):
        total = (
            total + F.pad(x[:, :, offset:], (0, 0, 0, 0, 0, offset)) + F.pad(x[:, :, :-offset], (0, 0, 0, 0, offset, 0))
        )
    return total / kernel


def maximum_of_frames(x: Float[Tensor, "B C T H W"], kernel: int) -> Float[Tensor, "B C T H W"]:
    """Maximum over `kernel` frames around each, as far as they are in the clip."""
    largest = x
    for offset in range(1, min(kernel // 2, x.shape[2] - 1) + 1):
        later = torch.cat([x[:, :, offset:], x[:, :, -offset:]], dim=2)
        earlier = torch.cat([x[:, :, :offset], x[:, :, :-offset]], dim=2)
        largest = torch.maximum(largest, torch.maximum(later, earlier))
    return largest
