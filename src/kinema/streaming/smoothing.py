"""Means over the frames of a stream, in which frames count for less as they grow old."""

from collections.abc import Sequence
from math import inf

from jaxtyping import Float
from torch import Tensor


class Smoothing:
    """The weighted mean of the logits so far.

        y(t) = sum_i 2^(-(t - t_i) / h) x_i / sum_i 2^(-(t - t_i) / h)

    with the half-life h in seconds, so that it says the same at any rate of frames, and whether some are dropped or not. Of
    the first frame it is that frame. h = infinity is the running mean: what the network itself does with the frames of a
    clip, for its logits are those of the mean of its frames. That is why logits are averaged, and not probabilities. h = 0
    leaves every frame as it is.

    Args:
        half_life_s: h.

    Raises:
        ValueError: If it is below 0, or no number.
    """

    def __init__(self, half_life_s: float) -> None:
        if not half_life_s >= 0:
            raise ValueError(
                f"a half-life of {half_life_s} s was given; give 0 for none, seconds, or inf for the mean of all frames"
            )
        self.half_life_s = half_life_s
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._sums: list[Tensor] | None = None
        self._weight, self._last_s = 0.0, 0.0

    def __call__(self, logits: Sequence[Float[Tensor, " K"]], time_s: float) -> list[Float[Tensor, " K"]]:
        """Add a frame; the mean of it and those before.

        Args:
            logits: Of every classifier of the network.
            time_s: When the frame was shown; not before the last one.
        """
        if self._sums is None:
            self._sums, self._weight = [part.double().clone() for part in logits], 1.0
        else:
            kept = self._kept(max(time_s - self._last_s, 0.0))
            self._sums = [kept * total + part.double() for total, part in zip(self._sums, logits, strict=True)]
            self._weight = kept * self._weight + 1
        self._last_s = time_s
        return [total / self._weight for total in self._sums]

    def _kept(self, seconds: float) -> float:
        if self.half_life_s == 0:
            return 0.0
        return 1.0 if self.half_life_s == inf else 2 ** (-seconds / self.half_life_s)
