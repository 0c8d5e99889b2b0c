"""Rotary position embedding (Su et al. 2021, section 3.4, arXiv:2104.09864), over time and over both axes of a frame.

The channels of a query or a key are taken in pairs, points in the plane that are turned by angles which grow with the
position p of its token:

    y[2i]     = x[2i] cos a_i(p) - x[2i + 1] sin a_i(p)
    y[2i + 1] = x[2i + 1] cos a_i(p) + x[2i] sin a_i(p)

The product of a turned query and a turned key then depends on the difference of their positions alone. Nothing is
learnt; frequencies are buffers, so that a checkpoint may bring its own.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

RotaryLayout = Literal["interleaved", "reference"]
ROTARY_LAYOUTS: tuple[RotaryLayout, ...] = get_args(RotaryLayout)


class Rotation(NamedTuple):
    """Cosine and sine of the angle of every channel of a head, at every position.

    Args:
        cos, sin: (positions, d).
    """

    cos: Float[Tensor, "N d"]
    sin: Float[Tensor, "N d"]


class ClipRotation(NamedTuple):
    """The rotations of the frames of a clip, and of the patches of a frame row by row."""

    time: Rotation
    space: Rotation


def rotate(x: Float[Tensor, "*G N d"], rotation: Rotation) -> Float[Tensor, "*G N d"]:
    """Queries or keys, each turned according to its position."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-second, first], dim=-1).flatten(-2)
    return x * rotation.cos.to(x.dtype) + turned * rotation.sin.to(x.dtype)


class RotaryInTime(nn.Module):
    """Angles of frames.

        a_i(t) = t f_i,    f_i = base ** (-2i / d),    0 <= i < d / 2

    Args:
        head_dim: Channels d of a head, even.
        layout: "interleaved" turns pair i by a_i. "reference" is what a widespread implementation does
            (lucidrains/TimeSformer-pytorch): frequencies laid out in halves, f_0 .. f_{d/2 - 1} twice over, and neighbours
            turned. The two channels of a pair then have unlike frequencies, so it is no rotation: lengths change, and
            products depend on more than the difference of frames. For weights that were trained so.
        base: Of the frequencies.

    Shape:
        A number of frames to a `Rotation` (T, d). State: inv_freqs (d / 2).

    Raises:
        ValueError: If `head_dim` is odd or the layout is unknown.
    """

    inv_freqs: Tensor

    def __init__(self, head_dim: int, *, layout: RotaryLayout = "interleaved", base: float = 10000.0) -> None:
        super().__init__()
        if head_dim < 2 or head_dim % 2:
            raise ValueError(f"head_dim={head_dim} has no pairs of channels to turn; give an even number")
        if layout not in ROTARY_LAYOUTS:
            raise ValueError(f"layout={layout!r} is unknown; give one of {', '.join(ROTARY_LAYOUTS)}")
        self.layout = layout
        freqs = [base ** (-2 * pair / head_dim) for pair in range(head_dim // 2)]
        self.register_buffer("inv_freqs", torch.tensor(freqs))

    def forward(self, num_frames: int) -> Rotation:
        freqs = _precise(self.inv_freqs)
        frames = torch.arange(num_frames, device=freqs.device, dtype=freqs.dtype)
        angles = frames[:, None] * freqs
        if self.layout == "reference":
            angles = torch.cat([angles, angles], dim=-1)
        else:
            angles = angles.repeat_interleave(2, dim=-1)
        return Rotation(angles.cos(), angles.sin())

    def extra_repr(self) -> str:
        return f"layout={self.layout!r}"


class RotaryInSpace(nn.Module):
    """Angles of patches: the first half of the channels turns with the row, the second with the column.

        a_i(r) = pi s_i (2 r / (h - 1) - 1),    s_i = (max_freq / 2) ** (i / (d / 4 - 1)),    0 <= i < d / 4

    for row r of h, likewise for columns. Both run from -1 to 1 whatever their number, so a frame of another size is seen as
    if stretched. As in the reference code, whose pairs are in order in space.

    Args:
        head_dim: Channels d of a head, a multiple of 4.
        max_freq: Twice the largest scale.

    Shape:
        Numbers of rows and columns to a `Rotation` (h * w, d), row by row. State: scales (d / 4).

    Raises:
        ValueError: If `head_dim` is no multiple of 4.
    """

    scales: Tensor

    def __init__(self, head_dim: int, *, max_freq: float = 10.0) -> None:
        super().__init__()
        if head_dim < 4 or head_dim % 4:
            raise ValueError(
                f"head_dim={head_dim} cannot be turned along two axes, which takes two pairs of channels at a time; "
                "give a multiple of 4"
            )
        count = head_dim // 4
        scales = [(max_freq / 2) ** (pair / max(count - 1, 1)) for pair in range(count)]
        self.register_buffer("scales", torch.tensor(scales))

    def forward(self, height: int, width: int) -> Rotation:
        scales = _precise(self.scales) * math.pi
        rows, columns = (
            torch.linspace(-1, 1, count, device=scales.device, dtype=scales.dtype)[:, None] * scales
            for count in (height, width)
        )
        angles = torch.cat(
            [repeat(rows, "h s -> (h w) s", w=width), repeat(columns, "w s -> (h w) s", h=height)], dim=-1
        ).repeat_interleave(2, dim=-1)
        return Rotation(angles.cos(), angles.sin())


class ClipRotary(nn.Module):
    """Both, for attention that is divided into time and space.

    Args:
        head_dim: Channels of a head, a multiple of 4.
        layout: Of the angles in time.

    Shape:
        Numbers of rows, columns and frames to a `ClipRotation`.

    Raises:
        ValueError: As for the two.
    """

    def __init__(self, head_dim: int, *, layout: RotaryLayout = "interleaved") -> None:
        super().__init__()
        self.space = RotaryInSpace(head_dim)
        self.time = RotaryInTime(head_dim, layout=layout)

    def forward(self, height: int, width: int, num_frames: int) -> ClipRotation:
        return ClipRotation(self.time(num_frames), self.space(height, width))


def _precise(values: Tensor) -> Tensor:
    """At least float32: an angle of several turns has no digits left in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
