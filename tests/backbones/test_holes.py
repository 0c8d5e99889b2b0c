"""Where operators end up in a network from timm, and that everything else stays timm's."""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn

import kinema
from kinema.backbones.frames import FrameBackbone
from kinema.backbones.holes import Hole
from kinema.backbones.mobilenetv2 import mobilenetv2
from kinema.backbones.resnet import resnet, small_resnet

SIZES = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}


class Recorder(nn.Module):
    """A mixer that changes nothing and remembers the clips it saw."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return x


class Negate(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return -x


class EveryOther(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x[:, :, ::2]


def holes(backbone):
    return {
        name.removeprefix("trunk."): module for name, module in backbone.named_modules() if isinstance(module, Hole)
    }


def operators(backbone):
    return [hole.operator for hole in holes(backbone).values()]


def copy_weights(trunk, backbone):
    """From timm's network into a backbone, by order: the names differ where an operator stands."""
    theirs = [value for name, value in trunk.state_dict().items() if not name.startswith(("fc.", "classifier."))]
    ours = backbone.state_dict()
    assert len(ours) == len(theirs)
    backbone.load_state_dict(dict(zip(ours, theirs, strict=True)))


@pytest.mark.parametrize("mixer", [None, Recorder])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2_100"])
def test_frames_are_those_of_the_network_in_timm(name, mixer):
    """Two clips of three frames: a wrong fold would put frames of different clips together."""
    theirs = timm.create_model(name, pretrained=False).double().eval()
    if name in SIZES:
        layers, bottleneck = SIZES[name]
        ours = resnet(layers, bottleneck=bottleneck, mixer=mixer).double().eval()
    else:
        ours = mobilenetv2(mixer=mixer).double().eval()
    copy_weights(theirs, ours)
    clip = torch.randn(2, 3, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        maps = ours(clip)
        for b in range(2):
            for t in range(3):
                torch.testing.assert_close(maps[b, :, t], theirs.forward_features(clip[b : b + 1, :, t])[0])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2_100"])
def test_without_operators_the_names_are_those_of_timm(name):
    theirs = [key for key in timm.create_model(name).state_dict() if not key.startswith(("fc.", "classifier."))]
    backbone = mobilenetv2() if name not in SIZES else resnet(SIZES[name][0], bottleneck=SIZES[name][1])
    assert [key.removeprefix("trunk.") for key in backbone.state_dict()] == theirs


def test_every_block_of_resnet50_may_hold_a_mixer_before_its_first_convolution():
    backbone = resnet((3, 4, 6, 3), mixer=Recorder)
    assert list(holes(backbone)) == [
        f"layer{s}.{b}.conv1.mixer" for s, n in enumerate((3, 4, 6, 3), 1) for b in range(n)
    ]
    channels = [64, 256, 256] + [256, 512, 512, 512] + [512] + [1024] * 5 + [1024, 2048, 2048]
    assert [operator.channels for operator in operators(backbone)] == channels


def test_mixers_in_mobilenetv2_stand_in_the_ten_blocks_with_a_shortcut():
    """features.{3, 5, 6, 8, 9, 10, 12, 13, 15, 16} of the TSM authors."""
    backbone = mobilenetv2(mixer=Recorder)
    blocks = ["1.1", "2.1", "2.2", "3.1", "3.2", "3.3", "4.1", "4.2", "5.1", "5.2"]
    assert list(holes(backbone)) == [f"blocks.{block}.conv_pw.mixer" for block in blocks]


def test_every_second_block_is_counted_anew_in_each_stage():
    backbone = resnet((3, 4, 23, 3), mixer=Recorder, mixer_every=2)
    blocks = [f"layer{s}.{b}" for s, n in enumerate((3, 4, 23, 3), 1) for b in range(0, n, 2)]
    assert len(blocks) == 2 + 2 + 12 + 2
    assert list(holes(backbone)) == [f"{block}.conv1.mixer" for block in blocks]


def test_a_residual_mixer_leaves_the_shortcut_alone():
    """With the last norm of each branch at zero only the shortcut is left, which must not see the mixer."""
    plain = resnet((1, 1, 1, 1), bottleneck=False).eval()
    residual = resnet((1, 1, 1, 1), bottleneck=False, mixer=Negate).eval()
    in_place = resnet((1, 1, 1, 1), bottleneck=False, mixer=Negate, placement="in_place").eval()
    for backbone in (plain, residual, in_place):
        for name, module in backbone.named_modules():
            if name.endswith("bn2"):
                nn.init.zeros_(module.weight)
    copy_weights(plain.trunk, residual)
    copy_weights(plain.trunk, in_place)
    clip = torch.randn(1, 3, 2, 64, 64)
    assert torch.equal(residual(clip), plain(clip))
    assert not torch.allclose(in_place(clip), plain(clip))


def test_an_operator_sees_clips_not_frames():
    backbone = small_resnet(mixer=Recorder)
    backbone(torch.randn(2, 3, 5, 64, 64))
    assert operators(backbone)[0].seen == [(2, 16, 5, 16, 16)]


def test_an_operator_may_change_the_number_of_frames():
    backbone = small_resnet(mixer=Recorder, before_stage={"layer2": EveryOther})
    assert backbone(torch.randn(2, 3, 7, 64, 64)).shape == (2, 128, 4, 2, 2)
    assert [recorder.seen[0][2] for recorder in operators(backbone) if isinstance(recorder, Recorder)] == [
        7,
        4,
        4,
        4,
        4,
    ]


def test_operators_may_stand_behind_a_block_and_in_front_of_a_stage():
    backbone = resnet(
        (2, 2, 2, 2), bottleneck=False, after_block={"layer2.1": Recorder}, before_stage={"layer3": Recorder}
    )
    assert {name: hole.operator.channels for name, hole in holes(backbone).items()} == {
        "layer2.1.after": 128,
        "layer3.before": 128,
    }


def test_clips_of_another_number_or_length_may_follow():
    backbone = small_resnet(mixer=Recorder).eval()
    together = torch.randn(3, 3, 4, 64, 64)
    maps = backbone(together)
    backbone(torch.randn(1, 3, 9, 64, 64))
    torch.testing.assert_close(backbone(together[1:2]), maps[1:2])


@pytest.mark.parametrize("name", ["tsm_nano", "tada2d_nano", "tadaconvnext_nano", "tadaformer_nano"])
def test_blocks_that_run_again_find_the_clips_they_had(name):
    """With timm's checkpointing, holes look at the count of clips once more when batches of another size have come."""
    torch.manual_seed(0)
    kept = kinema.create_model(name, 5, dropout=0.0)
    again = copy.deepcopy(kept)
    again.backbone.trunk.set_grad_checkpointing(True)
    first, second = torch.randn(2, 3, 8, 64, 64), torch.randn(1, 3, 4, 64, 64)
    gradients = []
    for model in (kept, again):
        (model(first).square().sum() + model(second).square().sum()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_copies_do_not_share_the_count_of_clips():
    backbone = small_resnet(mixer=Recorder).eval()
    clip = torch.randn(2, 3, 4, 64, 64)
    for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        backbone(clip[:1])
        torch.testing.assert_close(other(clip), backbone(clip))


def test_a_block_called_outside_its_backbone_is_refused():
    backbone = small_resnet(mixer=Recorder)
    with pytest.raises(RuntimeError, match="called outside its backbone"):
        backbone.trunk.layer1(torch.randn(8, 16, 8, 8))


@pytest.mark.parametrize(
    ("filling", "message"),
    [
        ({"mixer": Recorder, "placement": "inplace"}, "placement='inplace' is unknown; give 'residual' or 'in_place'"),
        ({"mixer": Recorder, "mixer_every": 0}, "mixer_every=0 is no number of blocks"),
        ({"after_block": {"layer2.7": Recorder}}, r"no block of this backbone is named \['layer2.7'\]"),
        ({"before_stage": {"stage2": Recorder}}, r"no stage of this backbone is named \['stage2'\]; its stages are"),
    ],
)
def test_what_cannot_be_filled_is_refused(filling, message):
    with pytest.raises(ValueError, match=message):
        small_resnet(**filling)


def test_a_backbone_is_a_frame_backbone():
    assert isinstance(small_resnet(), FrameBackbone)
    assert small_resnet(width=24).num_features == 192
