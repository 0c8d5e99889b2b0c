"""The boundary-matching network (Lin et al. 2019, section 3, arXiv:1907.09702), as the authors of TAdaConv build it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.localization.sampling import BoundaryMatching


class BoundaryMaps(NamedTuple):
    """What the network says of a window. In maps over (d, s), cell (d, s) is the proposal from bin s to s + d, both included.

    Attributes:
        start: Probability that something begins at a bin.
        end: Probability that something ends at a bin.
        confidence: Of each proposal: expected overlap with what happens, learnt by regression (channel 0) and by
            classification (channel 1).
        offsets: Of each proposal, where its start and its end truly are, as shares of its length; None without that head.
        classes: Logits of the classes of each proposal, one map per task; empty without that head.
    """

    start: Float[Tensor, "B T"]
    end: Float[Tensor, "B T"]
    confidence: Float[Tensor, "B 2 D T"]
    offsets: Float[Tensor, "B 2 D T"] | None = None
    classes: tuple[Float[Tensor, "B K D T"], ...] = ()


class BoundaryMatchingNetwork(nn.Module):
    """Starts, ends, and how good every proposal between them is, from features over T bins.

        base        Conv1d 3 (grouped), ReLU, twice
        start, end  Conv1d 3 (grouped), ReLU, Conv1d 1, sigmoid
        proposals   Conv1d 3, ReLU, boundary matching over N samples, a convolution that collapses them, ReLU
        confidence  Conv2d 1, ReLU, Conv2d 3, ReLU, Conv2d 3, ReLU, Conv2d 1, sigmoid

    Differs from the paper in the width of the proposals' features (256, there 128) and in what the authors of TAdaConv add:
    heads for classes and for the offsets of a proposal, shaped as `confidence`, both off in their published runs. There is
    no published loss of the two; ours stands in `kinema.localization.losses`.

    Initial values are PyTorch's own for convolutions.

    Args:
        in_channels: Channels of the features; a multiple of `groups`.
        num_bins: Bins T of a window.
        max_bins: Bins D of the longest proposal.
        num_classes: Classes of the class head, several for several tasks; no such head when None.
        regression: Whether there is a head for the offsets of proposals.
        num_samples: Samples N of a proposal.
        num_points: Points that each sample averages.
        context: What is seen before and behind a proposal, in lengths of it.
        dim: Channels of base, boundaries and samples.
        dim_collapsed: Channels of a proposal once its samples are collapsed.
        dim_map: Channels of the convolutions over (d, s).
        base_layers: Convolutions of the base.
        groups: Groups of the convolutions of base and boundaries.

    Shape:
        (B, C, T) to `BoundaryMaps`.

    Raises:
        ValueError: If channels cannot be split into the groups, or D is above T.
    """

    def __init__(
        self,
        in_channels: int,
        num_bins: int = 100,
        max_bins: int = 100,
        *,
        num_classes: int | Sequence[int] | None = None,
        regression: bool = False,
        num_samples: int = 32,
        num_points: int = 3,
        context: float = 0.5,
        dim: int = 256,
        dim_collapsed: int = 512,
        dim_map: int = 128,
        base_layers: int = 2,
        groups: int = 4,
    ) -> None:
        super().__init__()
        if in_channels % groups or dim % groups:
            raise ValueError(
                f"in_channels={in_channels} and dim={dim} must be multiples of groups={groups}; give groups=1, or features "
                f"of {-(-in_channels // groups) * groups} channels"
            )
        if base_layers < 1:
            raise ValueError(f"base_layers={base_layers} leaves nothing that reads the features; give at least 1")
        self.in_channels, self.num_bins, self.max_bins = in_channels, num_bins, max_bins
        counts = (num_classes,) if isinstance(num_classes, int) else tuple(num_classes or ())
        self.num_classes: tuple[int, ...] = counts
        widths = [in_channels, *[dim] * base_layers]
        self.base = nn.Sequential()
        for before, after in pairwise(widths):
            self.base.extend([nn.Conv1d(before, after, 3, padding=1, groups=groups), nn.ReLU()])
        self.start, self.end = _boundary(dim, groups), _boundary(dim, groups)
        self.proposal = nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU())
        self.matching = BoundaryMatching(
            num_bins, max_bins, num_samples=num_samples, num_points=num_points, context=context
        )
        self.collapse = nn.Conv3d(dim, dim_collapsed, (num_samples, 1, 1))  # its weights; `matching` applies them
        self.confidence = _map(dim_collapsed, dim_map, 2)
        self.offsets = _map(dim_collapsed, dim_map, 2) if regression else None
        self.classes = nn.ModuleList(_map(dim_collapsed, dim_map, count) for count in counts)

    def forward(self, features: Float[Tensor, "B C T"]) -> BoundaryMaps:
        if features.ndim != 3 or features.shape[1:] != (self.in_channels, self.num_bins):
            raise ValueError(
                f"features of shape {tuple(features.shape)} were given; (batch, {self.in_channels}, {self.num_bins}) expected"
            )
        x = self.base(features)
        cells = self.matching.collapse(self.proposal(x), self.collapse.weight[..., 0, 0], self.collapse.bias)
        cells = F.relu(cells)
        return BoundaryMaps(
            self.start(x).sigmoid()[:, 0],
            self.end(x).sigmoid()[:, 0],
            self.confidence(cells).sigmoid(),
            None if self.offsets is None else self.offsets(cells),
            tuple(head(cells) for head in self.classes),
        )


def _boundary(dim: int, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(dim, dim, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv1d(dim, 1, 1))


def _map(dim: int, dim_map: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim, dim_map, 1),
        nn.ReLU(),
        nn.Conv2d(dim_map, dim_map, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(dim_map, dim_map, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(dim_map, outputs, 1),
    )
