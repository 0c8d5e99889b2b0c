"""Batch norm, temporal average and a second batch norm as one banded map over the frames of each channel.

With P the matrix that averages k neighbouring frames, both norms and their sum are, for channel c and frame t,

    y_c = s_c x_c + r_c P x_c + m_c
        = (s_c + r_c / k) x_c[t] + (r_c / k) (x_c[t-1] + x_c[t+1] + ...) + m_c
    s_c = w_c / sqrt(var(x_c) + eps),    r_c = v_c / sqrt(var(P x_c) + eps)
    m_c = b_c + d_c - s_c mean(x_c) - r_c mean(P x_c)

If causal, P averages a frame and the k - 1 before it, and the neighbours are x_c[t-1] + x_c[t-2] + ... alone.

All the means and variances follow from two small things: the sums of each frame, and the products of each two frames,
summed over pixels (T x T numbers per channel). So training reads the features once for these and once for the map, and
neither the pooled features nor their norm ever stand in memory; the backward pass keeps nothing but the input.

Variances come out as mean square less squared mean. Where that would lose digits, `aggregated_norm` declines.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

_WORST_RATIO = 1e3
"""Squared mean over variance up to which float32 keeps three digits of the variance."""


class Span(NamedTuple):
    """How many frames before a frame are averaged with it, and how many behind it."""

    before: int
    behind: int

    @property
    def kernel(self) -> int:
        return self.before + 1 + self.behind

    @property
    def mirrored(self) -> "Span":
        """That of the transposed map, which gradients take."""
        return Span(self.behind, self.before)


def norms_taken(
    x: Float[Tensor, "B T C H W"], norm: nn.Module, norm_pool: nn.Module | None
) -> tuple[_BatchNorm, _BatchNorm] | None:
    """The two norms where this form exists for them and pays: on a CPU, frames contiguous, nothing being compiled."""
    if not (isinstance(norm, _BatchNorm) and isinstance(norm_pool, _BatchNorm)):
        return None
    if norm.training != norm_pool.training or not all(map(_is_plain, (norm, norm_pool))):
        return None
    pays = (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and norm.weight.dtype == x.dtype
        and x.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )
    return (norm, norm_pool) if pays else None


def _is_plain(norm: _BatchNorm) -> bool:
    """Whether a norm does what batch norms do, and nobody watches it."""
    watched = (
        norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks
    )  # a hook waits for a call
    return type(norm).forward is _BatchNorm.forward and norm.affine and norm.track_running_stats and not watched


def aggregated_norm(
    x: Float[Tensor, "B T C H W"], norm: _BatchNorm, norm_pool: _BatchNorm, span: Span
) -> Float[Tensor, "B T C H W"] | None:
    """norm(x) + norm_pool(average over time of x), running statistics moved as the two norms would.

    Args:
        x: Frames for which `norms_taken` gave the norms.
        norm, norm_pool: The two norms.
        span: Frames averaged.

    Returns:
        The sum, or None where float32 would lose digits of a variance: then nothing has changed.

    Raises:
        ValueError: In training, if there is one value per channel.
    """
    if not norm.training:
        return _Band.apply(x, *_evaluated_band(norm, norm_pool, span.kernel), span).view_as(x)
    values = x.shape[0] * x.shape[1] * x.shape[3] * x.shape[4]
    if values <= 1:
        raise ValueError(f"expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    out, statistics = _TrainingNorm.apply(
        x, norm.weight, norm.bias, norm_pool.weight, norm_pool.bias, norm.eps, norm_pool.eps, span
    )
    mean, var, mean_pool, var_pool = statistics
    if x.dtype == torch.float32 and bool(
        (mean.square() > _WORST_RATIO * var).any() or (mean_pool.square() > _WORST_RATIO * var_pool).any()
    ):
        return None
    _move(norm, mean, var, values)
    _move(norm_pool, mean_pool, var_pool, values)
    return out.view_as(x)


def step_aggregated_norm(
    x: Float[Tensor, "B C H W"],
    before: Sequence[Float[Tensor, "B C H W"]],
    norm: nn.Module,
    norm_pool: nn.Module | None,
) -> Float[Tensor, "B C H W"] | None:
    """`aggregated_norm` in evaluation mode at one frame, the frames before it given; None where the norms have no such form."""
    if not (isinstance(norm, _BatchNorm) and isinstance(norm_pool, _BatchNorm)):
        return None
    if (
        norm.training
        or norm_pool.training
        or norm.weight.dtype != x.dtype
        or not all(map(_is_plain, (norm, norm_pool)))
    ):
        return None
    own, side, shift = _evaluated_band(norm, norm_pool, len(before) + 1)
    out = F.batch_norm(x, torch.zeros_like(own), torch.ones_like(own), own, shift, False, 0.0, 0.0)
    for frame in before:
        out.addcmul_(frame, side[:, None, None])
    return out


def _evaluated_band(norm: _BatchNorm, norm_pool: _BatchNorm, kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    of_norm = _scale_and_shift(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
    of_pool = _scale_and_shift(
        norm_pool.weight, norm_pool.bias, norm_pool.running_mean, norm_pool.running_var, norm_pool.eps
    )
    return _band(of_norm, of_pool, kernel)


def _scale_and_shift(
    weight: Tensor, bias: Tensor, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    assert mean is not None and var is not None
    scale = weight * torch.rsqrt(var + eps)
    return scale, bias - scale * mean


def _band(
    of_norm: tuple[Tensor, Tensor], of_pool: tuple[Tensor, Tensor], kernel: int
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Factor of a frame itself, of its neighbours, and shift, from scale and shift of the two norms."""
    (scale, shift), (scale_pool, shift_pool) = of_norm, of_pool
    side = scale_pool / kernel
    return scale + side, side, shift + shift_pool


