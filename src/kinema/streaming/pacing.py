"""At which rate a network was trained to see frames, and which frames of a stream come at it."""

from fractions import Fraction
from math import floor

from kinema.data.published_sampling import PublishedScheme
from kinema.data.sampling import FrameScheme
from kinema.data.untrimmed.clip_grid import frames_apart


def trained_rate(scheme: FrameScheme | PublishedScheme, fps: Fraction | None) -> Fraction | None:
    """Frames per second in the clips of a run.

    Args:
        scheme: How its clips were cut.
        fps: Of the stream, for strides that are counted in frames of the video whatever its rate; None if it is not known.

    Returns:
        None where nothing says it: segment sampling spreads a clip over a whole video, however long; and a stride that is
        counted in frames of the video says nothing of a stream of unknown rate.
    """
    apart, target_fps = frames_apart(scheme), getattr(scheme, "target_fps", None)
    base = fps if target_fps is None else Fraction(str(target_fps))
    return None if apart is None or base is None else base / apart


class Pacing:
    """Which frames are taken: the one that is nearest to each tick of a rate, k / rate for k = 0, 1, ...

    A frame is taken if its time, and half the distance of two frames of the stream, reach a tick that none was taken for. So
    times that a container rounds to milliseconds, or a camera keeps badly, still fall to their tick. A stream slower than the
    rate gives all its frames, each once.

    Args:
        rate: Frames per second; None for all.
        fps: Of the stream. None where it is not known: then half a tick counts.

    Raises:
        ValueError: If the rate is not above 0.
    """

    def __init__(self, rate: Fraction | None, fps: Fraction | None = None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate of {float(rate):g} frames a second takes none; give a number above 0")
        self.rate = rate
        self._early = Fraction(1, 2)  # in ticks
        if rate is not None and fps:
            self._early = min(rate / fps / 2, self._early)
        self._tick: int | None = None

    def takes(self, time_s: Fraction) -> bool:
        """Whether the frame of this time is taken; to be asked once for each frame, in order."""
        if self.rate is None:
            return True
        tick = floor(time_s * self.rate + self._early)
        if self._tick is not None and tick <= self._tick:
            return False
        self._tick = tick
        return True
