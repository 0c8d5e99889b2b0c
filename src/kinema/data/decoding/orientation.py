"""Turning stored pictures the way up that the container asks for.

Phones store what the sensor saw and add a display matrix. For a stored pixel at column x and row y it names the place
`x' = a x + c y`, `y' = b x + d y` on the screen. Quarter turns and mirror images move pixels without mixing them, so
they are applied exactly; any other angle would need interpolation and is refused.
"""

from dataclasses import dataclass

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from kinema.data.decoding.report import DecodeError


@dataclass(frozen=True)
class Orientation:
    """A quarter turn or mirror image: swap rows and columns first if `transpose`, then reverse rows, then columns."""

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an (H, W, C) picture; a view, nothing is copied."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame, name: str) -> Orientation:
    """Read the display matrix that came with a decoded frame.

    Raises:
        DecodeError: If the matrix is no multiple of a quarter turn, mirrored or not.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return UPRIGHT
    a, b, _, c, d = (int(value) for value in np.frombuffer(memoryview(matrix), dtype=np.int32)[:5])
    upright, sideways = min(abs(a), abs(d)), min(abs(b), abs(c))
    if sideways == 0 and upright > 0 and b == c == 0:
        return Orientation(reverse_rows=d < 0, reverse_columns=a < 0)
    if upright == 0 and sideways > 0 and a == d == 0:
        return Orientation(transpose=True, reverse_rows=b < 0, reverse_columns=c < 0)
    raise DecodeError(
        f"{name}: its display matrix (a={a}, b={b}, c={c}, d={d}) is no multiple of a quarter turn, which would need "
        "interpolation; re-encode the video upright"
    )
