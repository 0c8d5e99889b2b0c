"""The block of timesformer_rotary: which token sees which, what is rotated, what is shifted, what padding does."""

import math

import pytest
import torch
from torch.nn import functional as F

from kinema.operators.gated_feed_forward import GatedFeedForward
from kinema.operators.multihead import Attention
from kinema.operators.rotary import ClipRotary
from kinema.operators.rotary_block import RotaryBlock
from kinema.shapes import ClipTokens

BATCH, HEIGHT, WIDTH, FRAMES = SIZE = (2, 2, 3, 4)
DIM, HEADS, HEAD = 10, 3, 8  # heads times their channels are not the channels of a token


def tokens_of(seed=1):
    torch.manual_seed(seed)
    return ClipTokens(torch.randn(BATCH, 1, DIM).double(), torch.randn(*SIZE, DIM).double())


def block_of(**options):
    torch.manual_seed(0)
    block = RotaryBlock(DIM, HEADS, head_dim=HEAD, **options).double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


def turned(x, rotation, place):
    """One token's heads (n, d), turned."""
    cos, sin = rotation.cos[place], rotation.sin[place]
    y = torch.empty_like(x)
    y[:, 0::2] = x[:, 0::2] * cos[0::2] - x[:, 1::2] * sin[0::2]
    y[:, 1::2] = x[:, 1::2] * cos[1::2] + x[:, 0::2] * sin[1::2]
    return y


def literal_step(step, tokens, kind, rotation, valid):
    """Token by token, from the description: every patch sees its group and the class token, the class token everything."""
    attn = step.attn
    classes, patches = torch.zeros_like(tokens.classes), torch.zeros_like(tokens.patches)

    def project(x):
        return [part.view(HEADS, HEAD) for part in (attn.qkv.weight @ x).chunk(3)]

    def look(q, keys, values):
        scores = torch.stack([(q * key).sum(-1) for key in keys], dim=-1) * HEAD**-0.5
        said = torch.einsum("nk,knd->nd", scores.softmax(dim=-1), torch.stack(values))
        return attn.proj.weight @ said.flatten() + attn.proj.bias

    places = [(h, w, t) for h in range(HEIGHT) for w in range(WIDTH) for t in range(FRAMES)]
    for b in range(BATCH):
        of_class = project(tokens.classes[b, 0])
        projected = {place: project(tokens.patches[b][place]) for place in places}
        seen = [place for place in places if valid is None or valid[b, place[2]]]
        keys, values = ([of_class[i], *(projected[place][i] for place in seen)] for i in (1, 2))
        classes[b, 0] = look(of_class[0], keys, values)

        def rotated(x, place):
            if rotation is None:
                return x
            return turned(x, getattr(rotation, kind), place[2] if kind == "time" else place[0] * WIDTH + place[1])

        for place in places:
            same = (0, 1) if kind == "time" else (2,)
            group = [other for other in places if all(other[axis] == place[axis] for axis in same)]
            if kind == "time":
                group = [other for other in group if other in seen]
            keys = [of_class[1], *(rotated(projected[other][1], other) for other in group)]
            values = [of_class[2], *(projected[other][2] for other in group)]
            patches[b][place] = look(rotated(projected[place][0], place), keys, values)
    return ClipTokens(classes, patches)


def literal(block, tokens, rotation, valid):
    def prepared(norm):
        patches = norm(tokens.patches)
        return ClipTokens(norm(tokens.classes), patches if block.shift is None else block.shift(patches, valid))

    for kind in ("time", "space"):
        step = getattr(block, kind)
        said = literal_step(step, prepared(step.norm), kind, rotation, valid)
        tokens = ClipTokens(*(token + more for token, more in zip(tokens, said, strict=True)))
    return ClipTokens(*(token + block.mlp(x) for token, x in zip(tokens, prepared(block.norm), strict=True)))


