"""The non-local block against its equation."""

import pytest
import torch
from torch.nn import functional as F

from kinema.operators.nonlocal_block import AFFINITIES, NonLocalBlock
from kinema.testing import assert_equal_to_literal


def random_block(affinity, channels=6):
    block = NonLocalBlock(channels, affinity=affinity)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return block.double()


def literal(block):
    """One query at a time, one clip at a time, from the equation."""

    def embed(x, conv):
        return (
            x
            if conv is None
            else torch.einsum("oc,cthw->othw", conv.weight[:, :, 0, 0, 0], x) + conv.bias[:, None, None, None]
        )

    def run(clips):
        results = []
        for x in clips:
            theta, phi = (getattr(block, name, None) for name in ("theta", "phi"))
            queries, keys, values = embed(x, theta), embed(x, phi), embed(x, block.g)
            pooled = [(F.max_pool2d(keys[:, t], 2), F.max_pool2d(values[:, t], 2)) for t in range(x.shape[1])]
            keys = torch.cat([k.flatten(1) for k, _ in pooled], dim=1)
            values = torch.cat([v.flatten(1) for _, v in pooled], dim=1)
            mean = torch.zeros(values.shape[0], *x.shape[1:], dtype=x.dtype)
            for t in range(x.shape[1]):
                for h in range(x.shape[2]):
                    for w in range(x.shape[3]):
                        similarity = torch.stack([queries[:, t, h, w] @ keys[:, j] for j in range(keys.shape[1])])
                        dot = block.affinity == "dot_product"
                        weights = similarity / len(similarity) if dot else similarity.exp() / similarity.exp().sum()
                        mean[:, t, h, w] = values @ weights
            norm = block.norm
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            y = embed(mean, block.out)
            y = (
                scale[:, None, None, None] * (y - norm.running_mean[:, None, None, None])
                + norm.bias[:, None, None, None]
            )
            results.append(x + y)
        return torch.stack(results).detach()

    return run


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_equals_the_equation(affinity):
    block = random_block(affinity)
    clip = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64)
    assert_equal_to_literal(block, literal(block), clip, tolerance=1e-12)


def test_an_unknown_affinity_is_refused():
    with pytest.raises(ValueError, match="affinity='cosine' is unknown"):
        NonLocalBlock(8, affinity="cosine")


def test_folded_frames_are_refused():
    with pytest.raises(ValueError, match="with 5 axes"):
        NonLocalBlock(8)(torch.randn(4, 8, 6, 6))
