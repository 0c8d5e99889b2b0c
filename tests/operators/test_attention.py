"""Attention schemes: which token sees which, class tokens, gates, padding, and what is refused."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from kinema.operators.attention import SCHEMES, STEPS, SpaceTimeBlock
from kinema.operators.attention_steps import windows
from kinema.operators.multihead import Attention
from kinema.shapes import ClipTokens

SIZE = (2, 4, 6, 3)  # clips, rows, columns, frames
DIM, HEADS = 16, 4


def tokens_for(scheme, size=SIZE, dim=DIM, dtype=torch.float64):
    batch, _, _, frames = size
    generator = torch.Generator().manual_seed(1)
    classes = torch.randn(batch, frames if scheme == "space" else 1, dim, generator=generator, dtype=dtype)
    return ClipTokens(classes, torch.randn(*size, dim, generator=generator, dtype=dtype))


def block_of(scheme, **options):
    torch.manual_seed(0)
    block = SpaceTimeBlock(DIM, HEADS, scheme, **options).double().eval()
    for parameter in block.parameters():  # gates start at zero, which would hide all that stands before them
        if parameter.ndim > 1 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return block


def dense(attn, tokens, mask):
    """Literal attention of all tokens among themselves, (B, N, D), mask (queries, keys) or (B, queries, keys)."""
    q, k, v = attn.qkv(tokens).chunk(3, dim=-1)
    heads = [rearrange(part, "b n (h d) -> b h n d", h=attn.num_heads) for part in (q, k, v)]
    scores = heads[0] @ heads[1].transpose(2, 3) * attn.scale
    mask = mask.unsqueeze(-3) if mask.ndim == 3 else mask
    said = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ heads[2]
    return attn.proj(rearrange(said, "b h n d -> b n (h d)"))


def places(size):
    _, height, width, frames = size
    grid = torch.meshgrid(torch.arange(height), torch.arange(width), torch.arange(frames), indexing="ij")
    return [part.flatten() for part in grid]


def sees(step, size, border="clamp"):
    """Which patch sees which, (N, N), written out from the definition."""
    row, column, frame = places(size)
    same = {
        "h": row[:, None] == row,
        "w": column[:, None] == column,
        "t": frame[:, None] == frame,
    }
    if step == "joint":
        return torch.ones(len(row), len(row), dtype=torch.bool)
    if step == "space":
        return same["t"]
    if step == "time":
        return same["h"] & same["w"]
    if step == "width":
        return same["h"] & same["t"]
    if step == "height":
        return same["w"] & same["t"]
    if step == "global":
        return ((row % 2 == 0) & (column % 2 == 0) & (frame % 2 == 0)).expand(len(row), -1)
    spans_h, spans_w = windows(size[1], border), windows(size[2], border)
    seen = torch.zeros(len(row), len(row), dtype=torch.bool)
    for query in range(len(row)):
        (top, bottom), (left, right) = spans_h[row[query]], spans_w[column[query]]
        seen[query] = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return seen


def parts_of(block, step):
    if step not in block.gated:
        return None, block.norm1, block.attn
    return block.gated[step], block.gated[step].norm, block.gated[step].attn


def literal_patches(block, step, tokens, border="clamp", with_class=False):
    """What the step adds to the patches, by masked attention over all tokens of the clip."""
    gate, norm, attn = parts_of(block, step)
    flat = norm(tokens.patches).flatten(1, 3)
    mask = sees(step, tokens.patches.shape[:4], border)
    if with_class:
        flat = torch.cat([norm(tokens.classes), flat], dim=1)
        mask = F.pad(F.pad(mask, (1, 0), value=True), (0, 0, 1, 0), value=True)
    said = dense(attn, flat, mask)[:, int(with_class) :]
    return (said if gate is None else gate.fc(said)).view_as(tokens.patches)


GATED = [("divided", "time"), ("local_global", "local"), ("axial", "time"), ("axial", "width")]
MAIN = [(scheme, STEPS[scheme][-1]) for scheme in SCHEMES]


@pytest.mark.parametrize(("scheme", "step"), GATED)
@pytest.mark.parametrize("border", ["clamp", "truncate"])
def test_a_gated_step_is_masked_attention_of_patches(scheme, step, border):
    block, tokens = block_of(scheme, border=border), tokens_for(scheme)
    classes, patches = block._say(step, tokens, None, None)
    assert classes is None
    torch.testing.assert_close(patches, literal_patches(block, step, tokens, border))


@pytest.mark.parametrize(("scheme", "step"), [pair for pair in MAIN if pair[0] != "space"])
def test_the_last_step_is_masked_attention_that_sees_the_class_token(scheme, step):
    block, tokens = block_of(scheme), tokens_for(scheme)
    _, patches = block._say(step, tokens, None, None)
    torch.testing.assert_close(patches, literal_patches(block, step, tokens, with_class=True))


@pytest.mark.parametrize(("scheme", "step"), [pair for pair in GATED + MAIN if pair[0] != "space"])
def test_with_a_class_token_everywhere_each_step_is_equation_6(scheme, step):
    block, tokens = block_of(scheme, class_everywhere=True), tokens_for(scheme)
    classes, patches = block._say(step, tokens, None, None)
    torch.testing.assert_close(patches, literal_patches(block, step, tokens, with_class=True))
    if step == "global":
        return
    gate, norm, attn = parts_of(block, step)
    every = torch.cat([norm(tokens.classes), norm(tokens.patches).flatten(1, 3)], dim=1)
    said = dense(attn, every, torch.ones(every.shape[1], every.shape[1], dtype=torch.bool))[:, :1]
    torch.testing.assert_close(classes, said if gate is None else gate.fc(said))


@pytest.mark.parametrize(("scheme", "axis"), [("divided", "t"), ("axial", "tw")])
def test_class_tokens_are_copied_into_groups_and_averaged(scheme, axis):
    block, tokens = block_of(scheme), tokens_for(scheme)
    classes, _ = block._say(STEPS[scheme][-1], tokens, None, None)
    norm = block.norm1(tokens.patches)
    pattern = {"t": "b h w t d -> t b (h w) d", "tw": "b h w t d -> (t w) b h d"}[axis]
    said = [
        dense(block.attn, torch.cat([block.norm1(tokens.classes), group], dim=1), torch.tensor([[True]]))[:, :1]
        for group in rearrange(norm, pattern)
    ]
    torch.testing.assert_close(classes, torch.stack(said).mean(dim=0))


def test_frames_of_scheme_space_do_not_meet():
    block, tokens = block_of("space"), tokens_for("space")
    whole = block(tokens)
    for t in range(SIZE[3]):
        alone = block(ClipTokens(tokens.classes[:, t : t + 1], tokens.patches[:, :, :, t : t + 1]))
        torch.testing.assert_close(whole.classes[:, t], alone.classes[:, 0])
        torch.testing.assert_close(whole.patches[:, :, :, t], alone.patches[:, :, :, 0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gates_are_closed_at_first(scheme):
    """Then a block is its last step alone, whatever stands before it."""
    torch.manual_seed(0)
    block, tokens = SpaceTimeBlock(DIM, HEADS, scheme).double().eval(), tokens_for(scheme)
    orders = [SpaceTimeBlock(DIM, HEADS, scheme, order=order).double().eval() for order in ("reversed", "parallel")]
    classes, patches = block._say(STEPS[scheme][-1], tokens, None, None)
    after = ClipTokens(tokens.classes + classes, tokens.patches + patches)
    alone = ClipTokens(*(part + block.mlp(block.norm2(part)) for part in after))
    for other in (block, *orders):
        other.load_state_dict(block.state_dict())
        for got, wanted in zip(other(tokens), alone, strict=True):
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("scheme", ["divided", "local_global", "axial"])
def test_orders_are_what_they_say(scheme):
    tokens = tokens_for(scheme)
    block = block_of(scheme)
    steps = STEPS[scheme]

    def add(tokens, said):
        classes, patches = said
        return ClipTokens(tokens.classes if classes is None else tokens.classes + classes, tokens.patches + patches)

    def run(order):
        now = tokens
        for step in (steps[-1], *steps[:-1]) if order == "reversed" else steps:
            now = add(now, block._say(step, tokens if order == "parallel" else now, None, None))
        return ClipTokens(*(part + block.mlp(block.norm2(part)) for part in now))

    found = []
    for order in ("sequential", "reversed", "parallel"):
        block.order = order
        found.append(block(tokens).patches)
        torch.testing.assert_close(found[-1], run(order).patches)
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[0], found[2])


@pytest.mark.parametrize("class_everywhere", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_frame_of_padding_is_not_seen(scheme, class_everywhere):
    if class_everywhere and scheme == "space":
        return
    block = block_of(scheme, class_everywhere=class_everywhere)
    tokens = tokens_for(scheme)
    valid = torch.tensor([[True, True, False], [True, True, True]])
    changed = tokens.patches.clone()
    changed[0, :, :, 2] += 7
    before, after = (block(ClipTokens(tokens.classes, patches), valid) for patches in (tokens.patches, changed))
    torch.testing.assert_close(before.patches[0, :, :, :2], after.patches[0, :, :, :2])
    if scheme != "space":
        torch.testing.assert_close(before.classes, after.classes)
    assert not torch.allclose(block(tokens).patches[0], block(ClipTokens(tokens.classes, changed)).patches[0])
    everything = block(tokens, torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(everything.patches, block(tokens).patches)


@pytest.mark.parametrize("scheme", ["joint", "divided", "local_global", "axial"])
def test_padding_is_as_if_it_were_not_there(scheme):
    """Two frames and one of padding, or two frames: the same, but for the frames that global attention strides over."""
    block, tokens = block_of(scheme), tokens_for(scheme)
    valid = torch.tensor([[True, True, False]] * 2)
    long, short = block(tokens, valid), block(ClipTokens(tokens.classes, tokens.patches[:, :, :, :2]))
    torch.testing.assert_close(long.patches[:, :, :, :2], short.patches)
    torch.testing.assert_close(long.classes, short.classes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kept_weights_are_those_of_the_result(scheme):
    block, tokens = block_of(scheme), tokens_for(scheme)
    maps = {}
    kept = block(tokens, keep=maps)
    torch.testing.assert_close(kept.patches, block(tokens).patches)
    assert list(maps) == list(STEPS[scheme])
    for step, weights in maps.items():
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1], dtype=weights.dtype))
        if step == "local":
            assert torch.equal(weights[0, 0] > 0, sees("local", SIZE))


@pytest.mark.parametrize("size", [2, 4, 6, 14, 28])
def test_windows(size):
    clamped, cut = windows(size, "clamp"), windows(size, "truncate")
    assert {stop - start for start, stop in clamped} == {size // 2}
    for place, (start, stop) in enumerate(clamped):
        assert 0 <= start <= place < stop <= size
        assert cut[place] == (max(place - size // 4, 0), min(place - size // 4 + size // 2, size))
    assert windows(14, "clamp")[7] == (4, 11) and windows(28, "clamp")[14] == (7, 21)


def test_keys_of_the_paper_at_224_pixels():
    """Local attention sees 7 x 7 patches of 8 frames, global attention 7 x 7 of 4."""
    assert sees("local", (1, 14, 14, 8))[0].sum() == 7 * 7 * 8
    assert sees("global", (1, 14, 14, 8))[0].sum() == 7 * 7 * 4


def test_stochastic_depth_is_drawn_as_by_the_authors():
    """For a patch's place in time steps, for a frame in space steps, for a clip in the feed-forward part."""
    torch.manual_seed(0)
    block = block_of("divided", drop_path=0.5).train()
    tokens = tokens_for("divided", size=(64, 2, 2, 4))
    _, said = block._say("time", tokens, None, None)
    gone = (said - block.gated["time"].fc.bias).abs().amax(dim=-1) < 1e-12
    assert torch.equal(gone, gone[:, :, :, :1].expand_as(gone)) and 0.4 < gone[..., 0].double().mean() < 0.6
    _, said = block._say("space", tokens, None, None)
    gone = said.abs().amax(dim=-1) == 0
    assert torch.equal(gone, gone[:, :1, :1].expand_as(gone)) and 0.4 < gone[:, 0, 0].double().mean() < 0.6
    dropped = block._drop_frames(tokens)
    gone = dropped.patches.abs().amax(dim=-1) == 0
    assert torch.equal(gone, gone[:, :1, :1, :1].expand_as(gone)) and 0.2 < gone[:, 0, 0, 0].double().mean() < 0.8
    assert torch.equal(gone[:, 0, 0, 0], dropped.classes.abs().amax(dim=(1, 2)) == 0)


