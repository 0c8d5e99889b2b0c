"""Kernels of one shape from those of another: image networks into networks of other channels or of three dimensions."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from kinema.operators.tubelet import inflate_at_centre


def inflate(
    name: str,
    value: Tensor,
    shape: tuple[int, ...],
    *,
    stem: bool = False,
    widened: bool = False,
    centred: bool = False,
) -> tuple[Tensor, str] | None:
    """The kernel of a convolution in images as one of another shape, or None if it cannot be made.

    A kernel that sees kt frames is the image's kernel kt times over, divided by kt: on a clip of equal frames it gives,
    but for the zeros outside the clip, what the image's gives on the frame (Carreira and Zisserman 2017, section 2.4,
    arXiv:1705.07750). For other input channels than three it is the mean over the image's, repeated (Lin, Gan and Han
    2019 do so for optical flow). Tubelets, whose windows overlap, have the image's kernel on their middle frame and zeros
    on the others instead (Arnab et al. 2021, section 3.4, arXiv:2103.15691). Where a pathway takes in the channels of
    another, these start at zero, so that it is at first the image's network.

    Args:
        name: What the checkpoint calls it.
        value: (C_out, C_in, kh, kw), or with kt in front of kh, or with two leading axes of one more. One that sees a single
            frame counts as an image's; one that sees kt fits where kt are wanted.
        shape: Wanted, in one of the same forms.
        stem: Whether it reads pixels.
        widened: Whether it reads channels of another pathway behind those of its own.
        centred: Whether it embeds tubelets.

    Returns:
        The kernel, and how it came about.
    """
    given, core = kernel_axes(value.shape), kernel_axes(shape)
    if len(given) not in (4, 5) or len(core) not in (4, 5):
        return None
    frames = core[2] if len(core) == 5 else 1
    seen = given[2] if len(given) == 5 else 1
    if seen not in (1, frames):
        return None
    value = value.reshape(*given[:2], seen, *given[-2:])
    channels, wanted = given[1], core[1]
    how = name
    if stem and channels != wanted:
        value = value.mean(dim=1, keepdim=True).expand(-1, wanted, -1, -1, -1)
        how = f"mean of {name} over {channels} channels, repeated {wanted} times"
    elif widened and channels < wanted:
        value = F.pad(value, (0, 0, 0, 0, 0, 0, 0, wanted - channels))
        how = f"{name}, and zeros for the last {wanted - channels} input channels, which are of the fast pathway"
    if tuple(value.shape) != (*core[:2], seen, *core[-2:]):
        return None
    if frames > seen and centred:
        value = inflate_at_centre(value[:, :, 0], frames)
        how = f"{how}, on the middle one of {frames} frames, zeros on the others"
    elif frames > seen:
        value = value.expand(-1, -1, frames, -1, -1) / frames
        how = f"{how}, {frames} times over time, divided by {frames}"
    return value.reshape(shape), how


def kernel_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of a kernel, without those of clip and frame that a calibrated one has in front."""
    return tuple(shape[2:] if len(shape) in (6, 7) else shape)
