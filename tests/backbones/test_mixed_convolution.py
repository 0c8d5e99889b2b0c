"""When a mixer's shorter way to a 1 x 1 convolution is taken, and that the way makes no difference."""

import pytest
import torch
from torch import nn

from kinema.backbones.holes import Batch, Hole, MixedConvolution
from kinema.operators.shift import TemporalShift
from kinema.shapes import fold_time


class Spy(TemporalShift):
    """A shift that counts both of its ways."""

    def __init__(self, channels):
        super().__init__(channels)
        self.ways = []

    def forward(self, x):
        self.ways.append("longer")
        return super().forward(x)

    def then_pointwise(self, x, weight):
        self.ways.append("shorter")
        return super().then_pointwise(x, weight)


def mixed(conv, num_clips=2):
    batch = Batch()
    batch.num_clips = num_clips
    return MixedConvolution(Hole(Spy(16), batch), conv)


def pointwise(**options):
    return nn.Conv2d(16, 12, 1, **{"bias": False, **options})


@pytest.fixture
def frames():
    return torch.randn(2 * 3, 16, 4, 4)


def test_the_shorter_way_leads_to_the_same(frames):
    module = mixed(pointwise())
    torch.testing.assert_close(module(frames), module.conv(module.mixer(frames)))
    assert module.mixer.operator.ways == ["shorter", "longer"]


CONVOLUTIONS = {
    "3 x 3": nn.Conv2d(16, 12, 3, padding=1, bias=False),
    "with stride": pointwise(stride=2),
    "with padding": pointwise(padding=1),
    "with groups": pointwise(groups=4),
    "with bias": pointwise(bias=True),
    "of another class": nn.Sequential(pointwise()),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_other_convolutions_take_the_longer_way(kind, frames):
    module = mixed(CONVOLUTIONS[kind])
    torch.testing.assert_close(module(frames), module.conv(module.mixer(frames)))
    assert module.mixer.operator.ways == ["longer", "longer"]


def test_a_mixer_without_a_shorter_way_takes_the_longer(frames):
    batch = Batch()
    batch.num_clips = 2
    module = MixedConvolution(Hole(nn.Identity(), batch), pointwise())
    assert torch.equal(module(frames), module.conv(frames))


def test_frames_in_another_memory_order_take_the_longer_way(frames):
    module = mixed(pointwise())
    wanted = module(frames)
    torch.testing.assert_close(module(frames.to(memory_format=torch.channels_last)), wanted)
    assert module.mixer.operator.ways == ["shorter", "longer"]


def test_other_number_types_take_the_longer_way(frames):
    module = mixed(pointwise()).bfloat16()
    module(frames.bfloat16())
    assert module.mixer.operator.ways == ["longer"]


def test_autocast_takes_the_longer_way(frames):
    module = mixed(pointwise())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(frames).dtype == torch.bfloat16
    assert module.mixer.operator.ways == ["longer"]


@pytest.mark.parametrize("part", ["conv", "mixer", "mixer.operator"])
@pytest.mark.parametrize("when", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_whoever_watches_a_layer_sees_it_called(part, when, frames):
    module = mixed(pointwise())
    seen = []
    getattr(module.get_submodule(part), f"register_{when}_hook")(lambda *arguments: seen.append(part))
    module(frames.requires_grad_()).sum().backward()
    assert seen == [part]


def test_both_ways_train_alike(frames):
    shorter, longer = mixed(pointwise()), mixed(pointwise())
    longer.load_state_dict(shorter.state_dict())
    longer.conv.register_forward_hook(lambda *arguments: None)
    gradients = []
    for module in (shorter, longer):
        clip = frames.clone().requires_grad_()
        (module(clip) ** 2).sum().backward()
        gradients.append((clip.grad, module.conv.weight.grad))
    assert [module.mixer.operator.ways for module in (shorter, longer)] == [["shorter"], ["longer"]]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_clips_are_kept_apart():
    module = mixed(pointwise(), num_clips=2)
    clip = torch.randn(2, 16, 3, 4, 4)
    together = module(fold_time(clip))
    alone = mixed(module.conv, num_clips=1)
    torch.testing.assert_close(together, torch.cat([alone(fold_time(clip[:1])), alone(fold_time(clip[1:]))]))
