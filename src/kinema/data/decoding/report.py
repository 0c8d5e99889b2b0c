"""How a reader says that something could not be decoded."""

from collections.abc import Iterable
from dataclasses import dataclass, field


class DecodeError(ValueError):
    """A video, or a wanted frame of it, cannot be decoded exactly."""


@dataclass
class DecodeReport:
    """What went wrong in a file so far.

    Args:
        errors: Errors met while reading packets or decoding them.
        missing: Numbers of the frames that were wanted, or promised by the container, and could not be decoded exactly.
    """

    errors: int = 0
    missing: list[int] = field(default_factory=list)

    def add_missing(self, frames: Iterable[int]) -> None:
        """Note frames as lost, once each, in order."""
        self.missing = sorted({*self.missing, *frames})
