"""Batch norm, temporal average and a second batch norm as one linear map over the frames of each channel.

With P the matrix that averages neighbouring frames, T x T, both norms and their sum are, for channel c,

    y_c = M_c x_c + m_c,    M_c = s_c I + r_c P,    m_c = b_c + d_c - s_c mean(x_c) - r_c mean(P x_c)
    s_c = w_c / sqrt(var(x_c) + eps),    r_c = v_c / sqrt(var(P x_c) + eps)

where x_c holds the frames of the channel as rows. All the means and variances follow from two small things: the sums of
each frame, and the products of each two frames, summed over pixels (T x T numbers per channel). So training reads the
features once for these and once for the map, where pooling, two norms and an addition pass over them eight times, and
keeps nothing but its input for the backward pass, which is two more such products.

Variances come out as mean square less squared mean. Where that would lose digits, `aggregated_norm` declines.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

_WORST_RATIO = 1e3
"""Squared mean over variance up to which float32 keeps three digits of the variance."""


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
    return (
        type(norm).forward is _BatchNorm.forward
        and norm.affine
        and norm.track_running_stats
        and not norm._forward_hooks
        and not norm._forward_pre_hooks
    )


def aggregated_norm(
    x: Float[Tensor, "B T C H W"], norm: _BatchNorm, norm_pool: _BatchNorm, kernel: int
) -> Float[Tensor, "B T C H W"] | None:
    """norm(x) + norm_pool(average over time of x), running statistics moved as the two norms would.

    Args:
        x: Frames for which `norms_taken` gave the norms.
        norm, norm_pool: The two norms.
        kernel: Frames averaged.

    Returns:
        The sum, or None where float32 would lose digits of a variance: then nothing has changed.

    Raises:
        ValueError: In training, if there is one value per channel.
    """
    average = averaging_matrix(x.shape[1], kernel, x)
    if not norm.training:
        of_norm = _scale_and_shift(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
        of_pool = _scale_and_shift(
            norm_pool.weight, norm_pool.bias, norm_pool.running_mean, norm_pool.running_var, norm_pool.eps
        )
        return _Mix.apply(x, *_map(average, of_norm, of_pool))
    values = x.shape[0] * x.shape[1] * x.shape[3] * x.shape[4]
    if values <= 1:
        raise ValueError(f"expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    out, statistics = _TrainingNorm.apply(
        x, average, norm.weight, norm.bias, norm_pool.weight, norm_pool.bias, norm.eps, norm_pool.eps
    )
    mean, var, mean_pool, var_pool = statistics
    if x.dtype == torch.float32 and bool(
        (mean.square() > _WORST_RATIO * var).any() or (mean_pool.square() > _WORST_RATIO * var_pool).any()
    ):
        return None
    _move(norm, mean, var, values)
    _move(norm_pool, mean_pool, var_pool, values)
    return out


def averaging_matrix(num_frames: int, kernel: int, like: Tensor) -> Float[Tensor, "T T"]:
    """P: row t averages the frames around t, those outside the clip counted as zeros."""
    place = torch.arange(num_frames, device=like.device)
    return ((place[:, None] - place).abs() <= kernel // 2).to(like.dtype) / kernel


def _scale_and_shift(
    weight: Tensor, bias: Tensor, mean: Tensor | None, var: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    assert mean is not None and var is not None
    scale = weight * torch.rsqrt(var + eps)
    return scale, bias - scale * mean


def _map(
    average: Float[Tensor, "T T"], of_norm: tuple[Tensor, Tensor], of_pool: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, "C T T"], Float[Tensor, "C"]]:
    """Matrix and shift of every channel, from scale and shift of the two norms."""
    (scale, shift), (scale_pool, shift_pool) = of_norm, of_pool
    identity = torch.eye(average.shape[0], dtype=average.dtype, device=average.device)
    return scale[:, None, None] * identity + scale_pool[:, None, None] * average, shift + shift_pool


def _statistics(
    sums: Float[Tensor, "C T"], products: Float[Tensor, "C T T"], average: Tensor, values: int
) -> tuple[Tensor, ...]:
    """Means and variances of the features and of their averages over time."""
    mean = sums.sum(dim=1) / values
    mean_pool = (sums @ average.sum(dim=0)) / values
    square = products.diagonal(dim1=1, dim2=2).sum(dim=1) / values
    square_pool = (products * (average.T @ average)).sum(dim=(1, 2)) / values
    return mean, (square - mean.square()).clamp(min=0), mean_pool, (square_pool - mean_pool.square()).clamp(min=0)


def _mixed(x: Float[Tensor, "B T C H W"], matrix: Float[Tensor, "C T T"], shift: Tensor | None) -> Tensor:
    """out[b, s, c] = shift[c] + sum over t of matrix[c, s, t] x[b, t, c], as one product per channel."""
    out = torch.empty_like(x)
    flat = x.flatten(3)
    for clip, target in zip(flat, out.flatten(3), strict=True):
        if shift is None:
            torch.bmm(matrix, clip.transpose(0, 1), out=target.transpose(0, 1))
        else:
            start = shift[:, None, None].expand(-1, *flat.shape[1::2])
            torch.baddbmm(start, matrix, clip.transpose(0, 1), out=target.transpose(0, 1))
    return out


def _products(x: Float[Tensor, "B T C P"], y: Float[Tensor, "B T C P"]) -> Float[Tensor, "C T T"]:
    """sum over clips and pixels of x[t] y[u], for each channel."""
    total = torch.bmm(x[0].transpose(0, 1), y[0].permute(1, 2, 0))
    for clip, other in zip(x[1:], y[1:], strict=True):
        total.baddbmm_(clip.transpose(0, 1), other.permute(1, 2, 0))
    return total


class _Mix(torch.autograd.Function):
    """The map alone: evaluation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        return _mixed(x, matrix, shift)

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        x, matrix = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        to_x = _mixed(gradient, matrix.transpose(1, 2), None) if ctx.needs_input_grad[0] else None
        to_matrix = _products(gradient.flatten(3), x.flatten(3)) if ctx.needs_input_grad[1] else None
        return to_x, to_matrix, gradient.sum(dim=(0, 1, 3, 4)) if ctx.needs_input_grad[2] else None


