"""Percentiles of any number of durations in memory that does not grow."""

from math import ceil, exp, floor, log

_STEP = log(1.01)
_SHORTEST_MS = 1e-3


class Latencies:
    """Counts durations in bins of which each is 1 % wider than the one before, so that percentiles are right to 1 %."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_ms = 0.0
        self._bins: dict[int, int] = {}

    def add(self, ms: float) -> None:
        place = floor(log(max(ms, _SHORTEST_MS) / _SHORTEST_MS) / _STEP)
        self._bins[place] = self._bins.get(place, 0) + 1
        self.count += 1
        self.longest_ms = max(self.longest_ms, ms)

    def percentile_ms(self, share: float) -> float:
        """The duration that a `share` of all, in [0, 1], do not exceed; 0 where there is none."""
        left = max(ceil(share * self.count), 1)
        for place in sorted(self._bins):
            left -= self._bins[place]
            if left <= 0:
                return min(_SHORTEST_MS * exp((place + 0.5) * _STEP), self.longest_ms)
        return 0.0
