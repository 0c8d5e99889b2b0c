"""Batch norms into convolutions: where it is exact, and nowhere else."""

import pytest
import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.std_conv import StdConv2d
from torch import nn

import kinema
from kinema.benchmarks.exports import moved
from kinema.deployment.folding import fold_batch_norms


def drawn(network):
    """With weights and statistics at which no norm is the identity."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.3, 2)
    return network.double().eval()


def folded(network, clip):
    """The folded network, having checked that it computes the same and that the first is as it was."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        wanted = network(clip)
        result = fold_batch_norms(network, clip)
        torch.testing.assert_close(result.network(clip), wanted, rtol=1e-10, atol=1e-10)
        other = clip.flip(0) * 1.5 + 0.2
        torch.testing.assert_close(result.network(other), network(other), rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    return result


IMAGE = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(2)).double()
VIDEO = torch.randn(2, 4, 3, 6, 5, generator=torch.Generator().manual_seed(3)).double()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_behind_a_convolution(bias, groups):
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups, bias=bias)
    network = drawn(nn.Sequential(conv, nn.BatchNorm2d(6, eps=0.1), nn.ReLU()))
    result = folded(network, IMAGE)
    assert result.norms == ("1",) and result.left == ()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_norm_in_front_of_a_convolution_that_pads_nothing(bias, groups):
    conv = nn.Conv3d(4, 6, (2, 3, 1), groups=groups, bias=bias)
    result = folded(drawn(nn.Sequential(nn.BatchNorm3d(4), conv)), VIDEO)
    assert result.norms == ("0",) and result.left == ()


def test_zeros_that_are_padded_behind_a_norm_are_no_zeros_in_front_of_it():
    network = drawn(nn.Sequential(nn.BatchNorm3d(4), nn.Conv3d(4, 4, 3, padding=1)))
    assert folded(network, VIDEO).left == ("0",)


class PadsByItself(nn.Conv1d):
    """As convolutions over past frames do."""

    def forward(self, input):
        return super().forward(nn.functional.pad(input, (2, 0)))


def test_zeros_that_a_convolution_pads_by_itself():
    network = drawn(nn.Sequential(nn.BatchNorm1d(4), PadsByItself(4, 4, 3), nn.BatchNorm1d(4)))
    assert folded(network, IMAGE[:, :, 0]).left == ("0", "2")
    PadsByItself.__module__ = "kinema.operators.somewhere"
    try:
        assert folded(network, IMAGE[:, :, 0]).left == ("0",)
    finally:
        PadsByItself.__module__ = __name__


def test_norms_on_both_sides_of_one_convolution():
    network = drawn(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)))
    assert set(folded(network, IMAGE).norms) == {"0", "2"}


class Branches(nn.Module):
    """What stands between convolution and norm is read by another too."""

    def __init__(self, other, *, behind=True):
        super().__init__()
        self.conv, self.norm, self.other, self.behind = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), other, behind

    def forward(self, x):
        first, second = (self.conv, self.norm) if self.behind else (self.norm, self.conv)
        between = first(x)
        return second(between) + self.other(between)


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize(
    "other", [lambda x: 2 * x, lambda x: x.mean(), lambda x: torch.stack([x, x])[0], lambda x: x[:, :1]]
)
def test_what_another_reads_stays(other, behind):
    network = drawn(Branches(other, behind=behind))
    assert folded(network, IMAGE).left == ("norm",)


def test_what_is_changed_in_place_stays():
    network = drawn(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)))
    assert folded(network, IMAGE).left == ("0",)
    network = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(4)))
    assert folded(network, IMAGE).left == ("2",)


class Twice(nn.Module):
    def __init__(self, which):
        super().__init__()
        self.conv, self.norm, self.which = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), which

    def forward(self, x):
        y = self.norm(self.conv(x))
        return y + (self.conv(x) if self.which == "conv" else self.norm(x))


@pytest.mark.parametrize("which", ["conv", "norm"])
def test_what_is_called_twice_stays(which):
    assert folded(drawn(Twice(which)), IMAGE).left == ("norm",)


def test_norms_of_the_batch_and_convolutions_with_weights_of_their_own_stay():
    of_batch = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)))
    assert fold_batch_norms(of_batch, IMAGE).left == ("1",)
    standardised = drawn(nn.Sequential(StdConv2d(4, 4, 3), nn.BatchNorm2d(4)))
    assert folded(standardised, IMAGE).left == ("1",)


def test_the_activation_within_a_norm_of_timm_stays():
    network = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), BatchNormAct2d(4, act_layer=nn.ReLU6)))
    result = folded(network, IMAGE)
    assert result.norms == ("1",) and result.left == ()
    assert float(result.network(IMAGE).detach().min()) == 0
    for inplace in (True, False):
        in_front = drawn(nn.Sequential(BatchNormAct2d(4, inplace=inplace), nn.Conv2d(4, 4, 1)))
        assert folded(in_front, IMAGE).left == ("0",)


@pytest.mark.parametrize(
    ("name", "options", "gone", "left"),
    [
        ("tsm_nano", {}, 16, 0),
        ("tsn_nano", {}, 16, 0),
        ("tada2d_nano", {}, 16, 20),  # those of the routers too; two behind each of ten calibrated convolutions stay
        ("r3d_nano", {}, 20, 0),
        ("slowfast_nano", {}, 44, 0),
        ("uniformer_nano", {"depths": (1, 1, 1, 1)}, 4, 1),  # the last, in front of the classifier, stays
        ("timesformer_nano", {}, 0, 0),
    ],
)
def test_networks(name, options, gone, left):
    """As many norms of each as could be counted by hand, and the same logits."""
    network = moved(kinema.create_model(name, 5, 8, **options)).double().eval()
    clip = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    result = folded(network, clip)
    assert (len(result.norms), len(result.left)) == (gone, left)


def test_any_network_of_timm_as_a_video_network():
    network = moved_video_network()
    clip = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    result = folded(network, clip)
    assert result.norms and not result.left


def moved_video_network():
    torch.manual_seed(0)
    return drawn(kinema.temporalize(timm.create_model("mobilenetv2_050", num_classes=5), "tsm"))
