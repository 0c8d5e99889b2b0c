"""Position embeddings for another number of patches or frames than they were learnt for."""

from collections.abc import Callable

from timm.layers import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional as F

Resized = tuple[Tensor, str] | None


def resized_positions(name: str, value: Tensor, shape: tuple[int, ...]) -> Resized:
    """Position embeddings of a class token and a square of patches for another square, bicubic; None if they are not.

    Args:
        name: What the checkpoint calls them.
        value: (N + 1, D), leading axes of one allowed.
        shape: (1, M + 1, D).
    """
    value = value.reshape(1, *value.shape[-2:])
    old, new = (round((tokens - 1) ** 0.5) for tokens in (value.shape[1], shape[1]))
    if value.shape[2] != shape[2] or old * old + 1 != value.shape[1] or new * new + 1 != shape[1]:
        return None
    resized = resample_abs_pos_embed(value, new_size=[new, new], old_size=[old, old], num_prefix_tokens=1)
    return resized, f"{name} resized from {old} x {old} to {new} x {new} patches"


def resized_in_time(name: str, value: Tensor, shape: tuple[int, ...]) -> Resized:
    """Embeddings of frames, linearly between those learnt, and how it was done; None if there is no way.

    Args:
        name: Of the tensor in the checkpoint.
        value: (1, T, D).
        shape: (1, U, D).
    """
    if value.ndim != 3 or value.shape[2] != shape[2]:
        return None
    resized = F.interpolate(value.float().transpose(1, 2), size=shape[1], mode="linear").transpose(1, 2).to(value.dtype)
    return resized, f"{name} resized from {value.shape[1]} to {shape[1]} frames"


RESIZED: dict[str, Callable[[str, Tensor, tuple[int, ...]], Resized]] = {
    "pos_embed": resized_positions,
    "time_embed": resized_in_time,
}
"""Plain name to how it is resized."""
