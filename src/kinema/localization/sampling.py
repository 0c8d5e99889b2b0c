"""The boundary-matching layer (Lin et al. 2019, section 3.3, arXiv:1907.09702): features of every proposal of a window.

A window has T bins. Proposal (d, s) covers the d + 1 bins from s on, and is looked at from half its length before it to half
its length behind. There N samples are taken at equal distances, each the mean of a few points that are interpolated linearly
between bins:

    y[c, n, d, s] = sum over t of  M[n, d, s, t] * x[c, t]

The paper, and all code of it, holds M as one dense matrix of T x (N * D * T) numbers and multiplies by it: 512 MB for T = 200
and D = 100. But a sample touches a handful of bins, so almost all of M is zero. Here only the others are kept, about a
hundredth. And as what follows, a convolution that collapses the N samples, is linear too, it can go first, where there are T
bins instead of N * D * T samples:

    z[o, d, s] = sum over n, t of  M[n, d, s, t] * u[o, n, t]         u[o, n, t] = sum over c of  W[o, c, n] * x[c, t]

Same numbers up to rounding, without the N * D * T samples of all channels: for the sizes above 0.8 + 1 instead of 33 + 84
billion multiply-adds.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Points(NamedTuple):
    """Where proposals are sampled: each point reads two neighbouring bins, `lower` and `upper`.

    What lies outside of the window has weight 0.
    """

    lower: Int[np.ndarray, "P N M"]
    upper: Int[np.ndarray, "P N M"]
    lower_weight: Float[np.ndarray, "P N M"]
    upper_weight: Float[np.ndarray, "P N M"]


def sample_points(
    first: Int[np.ndarray, " P"],
    length: Int[np.ndarray, " P"],
    num_bins: int,
    *,
    num_samples: int,
    num_points: int,
    context: float,
) -> Points:
    """The N samples of M points each of proposals that begin at bin `first` and are `length` bins long.

    Their N * M points have equal distances from `first - context * length` to `first + length - 1 + context * length`, both
    included. A point outside of the window counts as zero, and weights are not made up for it; but one that lies less than
    a bin before the window reads the first bin. The authors' matrix has it so, and published weights were trained with it.
    """
    span = np.arange(num_samples * num_points) / max(num_samples * num_points - 1, 1)
    low = first - context * length
    high = first + length - 1 + context * length
    points = low[:, None] + span * (high - low)[:, None]
    points = np.where((points > -1) & (points < 0), 0.0, points).reshape(len(first), num_samples, num_points)
    lower = np.floor(points).astype(np.int64)
    fraction = points - lower
    upper = lower + 1
    return Points(
        np.clip(lower, 0, num_bins - 1),
        np.clip(upper, 0, num_bins - 1),
        np.where((lower >= 0) & (lower < num_bins), 1 - fraction, 0.0) / num_points,
        np.where((lower >= 0) & (upper < num_bins), fraction, 0.0) / num_points,
    )


def valid_cells(num_bins: int, max_bins: int) -> torch.Tensor:
    """Which cells (d, s) are proposals that end within the window: s + d + 1 <= T. Shape (D, T)."""
    return torch.arange(num_bins)[None] + torch.arange(max_bins)[:, None] + 1 <= num_bins


class BoundaryMatching(nn.Module):
    """Sample every proposal of a window, and collapse the samples.

    The non-zero weights are no parameters and in no state dict: they follow from the sizes.

    Args:
        num_bins: Bins T of a window.
        max_bins: Bins D of the longest proposal.
        num_samples: N.
        num_points: Points that a sample averages.
        context: What is seen before and behind a proposal, in lengths of it.
    """

    def __init__(
        self, num_bins: int, max_bins: int, *, num_samples: int = 32, num_points: int = 3, context: float = 0.5
    ) -> None:
        super().__init__()
        if not 1 <= max_bins <= num_bins:
            raise ValueError(f"max_bins={max_bins} must be from 1 to num_bins={num_bins}")
        if num_samples < 1 or num_points < 1 or context < 0:
            raise ValueError(
                f"num_samples={num_samples} and num_points={num_points} must be at least 1, and context={context} at least 0"
            )
        self.num_bins, self.max_bins = num_bins, max_bins
        self.num_samples, self.num_points, self.context = num_samples, num_points, context
        sizes = (num_bins, max_bins, num_samples, num_points, context)
        self.collapsed = _Bags(*_collapsing(*sizes))
        self.sampled: _Bags | None = None  # made when first asked for: a network collapses, and never does

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C N D T"]:
        """All samples of all channels; those of proposals that leave the window are zero."""
        self._check(x)
        if self.sampled is None:
            sizes = (self.num_bins, self.max_bins, self.num_samples, self.num_points, self.context)
            self.sampled = _Bags(*_sampling(*sizes)).to(x.device)
        rows = x.permute(2, 0, 1).reshape(self.num_bins, -1)
        samples = self.sampled(rows).view(self.num_samples, self.max_bins, self.num_bins, *x.shape[:2])
        return samples.permute(3, 4, 0, 1, 2)

    def collapse(
        self, x: Float[Tensor, "B C T"], weight: Float[Tensor, "O C N"], bias: Float[Tensor, " O"] | None = None
    ) -> Float[Tensor, "B O D T"]:
        """What a convolution over all N samples makes of `forward(x)`, without forming them.

        Cells of proposals that leave the window hold the bias.
        """
        self._check(x)
        if weight.shape[1:] != (x.shape[1], self.num_samples):
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}; (outputs, {x.shape[1]}, {self.num_samples}) was expected"
            )
        batch, outputs = len(x), len(weight)
        bins = x.permute(2, 0, 1).reshape(-1, x.shape[1])  # (T B, C)
        rows = bins @ weight.permute(2, 1, 0)  # (N, T B, O): each bin seen by each sample's kernel
        rows = rows.reshape(self.num_samples * self.num_bins, batch * outputs)
        cells = self.collapsed(rows).view(self.max_bins, self.num_bins, batch, outputs)
        if bias is not None:
            cells = cells + bias
        return cells.permute(2, 3, 0, 1)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[2] != self.num_bins:
            raise ValueError(
                f"features of shape {tuple(x.shape)} were given; (batch, channels, {self.num_bins}) expected"
            )

    def extra_repr(self) -> str:
        return (
            f"num_bins={self.num_bins}, max_bins={self.max_bins}, num_samples={self.num_samples}, "
            f"num_points={self.num_points}, context={self.context}"
        )


class _Bags(nn.Module):
    """A constant sparse matrix by which rows are multiplied; each row of the result is a weighted sum of a few."""

    columns: Tensor
    offsets: Tensor
    weights: Tensor
    columns_back: Tensor
    offsets_back: Tensor
    weights_back: Tensor

    def __init__(self, matrix: csr_array, transposed: csr_array) -> None:
        super().__init__()
        for name, csr in (("", matrix), ("_back", transposed)):
            self.register_buffer(f"columns{name}", torch.from_numpy(csr.indices.astype(np.int32)), persistent=False)
            self.register_buffer(f"offsets{name}", torch.from_numpy(csr.indptr.astype(np.int32)), persistent=False)
            weights = torch.from_numpy(csr.data).to(torch.get_default_dtype())
            self.register_buffer(f"weights{name}", weights, persistent=False)

    def forward(self, rows: Float[Tensor, "R E"]) -> Float[Tensor, "S E"]:
        # Sums of a hundred terms in half precision would be worse than their terms.
        wide = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
        back = (self.columns_back, self.offsets_back, self.weights_back)
        return _Sums.apply(wide, (self.columns, self.offsets, self.weights), back).to(rows.dtype)


Csr = tuple[Tensor, Tensor, Tensor]


class _Sums(torch.autograd.Function):
    """The product with a sparse matrix; its gradient is the product with the transposed one, kept beside it."""

    @staticmethod
    def forward(rows: Tensor, matrix: Csr, transposed: Csr) -> Tensor:
        return _sums(rows, matrix)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Csr, Csr], output: Tensor) -> None:
        ctx.transposed = inputs[2]

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        return _sums(gradient.contiguous(), ctx.transposed), None, None


def _sums(rows: Tensor, csr: Csr) -> Tensor:
    columns, offsets, weights = csr
    weights = weights.to(rows.dtype)
    return F.embedding_bag(columns, rows, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _entries(
    num_bins: int, max_bins: int, num_samples: int, num_points: int, context: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """d, s, n, t and weight of every point of every proposal that ends within the window."""
    d, s = np.nonzero(valid_cells(num_bins, max_bins).numpy())
    points = sample_points(s, d + 1, num_bins, num_samples=num_samples, num_points=num_points, context=context)
    shape = points.lower.shape
    sample = np.broadcast_to(np.arange(num_samples)[:, None], shape)
    cell = np.broadcast_to(np.arange(len(d))[:, None, None], shape)
    bins = np.concatenate([points.lower.ravel(), points.upper.ravel()])
    weights = np.concatenate([points.lower_weight.ravel(), points.upper_weight.ravel()])
    cells, samples = np.tile(cell.ravel(), 2), np.tile(sample.ravel(), 2)
    kept = weights != 0
    cells, samples = cells[kept], samples[kept]
    return d[cells], s[cells], samples, bins[kept], weights[kept]


def _csr(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """Weights by row and column; those that meet are added."""
    return csr_array(coo_array((weights, (rows, columns)), shape=shape))


@lru_cache(maxsize=4)
def _collapsing(
    num_bins: int, max_bins: int, num_samples: int, num_points: int, context: float
) -> tuple[csr_array, csr_array]:
    """From (n, t) to (d, s), and back."""
    d, s, n, t, weights = _entries(num_bins, max_bins, num_samples, num_points, context)
    matrix = _csr(d * num_bins + s, n * num_bins + t, weights, (max_bins * num_bins, num_samples * num_bins))
    return matrix, csr_array(matrix.T)


@lru_cache(maxsize=2)
def _sampling(
    num_bins: int, max_bins: int, num_samples: int, num_points: int, context: float
) -> tuple[csr_array, csr_array]:
    """From t to (n, d, s), and back."""
    d, s, n, t, weights = _entries(num_bins, max_bins, num_samples, num_points, context)
    matrix = _csr((n * max_bins + d) * num_bins + s, t, weights, (num_samples * max_bins * num_bins, num_bins))
    return matrix, csr_array(matrix.T)
