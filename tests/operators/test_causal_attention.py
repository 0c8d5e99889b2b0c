"""Attention over time that sees the past alone, against loops over places, frames and heads."""

import pytest
import torch
from torch import nn

from kinema.operators.causal_attention import CausalBlock, CausalTimeAttention
from kinema.shapes import ClipTokens

D, HEADS, WINDOW = 8, 2, 3


def built(seed=0, **options):
    torch.manual_seed(seed)
    module = CausalTimeAttention(D, HEADS, WINDOW, **options).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def block_of(**options):
    torch.manual_seed(0)
    block = CausalBlock(D, HEADS, WINDOW, **options).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def tokens_for(frames, batch=2, height=2, width=3):
    return ClipTokens(
        torch.randn(batch, frames, D, dtype=torch.float64),
        torch.randn(batch, height, width, frames, D, dtype=torch.float64),
    )


def literal(module, patches, valid=None):
    """One place, one frame and one head at a time."""
    q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in module.qkv(patches).chunk(3, dim=-1))
    heads = torch.zeros_like(v)
    batch, height, width, frames, _ = patches.shape
    for place in [(b, y, x) for b in range(batch) for y in range(height) for x in range(width)]:
        for t in range(frames):
            for head in range(HEADS):
                seen = list(range(max(0, t - WINDOW + 1), t + 1))
                if valid is not None:
                    seen = [s for s in seen if valid[place[0], s] or s == t]
                scores = torch.stack([module.scale * q[place][t, head] @ k[place][s, head] for s in seen])
                if module.age_bias is not None:
                    scores = scores + torch.stack([module.age_bias[head, t - s] for s in seen])
                heads[(*place, t, head)] = scores.softmax(0) @ torch.stack([v[place][s, head] for s in seen])
    return module.proj(heads.flatten(-2))


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("options", [{}, {"ages": False}, {"scale": 0.9, "qkv_bias": False}])
def test_equals_its_equation(options, frames):
    module, patches = built(**options), tokens_for(frames).patches
    torch.testing.assert_close(module.over_clip(patches), literal(module, patches))


def test_padding_is_seen_by_itself_alone():
    module, patches = built(), tokens_for(5).patches
    valid = torch.tensor([[True, True, False, False, True], [True] * 5])
    got = module.over_clip(patches, valid)
    assert got.isfinite().all()
    torch.testing.assert_close(got, literal(module, patches, valid))


def test_kept_weights_are_those_that_were_used():
    module, patches = built(), tokens_for(5).patches
    kept = {}
    got = module.over_clip(patches, keep=kept)
    weights = kept["time"].unflatten(0, patches.shape[:3])
    assert weights.shape == (2, 2, 3, HEADS, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1], dtype=torch.float64))
    age = torch.arange(5)[:, None] - torch.arange(5)
    assert not weights[..., (age < 0) | (age >= WINDOW)].any() and (weights[..., (age >= 0) & (age < WINDOW)] > 0).all()
    v = module.qkv(patches).chunk(3, dim=-1)[2].unflatten(-1, (HEADS, -1)).transpose(-2, -3)
    torch.testing.assert_close(module.merge(weights @ v), got)


def test_ages_start_with_heads_that_look_back_less_and_less_far():
    bias = CausalTimeAttention(16, 4, 5).age_bias.detach()
    assert torch.equal(bias[:, 0], torch.zeros(4))
    steps = bias[:, :-1] - bias[:, 1:]
    torch.testing.assert_close(steps, torch.tensor([[0.25], [0.0625], [0.015625], [0.00390625]]).expand(-1, 4))


@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_a_block_steps(order):
    block, tokens = block_of(order=order), tokens_for(6)
    whole = block(tokens)
    state = block.init_state(ClipTokens(tokens.classes[:, :1], tokens.patches[:, :, :, :1]))
    assert state.shape == (2, 2, 6, HEADS, WINDOW - 1, D // HEADS) and not state.any()
    seen = torch.zeros(2, WINDOW, dtype=torch.float64)
    for t in range(6):
        seen = torch.cat([seen[:, 1:], torch.ones(2, 1, dtype=torch.float64)], dim=1)
        frame = ClipTokens(tokens.classes[:, t : t + 1], tokens.patches[:, :, :, t : t + 1])
        out, state = block.step(frame, state, seen)
        torch.testing.assert_close(out.classes, whole.classes[:, t : t + 1])
        torch.testing.assert_close(out.patches, whole.patches[:, :, :, t : t + 1])


@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_a_block_ignores_the_future(order):
    block, tokens, other = block_of(order=order), tokens_for(5), tokens_for(5)
    changed = ClipTokens(*(part.clone() for part in tokens))
    changed.classes[:, 3:], changed.patches[:, :, :, 3:] = other.classes[:, 3:], other.patches[:, :, :, 3:]
    before, after = block(tokens), block(changed)
    assert torch.equal(before.classes[:, :3], after.classes[:, :3])
    assert torch.equal(before.patches[:, :, :, :3], after.patches[:, :, :, :3])
    assert not torch.equal(before.patches[:, :, :, 3:], after.patches[:, :, :, 3:])


def test_a_block_starts_as_the_image_transformer_on_every_frame():
    torch.manual_seed(0)
    block, tokens = CausalBlock(D, HEADS, WINDOW).double(), tokens_for(4)
    whole = block(tokens)
    for t in range(4):
        alone = block(ClipTokens(tokens.classes[:, t : t + 1], tokens.patches[:, :, :, t : t + 1]))
        torch.testing.assert_close(whole.classes[:, t], alone.classes[:, 0])


def test_stochastic_depth_leaves_out_whole_places():
    torch.manual_seed(0)
    module, patches = built(), torch.randn(1, 8, 8, 4, D, dtype=torch.float64)
    said = module.over_clip(patches, drop=0.5)
    gone = (said == 0).flatten(3).all(3)
    assert 10 < gone.sum() < 54
    torch.testing.assert_close(said[~gone], 2 * module.over_clip(patches)[~gone])


def test_what_is_refused():
    with pytest.raises(ValueError, match="a window of 0 frames does not hold this one"):
        CausalTimeAttention(D, HEADS, 0)
    with pytest.raises(ValueError, match=r"has one for each frame: give \(2, 4, D\)"):
        tokens = tokens_for(4)
        block_of()(ClipTokens(tokens.classes[:, :1], tokens.patches))
