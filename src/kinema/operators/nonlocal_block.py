"""Non-local block (Wang et al. 2018, section 3, arXiv:1711.07971) in the form used by TSM."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.shapes import check_clip

Affinity = Literal["gaussian", "embedded_gaussian", "dot_product"]
AFFINITIES: tuple[Affinity, ...] = ("gaussian", "embedded_gaussian", "dot_product")


class NonLocalBlock(nn.Module):
    """Add to every position of a clip a weighted mean over all positions, the weights given by similarity.

        z_i = x_i + BN(W sum_j a_ij g(x_j))

        gaussian             a_ij = softmax over j of <x_i, x_j>
        embedded_gaussian    a_ij = softmax over j of <theta(x_i), phi(x_j)>
        dot_product          a_ij = <theta(x_i), phi(x_j)> / number of j

    Keys j are the positions left by a 1 x 2 x 2 max pool after g and phi; queries i are all positions. g, theta and phi
    are 1 x 1 x 1 convolutions to C / 2 channels with bias. There is no 1 / sqrt(d) in the softmax unless asked for. BN
    starts at weight and bias zero, so the block starts as the identity.

    Follows the code of the TSM authors, which has embedded_gaussian alone; mmaction2 offers the three and has no bias
    in W. That bias changes nothing that BN does not take out again, so the one module holds both. The code of
    TAdaConv's authors scales and does not pool.

    Costs (T * H * W) ** 2 / 4 numbers of memory per clip for the weights. Reads the future: not for causal networks.

    Args:
        channels: Size of C, at least 2.
        affinity: How similarity becomes weight.
        scaled: Divide <., .> by the square root of its number of channels before the softmax.
        pool: Take the maximum of 2 x 2 keys; all positions are keys otherwise.

    Shape:
        (B, C, T, H, W) to the same; H and W at least 2 with `pool`.

    Raises:
        ValueError: If the affinity is unknown.
    """

    def __init__(
        self,
        channels: int,
        *,
        affinity: Affinity = "embedded_gaussian",
        scaled: bool = False,
        pool: bool = True,
    ) -> None:
        super().__init__()
        if affinity not in AFFINITIES:
            raise ValueError(f"affinity={affinity!r} is unknown; give one of {AFFINITIES}")
        self.channels = channels
        self.affinity = affinity
        self.g = nn.Conv3d(channels, channels // 2, 1)
        if affinity != "gaussian":
            self.theta = nn.Conv3d(channels, channels // 2, 1)
            self.phi = nn.Conv3d(channels, channels // 2, 1)
        self.out = nn.Conv3d(channels // 2, channels, 1)
        self.norm = nn.BatchNorm3d(channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        self.pool = nn.MaxPool3d((1, 2, 2)) if pool else nn.Identity()
        self.scaled = scaled

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        check_clip(x, channels=self.channels)
        embedded = self.affinity != "gaussian"
        queries = (self.theta(x) if embedded else x).flatten(2)
        keys = self.pool(self.phi(x) if embedded else x).flatten(2)
        values = self.pool(self.g(x)).flatten(2)

        similarity = torch.einsum("bdi,bdj->bij", queries, keys)
        if self.scaled:
            similarity = similarity * queries.shape[1] ** -0.5
        if self.affinity == "dot_product":
            weights = similarity / keys.shape[-1]
        else:
            weights = similarity.softmax(dim=-1)
        mean = torch.einsum("bij,bdj->bdi", weights, values).unflatten(2, x.shape[2:])
        return x + self.norm(self.out(mean))
