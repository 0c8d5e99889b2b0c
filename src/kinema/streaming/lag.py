"""How far behind its live source a stream is, told from work alone: waiting for the source is no lag."""

from fractions import Fraction


class Lag:
    """How far behind its live source is who reads it too slowly.

        lag_n = max(0, lag_(n-1) + work_n - (t_n - t_(n-1)))

    t_n is the time of frame n on the clock of the source, and work_n the time from frame n-1 to it on that of this machine in
    which frame n was not waited for. Where waiting cannot be told from work, that is how much later than the earliest frame so
    far it comes; where it can, neither bursts of a server nor a clock that runs slowly count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: tuple[float, float, Fraction] | None = None

    def begin_anew(self) -> None:
        """The next frame does not continue the one before."""
        self.seconds, self._last = 0.0, None

    def add(self, time_s: Fraction | None, now: float, waited_s: float) -> float:
        """The lag at a frame.

        Args:
            time_s: Of the frame on the clock of the source; None, or one that falls, begins anew.
            now: When it was decoded.
            waited_s: Seconds of waiting so far, in all.
        """
        if time_s is None or (self._last is not None and time_s < self._last[2]):
            self.begin_anew()
        if time_s is None:
            return 0.0
        if self._last is not None:
            then, waited_then, shown = self._last
            work = now - then - (waited_s - waited_then)
            self.seconds = max(0.0, self.seconds + work - float(time_s - shown))
        self._last = now, waited_s, time_s
        return self.seconds
