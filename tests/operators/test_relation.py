"""UniFormer's blocks against their equations: who hears whom, positions, stochastic depth, where they start."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinema.operators.relation import DividedRelation, DynamicPosition, GlobalRelation, LocalRelation

DIM, HEADS = 8, 2
BLOCKS = {
    "local": lambda **options: LocalRelation(DIM, **options),
    "global": lambda **options: GlobalRelation(DIM, HEADS, **options),
    "divided": lambda **options: DividedRelation(DIM, HEADS, **options),
}


def awake(block):
    """Weights that are heard, running statistics of their own."""
    torch.manual_seed(0)
    block = block.double().eval()
    for tensor in block.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 0.6)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def clip(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def heard_by(block, place, shape=(1, DIM, 4, 5, 3)):
    """Which places move the output at one place: a gradient, in numbers of (T, H, W)."""
    x = clip(*shape).requires_grad_()
    t, h, w = place
    block(x)[0, :, t, h, w].sum().backward()
    return x.grad[0].abs().amax(dim=0) > 1e-12


def attention(attn, tokens):
    """Literal attention, (G, N, C), one head after the other."""
    q, k, v = attn.qkv(tokens).chunk(3, dim=-1)
    width = tokens.shape[-1] // attn.num_heads
    heads = []
    for head in range(attn.num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[..., part] @ k[..., part].transpose(1, 2) * width**-0.5
        heads.append(scores.softmax(dim=-1) @ v[..., part])
    return attn.proj(torch.cat(heads, dim=-1))


def literal_local(block, x):
    x = x + F.conv3d(x, block.pos_embed.weight, block.pos_embed.bias, padding=1, groups=DIM)
    branch = block.norm1(x)
    branch = F.conv3d(branch, block.conv1.weight, block.conv1.bias)
    branch = F.conv3d(branch, block.attn.weight, block.attn.bias, padding=block.attn.weight.shape[-1] // 2, groups=DIM)
    x = x + F.conv3d(branch, block.conv2.weight, block.conv2.bias)
    branch = F.gelu(F.conv3d(block.norm2(x), block.mlp.fc1.weight, block.mlp.fc1.bias))
    return x + F.conv3d(branch, block.mlp.fc2.weight, block.mlp.fc2.bias)


def literal_global(block, x):
    x = x + F.conv3d(x, block.pos_embed.weight, block.pos_embed.bias, padding=1, groups=DIM)
    tokens = torch.stack([x[:, :, t, h, w] for t, h, w in places(x)], dim=1)
    tokens = tokens + attention(block.attn, norm(block.norm1, tokens))
    return on_grid(tokens + mlp(block, tokens), x)


def literal_divided(block, x):
    x = x + F.conv3d(x, block.pos_embed.weight, block.pos_embed.bias, padding=1, groups=DIM)
    after_time = x.clone()
    for h in range(x.shape[3]):
        for w in range(x.shape[4]):
            along = x[:, :, :, h, w].transpose(1, 2)
            after_time[:, :, :, h, w] += attention(block.t_attn, norm(block.t_norm, along)).transpose(1, 2)
    y = x.clone()
    for t in range(x.shape[2]):
        frame = after_time[:, :, t].flatten(2).transpose(1, 2)
        said = attention(block.attn, norm(block.norm1, frame))
        y[:, :, t] += said.transpose(1, 2).unflatten(2, x.shape[3:])
    tokens = torch.stack([y[:, :, t, h, w] for t, h, w in places(x)], dim=1)
    return on_grid(tokens + mlp(block, tokens), x)


def places(x):
    return [(t, h, w) for t in range(x.shape[2]) for h in range(x.shape[3]) for w in range(x.shape[4])]


def norm(layer, tokens):
    return F.layer_norm(tokens, (DIM,), layer.weight, layer.bias, eps=1e-6)


def mlp(block, tokens):
    return block.mlp.fc2(F.gelu(block.mlp.fc1(norm(block.norm2, tokens))))


def on_grid(tokens, x):
    out = torch.empty_like(x)
    for index, (t, h, w) in enumerate(places(x)):
        out[:, :, t, h, w] = tokens[:, index]
    return out


LITERAL = {"local": literal_local, "global": literal_global, "divided": literal_divided}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("shape", [(2, DIM, 4, 3, 5), (1, DIM, 1, 4, 2)])
def test_it_is_its_equation(kind, shape):
    block, x = awake(BLOCKS[kind]()), clip(*shape)
    torch.testing.assert_close(block(x), LITERAL[kind](block, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_local_block_hears_its_tube_and_nothing_else(size):
    block = awake(LocalRelation(DIM, tube_size=size, dpe=False))
    heard = heard_by(block, (3, 4, 3), (1, DIM, 7, 9, 8))
    wanted = torch.zeros_like(heard)
    near = [slice(max(0, place - size // 2), place + size // 2 + 1) for place in (3, 4, 3)]
    wanted[near[0], near[1], near[2]] = True
    assert torch.equal(heard, wanted)


def test_a_global_block_hears_the_clip():
    assert heard_by(awake(GlobalRelation(DIM, HEADS, dpe=False)), (1, 2, 0)).all()


def test_the_position_embedding_hears_the_neighbours():
    torch.manual_seed(0)
    heard = heard_by(DynamicPosition(DIM).double(), (1, 2, 0))
    wanted = torch.zeros_like(heard)
    wanted[0:3, 1:4, 0:2] = True
    assert torch.equal(heard, wanted)


@pytest.mark.parametrize("kind", BLOCKS)
def test_without_positions_every_token_is_as_any_other(kind):
    """Equal frames of equal pixels stay equal, but for the border, which a convolution sees."""
    x = clip(1, DIM, 1, 1, 1).expand(-1, -1, 3, 9, 9).contiguous()
    without, block = awake(BLOCKS[kind](dpe=False)), awake(BLOCKS[kind]())
    assert not any("pos_embed" in name for name, _ in without.named_parameters())
    flat = without(x)[:, :, 1, 3:6, 3:6].flatten(2)
    torch.testing.assert_close(flat, flat[:, :, :1].expand_as(flat))
    assert (block(x)[:, :, 0, 0, 0] - block(x)[:, :, 1, 4, 4]).abs().max() > 1e-3


def test_time_adds_nothing_to_a_divided_block_at_first():
    torch.manual_seed(0)
    block, x = DividedRelation(DIM, HEADS).double().eval(), clip(2, DIM, 3, 2, 2)
    tokens = x.flatten(2).transpose(1, 2)
    assert not block.t_attn(block.t_norm(tokens)).any()
    assert block.t_attn.proj.weight.eq(1).all() and not block.t_attn.qkv.weight.any()
    frames = torch.cat([block(x[:, :, t : t + 1]) for t in range(3)], dim=2)
    block.pos_embed = nn.Identity()
    torch.testing.assert_close(block(x), torch.cat([block(x[:, :, t : t + 1]) for t in range(3)], dim=2))
    assert not torch.equal(frames, block(x))


def test_what_time_says_is_not_on_the_main_path():
    """Silence the attention within frames, and nothing is heard of other frames."""
    block = awake(DividedRelation(DIM, HEADS, dpe=False))
    for parameter in block.attn.proj.parameters():
        nn.init.zeros_(parameter)
    assert heard_by(block, (1, 2, 0)).sum() == 1


@pytest.mark.parametrize("kind", BLOCKS)
def test_stochastic_depth_leaves_branches_out_for_whole_clips(kind):
    block = awake(BLOCKS[kind](drop_path=0.5)).train()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()
    torch.manual_seed(0)
    x = clip(1, DIM, 3, 2, 2)
    outputs = block(x.expand(64, -1, -1, -1, -1))
    told = {tuple(round(number, 6) for number in output.flatten().tolist()) for output in outputs}
    # Two branches, each there or not; along time is a third one.
    assert len(told) == (8 if kind == "divided" else 4) - (2 if kind == "divided" else 0)
    kept = block.pos_embed(x)
    assert any(torch.allclose(output, kept[0]) for output in outputs)


@pytest.mark.parametrize("kind", BLOCKS)
def test_layer_scale_scales_both_branches(kind):
    block, x = awake(BLOCKS[kind](layer_scale=0.1)), clip(1, DIM, 3, 2, 2)
    for gamma in (block.gamma_1, block.gamma_2):
        nn.init.zeros_(gamma)
    assert torch.equal(block(x), block.pos_embed(x))
    fresh = BLOCKS[kind](layer_scale=0.1)
    assert fresh.gamma_1.shape == ((1, DIM, 1, 1, 1) if kind == "local" else (DIM,))
    assert fresh.gamma_1.eq(0.1).all() and fresh.gamma_2.eq(0.1).all()
    assert "gamma_1" not in BLOCKS[kind]().state_dict()


@pytest.mark.parametrize("kind", ["global", "divided"])
def test_scale_and_bias_of_queries_are_options(kind):
    block = BLOCKS[kind](qkv_bias=False, qk_scale=0.25)
    assert block.attn.qkv.bias is None and block.attn.scale == 0.25
    if kind == "divided":
        assert block.t_attn.qkv.bias is None and block.t_attn.scale == 0.25


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LocalRelation(8, tube_size=4), "tube_size=4 has no centre; give an odd number"),
        (lambda: GlobalRelation(8, 3), "num_heads=3 does not divide 8 channels"),
        (lambda: GlobalRelation(8, 2)(torch.randn(8, 3, 4, 4)), "expected a clip"),
        (lambda: LocalRelation(8)(torch.randn(1, 4, 3, 4, 4)), "expected 8 channels on axis 1"),
    ],
)
def test_what_fits_no_block_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