def test_the_scale_of_products_can_be_given():
    attn = Attention(DIM, HEADS, scale=0.0).double()
    tokens = torch.randn(1, 5, DIM, dtype=torch.float64)
    v = attn.qkv(tokens)[..., 2 * DIM :]
    torch.testing.assert_close(attn(tokens), attn.proj(v.mean(dim=1, keepdim=True).expand(-1, 5, -1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "sparse"}, "'sparse' is unknown; give one of space, joint, divided, local_global, axial"),
        ({"scheme": "divided", "order": "both"}, "order 'both' is unknown"),
        ({"scheme": "local_global", "border": "wrap"}, "border 'wrap' is unknown"),
        ({"scheme": "space", "class_everywhere": True}, "leave it out"),
        ({"scheme": "space", "num_heads": 5}, "num_heads=5 does not divide 16"),
    ],
)
def test_refused(options, message):
    options = {"num_heads": HEADS, **options}
    with pytest.raises(ValueError, match=message):
        SpaceTimeBlock(DIM, options.pop("num_heads"), options.pop("scheme"), **options)


def test_local_attention_refuses_an_odd_number_of_patches():
    with pytest.raises(ValueError, match="frames of 3 x 6 patches have no half"):
        block_of("local_global")(tokens_for("local_global", size=(1, 3, 6, 2)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradient(scheme):
    block = block_of(scheme)
    tokens = tokens_for(scheme, size=(1, 2, 4, 2))
    inputs = [part.clone().requires_grad_() for part in tokens]
    assert torch.autograd.gradcheck(lambda *parts: tuple(block(ClipTokens(*parts))), inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("scheme", "classes", "patches", "valid", "told"),
    [
        (
            "divided",
            (2, 3, 8),
            (2, 4, 4, 3, 8),
            None,
            r"\(2, 3\) class tokens came with 2 clips of 3 frames; this scheme has one for each clip",
        ),
        ("space", (2, 1, 8), (2, 4, 4, 3, 8), None, "this scheme has one for each frame"),
        ("joint", (2, 1, 8), (2, 48, 8), None, r"takes kinema.shapes.ClipTokens.*got ClipTokens of"),
        ("joint", (2, 1, 8), (2, 4, 4, 3, 8), (2, 4), r"valid must be of shape \(2, 3\)"),
    ],
)
def test_tokens_that_are_no_clips_are_told(scheme, classes, patches, valid, told):
    block = SpaceTimeBlock(8, 2, scheme)
    mask = None if valid is None else torch.ones(valid, dtype=torch.bool)
    with pytest.raises(ValueError, match=told):
        block(ClipTokens(torch.zeros(classes), torch.zeros(patches)), mask)
    with pytest.raises(ValueError, match="got Tensor"):
        block(torch.zeros(patches))
