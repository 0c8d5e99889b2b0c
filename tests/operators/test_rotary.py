"""Rotary positions against their equations: what is turned, by how much, and what a product then depends on."""

import math

import pytest
import torch

from kinema.operators.rotary import ClipRotary, RotaryInSpace, RotaryInTime, rotate

HEAD = 8


def literal(x, angles):
    """Pair by pair, angles (positions, pairs)."""
    y = torch.empty_like(x)
    for position in range(x.shape[-2]):
        for pair in range(x.shape[-1] // 2):
            cos, sin = math.cos(angles[position][pair]), math.sin(angles[position][pair])
            first, second = x[..., position, 2 * pair], x[..., position, 2 * pair + 1]
            y[..., position, 2 * pair] = first * cos - second * sin
            y[..., position, 2 * pair + 1] = second * cos + first * sin
    return y


def products(rotary, num_frames, seed=0):
    """One query and one key, at every frame each: (frames of queries, frames of keys)."""
    torch.manual_seed(seed)
    q, k = torch.randn(2, HEAD, dtype=torch.float64)
    rotation = rotary.double()(num_frames)
    return rotate(q.expand(num_frames, -1), rotation) @ rotate(k.expand(num_frames, -1), rotation).T


def changes_along_diagonals(scores):
    """How much a product changes where query and key move on together."""
    return (scores[1:, 1:] - scores[:-1, :-1]).abs().max().item()


@pytest.mark.parametrize("head_dim", [4, 8, 12, 64])
def test_time_is_its_equation(head_dim):
    x = torch.randn(2, 3, 5, head_dim, dtype=torch.float64)
    angles = [[t * 10000 ** (-2 * i / head_dim) for i in range(head_dim // 2)] for t in range(5)]
    rotary = RotaryInTime(head_dim).double()
    torch.testing.assert_close(rotate(x, rotary(5)), literal(x, angles), rtol=0, atol=1e-5)  # frequencies are float32


@pytest.mark.parametrize(("head_dim", "height", "width"), [(4, 2, 3), (8, 3, 2), (16, 4, 4), (8, 3, 5)])
def test_space_is_its_equation(head_dim, height, width):
    x = torch.randn(2, height * width, head_dim, dtype=torch.float64)
    count = head_dim // 4
    scales = [5 ** (i / max(count - 1, 1)) for i in range(count)]
    angles = []
    for row in range(height):
        for column in range(width):
            places = (2 * row / (height - 1) - 1, 2 * column / (width - 1) - 1)
            angles.append([math.pi * scale * place for place in places for scale in scales])
    rotary = RotaryInSpace(head_dim).double()
    torch.testing.assert_close(rotate(x, rotary(height, width)), literal(x, angles), rtol=0, atol=2e-5)


def test_a_frame_of_one_patch_has_a_position():
    assert RotaryInSpace(8)(1, 1).cos.isfinite().all()
    assert torch.equal(RotaryInTime(8)(1).sin, torch.zeros(1, 8))


@pytest.mark.parametrize("which", ["time", "space"])
def test_a_rotation_keeps_lengths(which):
    x = torch.randn(3, 2, 12, HEAD, dtype=torch.float64)
    rotation = getattr(ClipRotary(HEAD).double()(3, 4, 12), which)
    turned = rotate(x, rotation)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert (turned - x)[..., 1:, :].abs().amax(dim=-1).min() > 0.01


def test_products_depend_on_the_difference_of_frames_alone():
    scores = products(RotaryInTime(HEAD), 12)
    assert changes_along_diagonals(scores) < 1e-12
    assert scores[0].std() > 0.1


def test_products_in_the_reference_layout_do_not():
    """Why it is not the default; a change here would make its parity with the reference code an accident."""
    scores = products(RotaryInTime(HEAD, layout="reference"), 12)
    assert changes_along_diagonals(scores) > 0.1
    turned = rotate(torch.ones(12, HEAD), RotaryInTime(HEAD, layout="reference")(12)).norm(dim=-1)
    assert (turned - HEAD**0.5).abs().max() > 0.1


def test_the_reference_layout_lays_frequencies_out_in_halves():
    rotary = RotaryInTime(HEAD, layout="reference")
    cos = rotary(3).cos
    torch.testing.assert_close(cos[:, : HEAD // 2], cos[:, HEAD // 2 :])
    torch.testing.assert_close(cos[2, : HEAD // 2], (2 * rotary.inv_freqs).cos())


def test_products_in_space_depend_on_the_way_between_patches_alone():
    torch.manual_seed(0)
    q, k = torch.randn(2, HEAD, dtype=torch.float64)
    rotation = RotaryInSpace(HEAD).double()(4, 5)
    scores = (rotate(q.expand(20, -1), rotation) @ rotate(k.expand(20, -1), rotation).T).view(4, 5, 4, 5)
    torch.testing.assert_close(scores[1:, :, 1:, :], scores[:-1, :, :-1, :])
    torch.testing.assert_close(scores[:, 1:, :, 1:], scores[:, :-1, :, :-1])


def test_rows_turn_the_first_half_and_columns_the_second():
    cos = RotaryInSpace(HEAD)(3, 4).cos.view(3, 4, HEAD)
    assert torch.equal(cos[..., : HEAD // 2], cos[:, :1, : HEAD // 2].expand(-1, 4, -1))
    assert torch.equal(cos[..., HEAD // 2 :], cos[:1, :, HEAD // 2 :].expand(3, -1, -1))


@pytest.mark.parametrize("layout", ["interleaved", "reference"])
def test_frequencies_of_a_checkpoint_are_used(layout):
    rotary = RotaryInTime(4, layout=layout)
    rotary.load_state_dict({"inv_freqs": torch.tensor([0.5, 0.25])})
    wanted = [0.5, 0.5, 0.25, 0.25] if layout == "interleaved" else [0.5, 0.25, 0.5, 0.25]
    torch.testing.assert_close(rotary(4).sin[3], (3 * torch.tensor(wanted)).sin())
    space = RotaryInSpace(4)
    space.load_state_dict({"scales": torch.tensor([0.125])})
    torch.testing.assert_close(space(2, 2).sin[0], -(torch.full((4,), 0.125) * math.pi).sin())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_angles_keep_their_digits_in_half_precision(dtype):
    """Frame 1000 is known to 4 frames in bfloat16; its angle would be anything."""
    exact, rough = RotaryInTime(4), RotaryInTime(4).to(dtype)
    torch.testing.assert_close(rough(1001).cos[1000, :2], exact(1001).cos[1000, :2])
    x = torch.randn(1001, 4, dtype=dtype)
    assert rotate(x, rough(1001)).dtype == dtype


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RotaryInTime(5), "head_dim=5 has no pairs of channels to turn; give an even number"),
        (lambda: RotaryInTime(0), "head_dim=0 has no pairs"),
        (
            lambda: RotaryInTime(8, layout="halves"),
            "layout='halves' is unknown; give one of interleaved, reference",
        ),
        (lambda: RotaryInSpace(6), "head_dim=6 cannot be turned along two axes.* give a multiple of 4"),
        (lambda: ClipRotary(10), "head_dim=10 cannot be turned along two axes"),
    ],
)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
