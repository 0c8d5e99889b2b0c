"""RandAugment for clips: a few random operations, each drawn once for all frames."""

import math
import re
from dataclasses import dataclass

import torch

from kinema.data.augmentation.rand_augment_ops import OPERATIONS, Strength
from kinema.data.augmentation.warp import Frames, Interpolation

_SECTION = re.compile(r"(mstd|mmax|inc|m|n|p)(inf|\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class RandAugment:
    """Apply `num_ops` operations, each with some probability, at a level near `magnitude`; the same to all frames.

    Cubuk et al. 2020 (arXiv:1909.13719), in the form that timm gave it and PySlowFast applies to clips: operations are
    drawn with repetition from fifteen, each is left out with probability 1 - `probability`, and its level is normal about
    the magnitude, clipped to [0, `magnitude_max`]. The paper leaves none out and has no noise.

    Args:
        magnitude: Mean level, 10 being the strongest of the paper's ranges.
        num_ops: Operations drawn.
        probability: That an operation drawn is applied.
        magnitude_std: Deviation of the level; infinite draws it uniformly from 0 to the magnitude.
        magnitude_max: Highest level.
        increasing: See `Strength`.
        interpolation: Of operations that move pixels.
    """

    magnitude: float = 10.0
    num_ops: int = 2
    probability: float = 0.5
    magnitude_std: float = 0.0
    magnitude_max: float = 10.0
    increasing: bool = False
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if self.num_ops < 1 or self.magnitude < 0 or self.magnitude_std < 0 or not 0 <= self.probability <= 1:
            raise ValueError(
                f"RandAugment of magnitude {self.magnitude} +- {self.magnitude_std}, {self.num_ops} operations of probability "
                f"{self.probability} cannot be drawn; use none below 0, at least 1 operation, a probability of at most 1"
            )
        if self.interpolation not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(f"unknown interpolation '{self.interpolation}'; use nearest, bilinear or bicubic")

    @classmethod
    def parse(cls, text: str, interpolation: Interpolation = "bicubic") -> "RandAugment":
        """Read what timm and PySlowFast write, such as "rand-m7-n4-mstd0.5-inc1".

        `m` is the magnitude (10), `n` the number of operations (2), `p` the probability of each (0.5), `mstd` the deviation
        (0; above 100 uniform), `mmax` the highest level (10), `inc1` makes all of them increase.

        Raises:
            ValueError: If the text is no such thing.
        """
        start, *sections = text.split("-")
        found = [_SECTION.fullmatch(section) for section in sections]
        if start != "rand" or not all(found):
            raise ValueError(
                f"'{text}' is no RandAugment; write it as rand-m7-n4-mstd0.5-inc1, of the parts m, n, p, mstd, mmax and inc"
            )
        given = {match[1]: float(match[2]) for match in found if match is not None}
        std = given.get("mstd", 0.0)
        return cls(
            given.get("m", 10.0),
            int(given.get("n", 2)),
            given.get("p", 0.5),
            math.inf if std > 100 else std,
            given.get("mmax", 10.0),
            bool(given.get("inc", 0)),
            interpolation,
        )

    def __call__(self, frames: Frames) -> Frames:
        """Draw from torch's generator and apply."""
        names = list(OPERATIONS)
        for place in torch.randint(len(names), (self.num_ops,)).tolist():
            if torch.rand(()) < self.probability:
                sign = 1 if torch.rand(()) < 0.5 else -1
                how = Strength(self._level(), sign, self.increasing, self.interpolation)
                frames = OPERATIONS[names[place]](frames, how)
        return frames

    def _level(self) -> float:
        if math.isinf(self.magnitude_std):
            return min(float(torch.rand(())) * self.magnitude, self.magnitude_max)
        level = self.magnitude + self.magnitude_std * float(torch.randn(()))
        return min(max(level, 0.0), self.magnitude_max)