def _banded(
    x: Float[Tensor, "B T C H W"], own: Tensor, side: Tensor, shift: Tensor, span: Span
) -> Float[Tensor, "BT C H W"]:
    """own x[t] + side (x[t-1] + x[t+1] + ...) + shift, neighbours as `span` says, clips and frames folded.

    A batch norm with the statistics of N(0, 1) is the fastest way to the first and last term. The frames stay folded
    since what a custom function returns must be no view, or nothing behind it could work in place.
    """
    nothing, one = torch.zeros_like(own), torch.ones_like(own)
    out = F.batch_norm(x.flatten(0, 1), nothing, one, own, shift, False, 0.0, 0.0)
    frames, factor = out.view_as(x), side[:, None, None]
    for offset in range(1, span.before + 1):  # beyond the clip there is nothing to add, and nothing to add it to
        frames[:, offset:].addcmul_(x[:, :-offset], factor)
    for offset in range(1, span.behind + 1):
        frames[:, :-offset].addcmul_(x[:, offset:], factor)
    return out


def _products(x: Float[Tensor, "B T C H W"], y: Float[Tensor, "B T C H W"]) -> Float[Tensor, "C T T"]:
    """sum over clips and pixels of x[t] y[u], for each channel."""
    x, y = x.flatten(3), y.flatten(3)
    total = torch.bmm(x[0].transpose(0, 1), y[0].permute(1, 2, 0))
    for clip, other in zip(x[1:], y[1:], strict=True):
        total.baddbmm_(clip.transpose(0, 1), other.permute(1, 2, 0))
    return total


def _near(num_frames: int, span: Span, like: Tensor) -> Float[Tensor, "T T"]:
    """One where the second frame is averaged with the first."""
    place = torch.arange(num_frames, device=like.device)
    later = place - place[:, None]
    return ((later >= -span.before) & (later <= span.behind)).to(like.dtype)


