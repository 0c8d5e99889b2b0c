"""Whoever takes the place of the layer that makes queries, keys and values, or watches it, is not passed by."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from kinema.operators.multihead import Attention

DIM, HEADS, TOKENS = 8, 2, 5


class Adapted(nn.Module):
    """A layer and what an adapter of low rank adds to it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(DIM, 2, bias=False), nn.Linear(2, 3 * DIM, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def adapt(attn):
    attn.qkv = Adapted(attn.qkv)
    return attn.qkv.up.weight


def pruned(attn):
    """What is not cut away moves on; the layer's own weight stays behind until it is called."""
    prune.random_unstructured(attn.qkv, "weight", amount=0.5)
    with torch.no_grad():
        attn.qkv.weight_orig.mul_(2)
    return attn.qkv.weight_orig


def hooked(attn):
    attn.qkv.register_forward_hook(lambda module, inputs, output: output.square())
    return attn.qkv.weight


def parametrized(attn):
    parametrize.register_parametrization(attn.qkv, "weight", Doubled())
    return attn.qkv.parametrizations.weight.original


def split(rows):
    return [part.unflatten(-1, (HEADS, -1)).transpose(-2, -3) for part in rows.chunk(3, dim=-1)]


@pytest.mark.parametrize("change", [adapt, pruned, hooked, parametrized])
@pytest.mark.parametrize("part", ["all", "queries", "keys and values"])
def test_what_changes_the_layer_changes_the_attention(change, part):
    torch.manual_seed(0)
    attn = Attention(DIM, HEADS).double()
    parameter = change(attn)
    attn.double()
    tokens = torch.randn(3, TOKENS, DIM, dtype=torch.float64)
    made = {
        "all": lambda: [attn(tokens)],
        "queries": lambda: [attn.queries(tokens)],
        "keys and values": lambda: attn.keys_values(tokens),
    }[part]()
    q, k, v = split(attn.qkv(tokens))
    wanted = {"all": [attn.merge(attn.attend(q, k, v))], "queries": [q], "keys and values": [k, v]}[part]
    for one, other in zip(made, wanted, strict=True):
        torch.testing.assert_close(one, other)
    sum(one.square().sum() for one in made).backward()
    assert parameter.grad is not None and parameter.grad.any()


@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
@pytest.mark.parametrize("part", ["__call__", "queries", "keys_values"])
def test_whoever_watches_gradients_sees_them(kind, part):
    attn, seen = Attention(DIM, HEADS), []
    getattr(attn.qkv, kind)(lambda *arguments: seen.append(part))
    made = getattr(attn, part)(torch.randn(3, TOKENS, DIM, requires_grad=True))
    sum(one.sum() for one in (made if isinstance(made, tuple) else [made])).backward()
    assert seen == [part]


@pytest.mark.parametrize("bias", [True, False])
def test_the_rows_of_some_are_those_of_all(bias):
    attn = Attention(DIM, HEADS, qkv_bias=bias).double()
    tokens = torch.randn(3, TOKENS, DIM, dtype=torch.float64)
    q, k, v = attn.queries_keys_values(tokens)
    torch.testing.assert_close((attn.queries(tokens), *attn.keys_values(tokens)), (q, k, v))
    torch.testing.assert_close([q, k, v], split(attn.qkv(tokens)))
