"""A yardstick that computes something else measures nothing."""

import pytest
import torch

import kinema
from kinema.benchmarks.explicit_attention import with_explicit_attention


@pytest.mark.parametrize("scheme", ["space", "joint", "divided", "local_global", "axial"])
def test_it_computes_what_kinema_computes(scheme):
    network = kinema.create_model("timesformer_nano", 5, attention_scheme=scheme).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    clip = torch.randn(2, 3, 4, 64, 64, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, True], [True] * 4])
    explicit = with_explicit_attention(network)
    torch.testing.assert_close(explicit(clip), network(clip))
    torch.testing.assert_close(explicit(clip, mask), network(clip, mask))
    assert network(clip).std() > 0.01


def test_a_network_without_attention_has_none():
    with pytest.raises(ValueError, match="has no attention"):
        with_explicit_attention(kinema.create_model("tsn_nano"))
