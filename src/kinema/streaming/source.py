"""What a source of frames is: something that can be opened, and gives pictures with their times until it ends or is lost."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, Self

from jaxtyping import UInt8
from numpy.typing import NDArray


class StreamError(Exception):
    """A source that cannot be opened, or from which no more frames come; it names no password."""


@dataclass(frozen=True)
class Picture:
    """One frame as a source gives it.

    Args:
        pixels: RGB, upright; None where they were not wanted.
        time_s: Seconds on the clock of the source; None where it has none, and the moment of arrival counts.
    """

    pixels: UInt8[NDArray, "H W 3"] | None
    time_s: Fraction | None


class Opened(ABC):
    """A source that gives frames."""

    live = False
    """Whether frames come at the pace of what they show, so that a frame that is not taken is late, and not early."""
    fps: Fraction | None = None
    """Frames per second that the source announces."""
    duration_s: Fraction | None = None
    """Length that the source announces."""
    damaged = 0
    """Frames that could not be decoded, and were left out."""
    note = ""
    """What to tell of it when it has come to its end."""
    waited_s = 0.0
    """Seconds in all for which the next frame was not there yet; 0 where that cannot be told from the time of decoding."""
    wanted: Callable[[Fraction | None], bool] = staticmethod(lambda time_s: True)
    """Asked with the time of each frame of a live source, behind decoding: for False its pixels are None, which is cheaper."""

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """The frames in order.

        Raises:
            StreamError: If the source fails, nothing comes for too long, or it ends before its announced length.
            DecodeError: If a file is damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the source."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Source(Protocol):
    """What can be opened, and opened again where it was lost."""

    @property
    def name(self) -> str:
        """For messages; without passwords."""
        ...

    @property
    def reconnects(self) -> bool:
        """Whether it makes sense to open it anew when it is lost."""
        ...

    @property
    def stall_s(self) -> float | None:
        """Seconds without a frame after which it counts as lost; None for sources that cannot stall."""
        ...

    def open(self) -> Opened:
        """Open it.

        Raises:
            StreamError: If it cannot be opened.
            DecodeError: If a file is no video.
        """
        ...
