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
from kinema.operators.aggregated_norm import Span
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

    If causal, a frame is pooled with the `kernel` - 1 before it, and `step` equals `forward` in evaluation mode. The papers
    have no such form; the parameters are those of the two-way layer.

    Args:
        norm: Norm of frames (B, C, H, W), or of whatever three axes the features have beside clip and frame; becomes
            part of this layer.
        norm_pool: Another of the same size, set to zero scale and shift here; None shares `norm`.
        pooling: "avg" (the paper's), "max" or "avg+max".
        kernel: Frames pooled, odd; any number if causal.
        causal: Pool this frame and those before it.

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
        causal: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is unknown; give one of {', '.join(POOLINGS)}")
        if kernel < 1 or (kernel % 2 == 0 and not causal):
            raise ValueError(f"kernel={kernel} frames have no centre; give an odd number, 3 in the paper")
        self.norm, self.norm_pool = norm, norm_pool
        self.pooling, self.kernel, self.causal = pooling, kernel, causal
        if norm_pool is not None:
            for name in ("weight", "bias"):
                nn.init.zeros_(norm_pool.get_parameter(name))

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x)
        if self.pooling == "avg":
            frames = x.transpose(1, 2)
            norms = aggregated_norm.norms_taken(frames, self.norm, self.norm_pool)
            y = aggregated_norm.aggregated_norm(frames, *norms, self.span) if norms is not None else None
            if y is not None:
                return y.transpose(1, 2)
        if self.norm_pool is None:
            return self._on_frames(self.norm, x + self._pooled(x))
        return self._on_frames(self.norm, x) + self._on_frames(self.norm_pool, self._pooled(x))

    @property
    def span(self) -> Span:
        """Which frames are pooled with one."""
        return Span(self.kernel - 1, 0) if self.causal else Span(self.kernel // 2, self.kernel // 2)

    def _pooled(self, x: Tensor) -> Tensor:
        pooled = 0.0
        if "avg" in self.pooling:
            pooled = average_frames(x, self.span)
        if "max" in self.pooling:
            pooled = pooled + maximum_of_frames(x, self.span)
        assert isinstance(pooled, Tensor)
        return pooled

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        """The frames before the first, zeros: "before1", the last, to "before<kernel - 1>".

        With a maximum also "seen" (B, kernel - 1), one for each of them that was a frame.

        Raises:
            ValueError: If the layer pools frames to come.
        """
        if not self.causal:
            raise ValueError(
                "temporal aggregation around a frame pools the next one too, so it cannot run on a stream; build it with "
                "causal=True"
            )
        state = {f"before{age}": torch.zeros_like(frame) for age in range(1, self.kernel)}
        if "max" in self.pooling and state:
            state["seen"] = frame.new_zeros(frame.shape[0], self.kernel - 1)
        return state

    def step(
        self, frame: Float[Tensor, "B C H W"], state: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "B C H W"], dict[str, Tensor]]:
        """One frame and the next state, which holds the frames themselves: none is copied."""
        frames = [frame, *(state[f"before{age}"] for age in range(1, self.kernel))]
        after = {f"before{age + 1}": frames[age] for age in range(self.kernel - 1)}
        if "seen" in state:
            after["seen"] = F.pad(state["seen"][:, :-1], (1, 0), value=1.0)
        y = None
        if self.pooling == "avg":
            y = aggregated_norm.step_aggregated_norm(frame, frames[1:], self.norm, self.norm_pool)
        if y is not None:
            return y, after
        pooled = self._pooled_with_past(frames, state.get("seen"))
        if self.norm_pool is None:
            return self.norm(frame + pooled), after
        return self.norm(frame) + self.norm_pool(pooled), after

    def _pooled_with_past(self, frames: list[Tensor], seen: Tensor | None) -> Tensor:
        pooled = 0.0
        if "avg" in self.pooling:
            pooled = torch.stack(frames).sum(dim=0) / self.kernel
        if "max" in self.pooling:
            largest = frames[0]
            for age, frame in enumerate(frames[1:]):
                assert seen is not None
                there = seen[:, age, None, None, None] > 0
                largest = torch.maximum(largest, torch.where(there, frame, largest))
            pooled = pooled + largest
        assert isinstance(pooled, Tensor)
        return pooled

    @staticmethod
    def _on_frames(norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return unfold_time(norm(fold_time(x)), x.shape[2])

    def extra_repr(self) -> str:
        return f"pooling={self.pooling!r}, kernel={self.kernel}, causal={self.causal}"


def average_frames(x: Float[Tensor, "B C T H W"], span: Span) -> Float[Tensor, "B C T H W"]:
    """Mean over each frame and those that `span` tells, those outside the clip counted as zeros."""
    total = x
    for offset in range(1, min(span.behind, x.shape[2] - 1) + 1):
        total = total + F.pad(x[:, :, offset:], (0, 0, 0, 0, 0, offset))
    for offset in range(1, min(span.before, x.shape[2] - 1) + 1):
        total = total + F.pad(x[:, :, :-offset], (0, 0, 0, 0, offset, 0))
    return total / span.kernel


def maximum_of_frames(x: Float[Tensor, "B C T H W"], span: Span) -> Float[Tensor, "B C T H W"]:
    """Maximum over each frame and those that `span` tells, as far as they are in the clip."""
    largest = x
    for offset in range(1, min(span.behind, x.shape[2] - 1) + 1):
        largest = torch.maximum(largest, torch.cat([x[:, :, offset:], x[:, :, -offset:]], dim=2))
    for offset in range(1, min(span.before, x.shape[2] - 1) + 1):
        largest = torch.maximum(largest, torch.cat([x[:, :, :offset], x[:, :, :-offset]], dim=2))
    return largest