@pytest.mark.parametrize("token_shift", [False, True])
@pytest.mark.parametrize("layout", [None, "interleaved", "reference"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_block_is_its_description(token_shift, layout, masked):
    block, tokens = block_of(token_shift=token_shift), tokens_of()
    rotation = None if layout is None else ClipRotary(HEAD, layout=layout).double()(HEIGHT, WIDTH, FRAMES)
    valid = torch.tensor([[True, False, True, True], [True, True, False, False]]) if masked else None
    with torch.no_grad():
        got, wanted = block(tokens, rotation, valid), literal(block, tokens, rotation, valid)
    torch.testing.assert_close(got.classes, wanted.classes)
    torch.testing.assert_close(got.patches, wanted.patches)


@pytest.mark.parametrize("token_shift", [False, True])
def test_a_frame_that_is_none_is_never_seen(token_shift):
    block, tokens = block_of(token_shift=token_shift), tokens_of()
    valid = torch.tensor([[True, True, False, True]] * BATCH)
    other = tokens.patches.clone()
    other[:, :, :, 2] = 100 * torch.randn_like(other[:, :, :, 2])
    got, changed = block(tokens, None, valid), block(ClipTokens(tokens.classes, other), None, valid)
    torch.testing.assert_close(changed.classes, got.classes, rtol=0, atol=1e-12)
    torch.testing.assert_close(changed.patches[:, :, :, valid[0]], got.patches[:, :, :, valid[0]], rtol=0, atol=1e-12)


def test_attention_weights_are_those_of_the_block():
    block, tokens = block_of(), tokens_of()
    rotation = ClipRotary(HEAD).double()(HEIGHT, WIDTH, FRAMES)
    valid = torch.tensor([[True, True, False, True]] * BATCH)
    maps = {}
    with torch.no_grad():
        kept = block(tokens, rotation, valid, maps)
        torch.testing.assert_close(kept.patches, block(tokens, rotation, valid).patches)
    assert {name: tuple(weights.shape) for name, weights in maps.items()} == {
        "time": (BATCH * HEIGHT * WIDTH, HEADS, FRAMES, 1 + FRAMES),
        "space": (BATCH * FRAMES, HEADS, HEIGHT * WIDTH, 1 + HEIGHT * WIDTH),
        "class_in_time": (BATCH, HEADS, 1, 1 + HEIGHT * WIDTH * FRAMES),
        "class_in_space": (BATCH, HEADS, 1, 1 + HEIGHT * WIDTH * FRAMES),
    }
    for weights in maps.values():
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
    assert not maps["time"][..., 1 + 2].any() and not maps["class_in_space"][..., 1 + 2 :: FRAMES].any()
    assert maps["space"].min() > 0


def test_the_gated_feed_forward_part_is_its_equation():
    torch.manual_seed(0)
    mlp = GatedFeedForward(5, 7).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    gate = hidden[:, 7:]
    gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    wanted = (hidden[:, :7] * gelu) @ mlp.fc2.weight.T + mlp.fc2.bias
    torch.testing.assert_close(mlp(x), wanted)


def test_dropout_falls_where_it_is_said_to():
    """Of a whole block, only what is dropped changes: the rest of the sum is the same tokens."""
    tokens = tokens_of()
    for options, part in (({"attention_dropout": 0.5}, "attention"), ({"feed_forward_dropout": 0.5}, "mlp")):
        block = block_of(**options).train()
        step = block.time
        said = [step(tokens, None, None, None, "time") for _ in range(2)]
        hidden = [block.mlp(tokens.classes) for _ in range(2)]
        assert torch.equal(said[0].patches, said[1].patches) == (part == "mlp")
        assert torch.equal(hidden[0], hidden[1]) == (part == "attention")
        dropped = said[0].patches.eq(0).float().mean().item()
        assert dropped == pytest.approx(0.5 if part == "attention" else 0.0, abs=0.15)


def test_heads_may_be_of_any_width():
    attn = Attention(10, 3, head_dim=8, qkv_bias=False).double()
    assert attn.qkv.weight.shape == (72, 10) and attn.proj.weight.shape == (10, 24)
    x = torch.randn(2, 5, 10, dtype=torch.float64)
    q, k, v = (part.unflatten(-1, (3, 8)).transpose(1, 2) for part in (x @ attn.qkv.weight.T).chunk(3, dim=-1))
    wanted = F.softmax(q @ k.mT / 8**0.5, dim=-1) @ v
    torch.testing.assert_close(attn(x), attn.proj(wanted.transpose(1, 2).flatten(2)))
    for part, wanted_part in zip(attn.queries_keys_values(x), (q, k, v), strict=True):
        torch.testing.assert_close(part, wanted_part)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RotaryBlock(12, 0), "num_heads=0 does not divide 12 channels"),
        (lambda: RotaryBlock(12, 2, head_dim=0), "head_dim=0 leaves nothing to compare; give at least 1"),
        (lambda: RotaryBlock(2, 1, token_shift=True), "dim=2 has none"),
    ],
)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