def _to_band(gradient: Tensor, x: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of own, side and shift."""
    products = _products(gradient, x)
    own = products.diagonal(dim1=1, dim2=2).sum(dim=1)
    all_near = (products * _near(x.shape[1], span, x)).sum(dim=(1, 2))
    return own, all_near - own, gradient.flatten(3).sum(dim=3).sum(dim=(0, 1))


class _Band(torch.autograd.Function):
    """The map alone: evaluation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, own: Tensor, side: Tensor, shift: Tensor, span: Span) -> Tensor:
        ctx.save_for_backward(x, own, side)
        ctx.span = span
        return _banded(x, own, side, shift, span)

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        x, own, side = ctx.saved_tensors
        gradient = gradients[0].contiguous().view_as(x)
        to_x = (
            _banded(gradient, own, side, torch.zeros_like(own), ctx.span.mirrored).view_as(x)
            if ctx.needs_input_grad[0]
            else None
        )
        to_band = _to_band(gradient, x, ctx.span) if any(ctx.needs_input_grad[1:4]) else (None,) * 3
        return to_x, *to_band, None


class _TrainingNorm(torch.autograd.Function):
    """The map from the statistics of its own input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_pool: Tensor,
        bias_pool: Tensor,
        eps: float,
        eps_pool: float,
        span: Span,
    ) -> tuple[Tensor, Tensor]:
        statistics = _statistics(x, span)
        leaves = [part.detach().requires_grad_() for part in (*statistics, weight, bias, weight_pool, bias_pool)]
        with torch.enable_grad():  # the small part is left to autograd
            of_norm = _scale_and_shift(leaves[4], leaves[5], leaves[0], leaves[1], eps)
            of_pool = _scale_and_shift(leaves[6], leaves[7], leaves[2], leaves[3], eps_pool)
            own, side, shift = _band(of_norm, of_pool, span.kernel)
        ctx.save_for_backward(x)
        ctx.small = leaves, (own, side, shift), span
        found = torch.stack(statistics)
        ctx.mark_non_differentiable(found)
        return _banded(x, own.detach(), side.detach(), shift.detach(), span), found

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        leaves, band, span = ctx.small
        gradient = gradients[0].contiguous().view_as(x)
        to_mean, to_var, to_mean_pool, to_var_pool, *to_parameters = torch.autograd.grad(
            band, leaves, _to_band(gradient, x, span), retain_graph=True
        )
        if not ctx.needs_input_grad[0]:
            return None, *to_parameters, None, None, None
        mean, _, mean_pool, _ = (leaf.detach() for leaf in leaves[:4])
        own, side, _ = (part.detach() for part in band)
        values = x.numel() // x.shape[2]
        # With g the gradient: to_x = s g + c (x - mean) + .. + P^T (r g + c' (P x - mean_pool) + ..), from right to left.
        curve, curve_pool = 2 * to_var / values, 2 * to_var_pool / values
        level = to_mean / values - curve * mean
        level_pool = to_mean_pool / values - curve_pool * mean_pool
        pooled = _banded(x, curve_pool / span.kernel, curve_pool / span.kernel, level_pool, span).view_as(x)
        pooled.addcmul_(gradient, (side * span.kernel)[:, None, None])
        share = torch.full_like(own, 1 / span.kernel)
        to_x = _banded(pooled, share, share, level, span.mirrored).view_as(x)
        to_x.addcmul_(gradient, (own - side)[:, None, None]).addcmul_(x, curve[:, None, None])
        return to_x, *to_parameters, None, None, None


def _statistics(x: Float[Tensor, "B T C H W"], span: Span) -> tuple[Tensor, ...]:
    """Means and variances, without the correction for the sample, of the features and of their averages over time."""
    values = x.numel() // x.shape[2]
    sums, products = x.flatten(3).sum(dim=3).sum(dim=0).T, _products(x, x)
    average = _near(x.shape[1], span, x) / span.kernel
    mean = sums.sum(dim=1) / values
    mean_pool = (sums @ average.sum(dim=0)) / values
    square = products.diagonal(dim1=1, dim2=2).sum(dim=1) / values
    square_pool = (products * (average.T @ average)).sum(dim=(1, 2)) / values
    return mean, (square - mean.square()).clamp(min=0), mean_pool, (square_pool - mean_pool.square()).clamp(min=0)


def _move(norm: _BatchNorm, mean: Tensor, var: Tensor, values: int) -> None:
    """Running statistics, as batch norm moves them: the variance without the bias of the sample."""
    with torch.no_grad():
        assert norm.num_batches_tracked is not None and norm.running_mean is not None and norm.running_var is not None
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(var * (values / (values - 1)), share)
