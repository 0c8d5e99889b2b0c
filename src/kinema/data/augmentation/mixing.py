"""MixUp and CutMix of clips: a batch with itself, backwards."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed.

    Args:
        weight: Share of a clip's own pixels, in [0, 1], and the weight of its own label.
        box: For CutMix the part of every frame that comes from the other clip: top, bottom, left, right in pixels. The whole
            clip is blended when None.
    """

    weight: float
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Mixing:
    """Options of MixUp and CutMix, one of which mixes each training batch.

    MixUp (Zhang et al. 2018, arXiv:1710.09412, equation 1): x = w x_i + (1 - w) x_j and the same for labels, w ~
    Beta(mixup, mixup). CutMix (Yun et al. 2019, arXiv:1905.04899, equations 1 and 2): a box of the frame comes from the other
    clip, and w ~ Beta(cutmix, cutmix) is the area left; where the box is cut off at a border of the frame, w becomes the
    share that is really left, so that labels weigh what is seen. The box is the same in all frames: a tube. Clip i goes with
    clip N - 1 - i, one w and box for a batch, as in timm and PySlowFast. With an odd number of clips the middle one stays
    as it is.

    Args:
        mixup: Parameter of the Beta distribution of MixUp; 0 leaves it out.
        cutmix: That of CutMix; 0 leaves it out.
        probability: That a batch is mixed at all.
        cutmix_share: Where there are both, the share of batches that CutMix takes.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    probability: float = 1.0
    cutmix_share: float = 0.5

    def __post_init__(self) -> None:
        if self.mixup < 0 or self.cutmix < 0 or not self.mixup + self.cutmix:
            raise ValueError(
                f"mixing needs mixup or cutmix above 0 and none below, got mixup={self.mixup} and cutmix={self.cutmix}; "
                "leave mixing out to mix nothing"
            )
        for name in ("probability", "cutmix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def draw(self, height: int, width: int, seed: int) -> Mix | None:
        """How a batch of frames of this size is mixed; None if it is not. Follows from the seed alone."""
        rng = np.random.default_rng(seed)
        if rng.random() >= self.probability:
            return None
        cutmix = rng.random() < (self.cutmix_share if self.mixup else 1.0) if self.cutmix else False
        if not cutmix:
            return Mix(float(rng.beta(self.mixup, self.mixup)))
        side = (1 - rng.beta(self.cutmix, self.cutmix)) ** 0.5
        top, bottom = _span(height, side, rng)
        left, right = _span(width, side, rng)
        return Mix(1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))


def mix_clips(clip: Num[Tensor, "N C T H W"], mix: Mix) -> Num[Tensor, "N C T H W"]:
    """Mix a batch of clips with itself in reverse order: as floats for MixUp, in the type given for CutMix.

    Raises:
        ValueError: If the batch has not five axes: on four, a box would be cut out of time and rows.
    """
    if clip.ndim != 5:
        raise ValueError(
            f"mixing needs clips (N, C, T, H, W), got the shape {tuple(clip.shape)}; keep the axis of time"
        )
    other = clip.flip(0)
    if mix.box is None:
        own = clip if clip.is_floating_point() else clip.float()
        return torch.lerp(other.to(own.dtype), own, mix.weight)
    top, bottom, left, right = mix.box
    mixed = clip.clone()
    mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return mixed


def mix_labels(label: Int[Tensor, " N"], num_classes: int, mix: Mix) -> Float[Tensor, "N K"]:
    """The weights of the classes in a mixed batch; each row sums to 1."""
    own = one_hot(label, num_classes).float()
    return torch.lerp(own.flip(0), own, mix.weight)


def _span(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Begin and end of a stretch of a share of the length about a random centre, within the length."""
    half, centre = int(length * share) // 2, int(rng.integers(length))
    return max(centre - half, 0), min(centre + half, length)
