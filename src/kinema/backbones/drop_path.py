"""Stochastic depth of clips (Huang et al. 2016, arXiv:1603.09382) in a network on frames."""

from timm.layers.drop import DropPath, drop_path
from torch import Tensor, nn

from kinema.backbones.holes import Batch


class ClipDropPath(nn.Module):
    """Leave out a residual branch for whole clips; a draw for each frame would tear a clip apart.

    Args:
        rate: Probability of leaving the branch out while training, in [0, 1). What stays is divided by 1 - rate.
        batch: The backbone's count of clips.

    Shape:
        Frames or their tokens, (B * T, ...), to the same.

    Raises:
        ValueError: If the rate is not in [0, 1).
    """

    def __init__(self, rate: float, batch: Batch) -> None:
        super().__init__()
        check_rate(rate)
        self.rate = rate
        self._batch = batch

    def forward(self, branch: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return branch
        clips = branch.unflatten(0, (self._batch.num_clips, -1))
        return drop_path(clips, self.rate, training=True).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


def check_rate(rate: float) -> None:
    """Refuse what is no rate.

    Raises:
        ValueError: If the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path={rate} is no rate of stochastic depth; give a number in [0, 1)")


def drop_whole_clips(trunk: nn.Module, batch: Batch) -> None:
    """Replace the stochastic depth of timm's blocks, which draws for each frame, by one that draws for each clip."""
    for name, module in list(trunk.named_modules()):
        if isinstance(module, DropPath):
            trunk.set_submodule(name, ClipDropPath(module.drop_prob, batch))
