"""The TAda block against its equation, and tubelets against theirs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinema.operators.routing import describe
from kinema.operators.tada_block import TAdaBlock
from kinema.operators.tubelet import TubeletConv, inflate_at_centre
from kinema.testing import assert_equal_to_literal, assert_order_matters


def awake(block):
    torch.manual_seed(0)
    for name, tensor in block.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5) if "var" in name else nn.init.normal_(tensor, std=0.3)
    return block.double().eval()


def literal(block, x):
    """Frame by frame and channel by channel, from the paper's description."""
    num_frames = x.shape[2]
    zeros = torch.zeros_like(x[:, :, 0])
    reduced = []
    for t in range(num_frames):
        if block.enhanced:
            window = [x[:, :, i] if 0 <= i < num_frames else zeros for i in (t - 1, t, t + 1)]
            taps = block.reduce.weight[..., 0, 0].unbind(2)
            frame = sum(torch.einsum("oi,bihw->bohw", tap, seen) for tap, seen in zip(taps, window, strict=True))
        else:
            frame = torch.einsum("oi,bihw->bohw", block.reduce.weight, x[:, :, t])
        reduced.append(frame + block.reduce.bias[:, None, None])
    reduced = torch.stack(reduced, dim=2)
    conv, width = block.calibrated.conv, reduced.shape[1]
    factors = block.calibrated.router(describe(reduced))
    calibrated = torch.zeros_like(reduced)
    for b in range(x.shape[0]):
        for t in range(num_frames):
            weight = factors.cout[b, :, t, None, None, None] * conv.weight[0, 0]
            bias = factors.bias[b, :, t] * conv.bias[0, 0]
            calibrated[b, :, t] = F.conv2d(reduced[b, None, :, t], weight, bias, padding=1, groups=width)[0]
    blank = torch.zeros_like(calibrated[:, :, 0])
    frames = []
    for t in range(num_frames):
        near = [calibrated[:, :, i] if 0 <= i < num_frames else blank for i in (t - 1, t, t + 1)]
        frames.append(block.aggregation.norm(near[1]) + block.aggregation.norm_pool(sum(near) / 3))
    y = torch.stack(frames, dim=2)
    y = y * torch.sigmoid(1.702 * y)
    return torch.einsum("oi,bithw->bothw", block.expand.weight, y) + block.expand.bias[:, None, None, None]


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_the_block_is_its_equation(enhanced, num_frames):
    block = awake(TAdaBlock(12, enhanced=enhanced, routing_head_dim=None))
    clip = torch.randn(2, 12, num_frames, 3, 5, dtype=torch.float64)
    assert_equal_to_literal(block, lambda x: literal(block, x), clip, tolerance=1e-12)


def test_the_order_of_frames_matters_to_a_block():
    assert_order_matters(awake(TAdaBlock(12, routing_head_dim=None)), torch.randn(2, 12, 5, 3, 5, dtype=torch.float64))


def test_the_block_is_silent_at_first_and_can_learn():
    block = TAdaBlock(16, routing_head_dim=4)
    assert block.calibrated.router.num_heads == 1 and not block(torch.randn(2, 16, 4, 3, 3)).any()
    block(torch.randn(2, 16, 4, 3, 3)).sum().backward()
    assert block.expand.weight.grad.any()


@pytest.mark.parametrize(("frames", "stride", "wanted"), [(3, 2, 4), (3, 1, 7), (1, 3, 3), (5, 2, 4)])
def test_tubelets_are_their_equation(frames, stride, wanted):
    torch.manual_seed(0)
    tubelets = TubeletConv(3, 4, (2, 3), frames=frames, stride_frames=stride).double()
    clip = torch.randn(2, 3, 7, 6, 6, dtype=torch.float64)
    embedded = tubelets(clip)
    assert embedded.shape == (2, 4, wanted, 3, 2)
    for t in range(wanted):
        frame = tubelets.bias[:, None, None]
        for tap in range(frames):
            seen = t * stride + tap - frames // 2
            if 0 <= seen < 7:
                frame = frame + F.conv2d(clip[:, :, seen], tubelets.weight[:, :, tap], stride=(2, 3))
        torch.testing.assert_close(embedded[:, :, t], frame)


def test_inflated_tubelets_embed_every_second_frame():
    patches = nn.Conv2d(3, 4, 2, stride=2)
    tubelets = TubeletConv.like(patches)
    with torch.no_grad():
        tubelets.weight.copy_(inflate_at_centre(patches.weight, 3))
        tubelets.bias.copy_(patches.bias)
    clip = torch.randn(2, 3, 5, 4, 4)
    wanted = torch.stack([patches(clip[:, :, t]) for t in (0, 2, 4)], dim=2)
    torch.testing.assert_close(tubelets(clip), wanted)


def test_tubelets_like_patches_without_bias():
    patches = nn.Conv2d(5, 8, 4, stride=4, bias=False).double()
    tubelets = TubeletConv.like(patches, std=0.02)
    assert tubelets.bias is None and tubelets.weight.shape == (8, 5, 3, 4, 4)
    assert tubelets.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TubeletConv(3, 4, (2, 2), frames=2), "frames=2 and stride_frames=2 make no tubelets"),
        (lambda: TubeletConv(3, 4, (2, 2), stride_frames=0), "stride_frames=0 make no tubelets"),
        (lambda: TAdaBlock(8, reduction=9), "reduction=9 leaves no channel of channels=8; give 1 to 8"),
        (lambda: TAdaBlock(8, kernel_size=2), "kernel_size=2 has no centre"),
        (lambda: TAdaBlock(8, routing_head_dim=3), "head_dim=3 does not divide the 2 hidden channels"),
    ],
)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="expected 8 channels on axis 1"):
        TAdaBlock(8, routing_head_dim=None)(torch.randn(1, 4, 2, 3, 3))