class _TrainingNorm(torch.autograd.Function):
    """The map from the statistics of its own input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        average: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_pool: Tensor,
        bias_pool: Tensor,
        eps: float,
        eps_pool: float,
    ) -> tuple[Tensor, Tensor]:
        flat = x.flatten(3)
        sums, products = flat.sum(dim=3).sum(dim=0).T, _products(flat, flat)
        leaves = [part.detach().requires_grad_() for part in (sums, products, weight, bias, weight_pool, bias_pool)]
        with torch.enable_grad():  # the small part is left to autograd
            statistics = _statistics(leaves[0], leaves[1], average, flat.numel() // flat.shape[2])
            mean, var, mean_pool, var_pool = statistics
            of_norm = _scale_and_shift(leaves[2], leaves[3], mean, var, eps)
            of_pool = _scale_and_shift(leaves[4], leaves[5], mean_pool, var_pool, eps_pool)
            matrix, shift = _map(average, of_norm, of_pool)
        ctx.save_for_backward(x)
        ctx.small = leaves, matrix, shift
        found = torch.stack([statistic.detach() for statistic in statistics])
        ctx.mark_non_differentiable(found)
        return _mixed(x, matrix.detach(), shift.detach()), found

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]
        ctx: Any, *gradients: Any
    ) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        leaves, matrix, shift = ctx.small
        flat, gradient = x.flatten(3), gradients[0].contiguous().flatten(3)
        to_matrix, to_shift = _products(gradient, flat), gradient.sum(dim=(0, 1, 3))
        to_sums, to_products, *to_parameters = torch.autograd.grad(
            (matrix, shift), leaves, (to_matrix, to_shift), retain_graph=True
        )
        to_x = None
        if ctx.needs_input_grad[0]:
            through_map = matrix.detach().transpose(1, 2)
            through_products = to_products + to_products.transpose(1, 2)
            to_x = torch.empty_like(flat)
            start = to_sums[:, :, None].expand(-1, -1, flat.shape[3])
            for clip, of_clip, target in zip(flat, gradient, to_x, strict=True):
                channels = target.transpose(0, 1)
                torch.baddbmm(start, through_products, clip.transpose(0, 1), out=channels)
                channels.baddbmm_(through_map, of_clip.transpose(0, 1))
            to_x = to_x.view_as(x)
        return to_x, None, *to_parameters, None, None


def _move(norm: _BatchNorm, mean: Tensor, var: Tensor, values: int) -> None:
    """Running statistics, as batch norm moves them: the variance without the bias of the sample."""
    with torch.no_grad():
        assert norm.num_batches_tracked is not None and norm.running_mean is not None and norm.running_var is not None
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(var * (values / (values - 1)), share)
