"""When each frame of a video is shown, also where the rate varies: number over mean rate would be wrong by seconds."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FrameClock:
    """Begin and end of every frame, exact.

    Args:
        ticks: At which each frame begins, the first at 0, and at last the end of the video.
        tick: Seconds of one.
    """

    ticks: NDArray[np.int64]
    tick: Fraction

    @classmethod
    def constant(cls, num_frames: int, fps: Fraction) -> Self:
        """That of frames which are all shown equally long."""
        return cls(np.arange(num_frames + 1), 1 / fps)

    @property
    def duration(self) -> Fraction:
        """Seconds to the end of the last frame."""
        return self.begin(-1)

    def begin(self, frame: int) -> Fraction:
        """Second at which a frame begins; of the number of frames, where the last one ends."""
        return int(self.ticks[frame]) * self.tick

    def shown_at(self, time: Fraction) -> int:
        """The frame that is shown at a time; before the video its first one, behind it its last."""
        frame = int(np.searchsorted(self.ticks, floor(time / self.tick), side="right")) - 1
        return min(max(frame, 0), len(self.ticks) - 2)

    def nearest(self, time: Fraction) -> int:
        """The frame that begins nearest to a time; the number of frames behind the end."""
        ticks = time / self.tick
        later = min(int(np.searchsorted(self.ticks, ceil(ticks))), len(self.ticks) - 1)
        earlier = max(later - 1, 0)
        return earlier if ticks - int(self.ticks[earlier]) < int(self.ticks[later]) - ticks else later
