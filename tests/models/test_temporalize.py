"""Image networks of timm turned into video networks."""

import copy
import re

import pytest
import timm
import torch
from torch import nn

import kinema
from kinema.models.temporalize import TemporalizedNetwork
from kinema.operators.nonlocal_block import NonLocalBlock

SMALL = {
    "resnet10t": {},
    "mobilenetv2_050": {},
    "convnext_atto": {},
    "tf_efficientnet_lite0": {},  # pads as TensorFlow does, in a convolution of its own kind
    "resnetv2_18": {},
}


def frame_wise(model, clip):
    return torch.stack([model(clip[:, :, t]) for t in range(clip.shape[2])], dim=1).mean(dim=1)


@pytest.fixture
def clip():
    return torch.randn(2, 3, 4, 64, 64)


def built(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5, **options).eval()


@pytest.mark.parametrize("name", SMALL)
def test_calibration_starts_as_the_image_network(name, clip):
    model = built(name)
    expected = frame_wise(model, clip)
    network = kinema.temporalize(model, "tada").eval()
    torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)
    assert network.forward_features(clip).shape == (2, model.num_features) or name == "mobilenetv2_050"


@pytest.mark.parametrize("operator", ["tada", "tsm"])
@pytest.mark.parametrize("name", SMALL)
def test_frames_see_each_other(name, operator, clip):
    network = kinema.temporalize(built(name), operator).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    features = network.forward_features(clip)
    assert (features - network.forward_features(clip[:, :, [1, 3, 0, 2]])).abs().max() > 1e-6


def test_weights_are_kept(clip):
    model = built("resnet10t")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = kinema.temporalize(model, "tsm")
    after = {name.replace(".conv.", ".") if ".conv." in name else name for name in network.model.state_dict()}
    assert set(before) == after


def test_where_chooses(clip):
    network = kinema.temporalize(built("resnet10t"), where=lambda name, conv: name.startswith("layer3"))
    assert network.places == ("layer3.0.conv1", "layer3.0.conv2")


@pytest.mark.parametrize("frozen", [False, True])
def test_layers_with_as_many_channels_as_the_image_are_not_passed_over(frozen):
    """The first stage of a ResNet has 64 channels, like clips of 64 features."""
    model = built("resnet18", in_chans=64)
    model.requires_grad_(not frozen)
    network = kinema.temporalize(model, "tsm")
    assert len(network.places) == 16 and "conv1" not in network.places
    assert {parameter.requires_grad for parameter in network.parameters()} == {not frozen}
    assert network(torch.randn(1, 64, 4, 64, 64)).shape == (1, 5)


class Pyramid(nn.Module):
    """Two convolutions on the image itself, once halved, and one behind them."""

    def __init__(self):
        super().__init__()
        self.in_chans = 3
        self.fine, self.coarse = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.behind, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        half = nn.functional.avg_pool2d(2 * x - 1, 2)
        return self.head(self.behind(self.fine(x) + self.coarse(half)).mean(dim=(2, 3)))


def test_all_that_reads_the_image_is_left_alone():
    assert kinema.temporalize(Pyramid(), nn.Conv3d, kernel_size=1, out_channels=3).places == ("behind",)


def test_blocks_that_run_again_find_the_clips_they_had():
    """With timm's checkpointing, holes look at the count of clips once more when batches of another size have come."""
    kept = kinema.temporalize(built("resnet10t"), "tada")
    again = copy.deepcopy(kept)
    again.model.set_grad_checkpointing(True)
    first, second = torch.randn(2, 3, 4, 64, 64), torch.randn(1, 3, 2, 64, 64)
    gradients = []
    for network in (kept, again):
        network.train()
        (network(first).square().sum() + network(second).square().sum()).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_any_operator_will_do(clip):
    network = kinema.temporalize(
        built("resnet10t"), NonLocalBlock, where=lambda name, conv: name == "layer3.0.conv1", affinity="dot_product"
    )
    assert network(clip).shape == (2, 5)


def test_options_reach_the_operator():
    network = kinema.temporalize(
        built("resnet10t"),
        "tada",
        routing="attention",
        routing_head_dim=4,
        routing_ratio=2,
        routing_kernels=(5, 1),
        calibrated_fraction=0.25,
    )
    router = network.model.get_submodule("layer1.0.conv1").mixer.operator.router
    assert (router.num_heads, router.conv.kernel_size, router.to_cin.kernel_size) == (8, (5,), (1,))
    assert router.widths == {"cin": 16}
    shift = kinema.temporalize(built("resnet10t"), "tsm", shift_fraction=0.5, causal=True).model.layer1[0].conv1.mixer
    assert (shift.operator.fraction, shift.operator.causal) == (0.5, True)
    block = kinema.temporalize(built("test_vit"), reduction=4, enhanced=True, routing_ratio=8).model.blocks[0].mixer
    assert (block.operator.reduce.out_channels, block.operator.calibrated.router.conv.out_channels) == (16, 2)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_every_option_is_one_of_create_model(name):
    """Names of `create_model`, and the same on which an operator insists."""
    refused = "its options are (.*), and 'where'"
    with pytest.raises(ValueError, match=refused) as error:
        kinema.temporalize(built(name), ratio=2)
    listed = re.search(refused, str(error.value))[1].split(", ")
    assert "routing_ratio" in listed
    of_networks = {*kinema.list_options("tada2d_r50"), *kinema.list_options("tadaformer_b16")}
    assert set(listed) <= of_networks


def test_attention_has_one_head_unless_told():
    network = kinema.temporalize(built("resnet10t"), routing="attention")
    assert network.model.layer3[0].conv1.mixer.operator.router.num_heads == 1


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_factors_may_belong_to_frames(name):
    model = built(name)
    clip = torch.randn(1, 3, 3, *model.pretrained_cfg["input_size"][1:])
    expected = frame_wise(model, clip)
    network = kinema.temporalize(model, routing="per_frame", num_frames=3).eval()
    torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="learnt for 3 frames, the clip has 2"):
        network(clip[:, :, :2])


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", 64), ("vit_tiny_patch16_224", 80), ("levit_128s", 128), ("coatnet_nano_rw_224", 96)]
)
def test_networks_built_for_another_size(name, size):
    """Some say the size they were built for, some let it be found out."""
    model = built(name, img_size=size)
    clip = torch.randn(1, 3, 2, size, size)
    expected = frame_wise(model, clip)
    torch.testing.assert_close(kinema.temporalize(model).eval()(clip), expected, rtol=1e-4, atol=1e-5)


class TakesNoSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        raise RuntimeError


def test_a_network_that_takes_no_size_is_told_from_one_that_cannot_be_temporalized():
    with pytest.raises(
        ValueError, match=r"itself, without any operator, does not run on frames of 64 x 64.*RuntimeError"
    ):
        kinema.temporalize(TakesNoSize())


def test_a_new_classifier(clip):
    network = kinema.temporalize(built("resnet10t"), "tsm")
    network.reset_classifier(7)
    assert network(clip).shape == (2, 7)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "vit_tiny_patch16_dinov3_qkvb"])
def test_a_transformer_takes_tada_blocks(name):
    """With one class token, with registers, with none; positions learnt or rotary."""
    model = built(name)
    clip = torch.randn(2, 3, 3, *model.pretrained_cfg["input_size"][1:])
    expected = frame_wise(model, clip)
    network = kinema.temporalize(model, "tada").eval()
    assert len(network.places) == len(model.blocks)
    torch.testing.assert_close(network(clip), expected, rtol=1e-4, atol=1e-5)
    for block in network.model.blocks:
        nn.init.normal_(block.mixer.operator.expand.weight)
    features = network.forward_features(clip)
    assert (features - network.forward_features(clip[:, :, [1, 0, 2]])).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: built("resnet10t"), {"operator": "tam"}, "operator='tam' is unknown"),
        (lambda: built("resnet10t"), {"where": lambda name, conv: False}, "that 'where' accepts"),
        (lambda: nn.Sequential(nn.Linear(3, 3)), {}, "no convolution at all"),
        (lambda: built("test_vit"), {"operator": "tsm"}, "operator='tada' works here: it puts a TAdaBlock in front of"),
        (lambda: built("test_vit"), {"operator": NonLocalBlock}, "operator='tada' works here"),
        (lambda: built("test_vit"), {"where": lambda name, block: False}, "no block that 'where' accepts.*'blocks.0'"),
        (lambda: built("swin_s3_tiny_224"), {}, "one row `blocks`.*attend within windows, such as Swin"),
        (lambda: built("resnet10t"), {"operator": "tsm", "shift_fraction": 1 / 64}, "moves no channel"),
        (
            lambda: built("resnet10t"),
            {"operator": "tsm", "routing": "local"},
            "no option routing.* shift_fraction, causal",
        ),
        (lambda: built("resnet10t"), {"shift_fraction": 0.5}, "no option shift_fraction; its options are routing, "),
        (lambda: built("test_vit"), {"calibrated_fraction": 0.5}, "TAdaBlock in front of every block"),
        (lambda: built("resnet10t"), {"routing": "globl"}, "routing='globl' is unknown"),
        (lambda: built("resnet10t"), {"num_frames": 0}, "num_frames=0 makes no clip"),
        (lambda: kinema.temporalize(built("resnet10t")), {}, "TemporalizedNetwork is a video network already"),
        (lambda: kinema.temporalize(built("resnet10t")).model, {}, "ResNet is a video network already"),
        (lambda: kinema.create_model("tsn_nano", num_classes=2), {}, "SegmentNetwork is a video network already"),
        (lambda: timm.create_model("resnet10t", features_only=True), {}, "without features_only=True"),
        (lambda: timm.create_model("test_vit", features_only=True), {}, "without features_only=True"),
    ],
)
def test_what_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        kinema.temporalize(model(), **arguments)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (lambda: "resnet10t", {}, "model='resnet10t' is no network.*timm.create_model"),
        (lambda: timm.create_model, {}, "is no network"),
        (lambda: built("resnet10t"), {"operator": None}, "operator=None builds no operator; give one of"),
        (lambda: built("resnet10t"), {"operator": nn.Identity()}, "a Identity that is built already.*give its class"),
        (lambda: built("resnet10t"), {"operator": lambda channels: None}, "factory gave None for 24 channels"),
    ],
)
def test_what_is_of_another_type(model, arguments, message):
    with pytest.raises(TypeError, match=message):
        kinema.temporalize(model(), **arguments)


class Halves(nn.Module):
    def __init__(self, channels, axis=2):
        super().__init__()
        self.axis = axis

    def forward(self, clip):
        return clip.narrow(self.axis, 0, clip.shape[self.axis] // 2)


class Fails(Halves):
    def forward(self, clip):
        raise KeyError("frame")


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (
            Halves,
            r"operator Halves before conv1.3 turned a clip of shape \(1, 24, 8, .* into shape \(1, 24, 4, ",
        ),
        (lambda channels: Halves(channels, axis=1), r"turned a clip of shape .* into shape \(1, 12, 8, "),
        (
            lambda channels: nn.LSTM(channels, channels),
            "operator LSTM before conv1.3 fails on features of a clip",
        ),
        (Fails, "operator Fails before conv1.3 fails on features of a clip of 8 frames .*'frame'"),
    ],
)
def test_the_fault_of_an_operator_is_told_as_such(operator, message):
    with pytest.raises(ValueError, match=message):
        kinema.temporalize(built("resnet10t"), operator)


class NeedsPixels(Halves):
    def forward(self, clip):
        if clip.shape[-1] < 8:
            raise ValueError("too small")
        return clip.flip(2)


def test_an_operator_that_needs_larger_frames_than_the_first_trial_gets_them():
    video = kinema.temporalize(built("resnet10t"), NeedsPixels, where=lambda name, conv: name == "layer4.0.conv1")
    assert [type(module) for module in video.modules()].count(NeedsPixels) == 1


FAILURES = [
    ("resnet10t", {"operator": Fails}),
    ("resnet10t", {"operator": Halves}),
    ("resnet10t", {"operator": "tsm", "shift_fraction": 1 / 128}),  # stops in the middle of building
    ("resnet10t", {"operator": "tsm", "where": lambda name, conv: [][0]}),
    ("test_vit", {"routing_ratio": 64}),
    ("test_vit", {"where": lambda name, block: 1 / ("3" not in name)}),
    ("tnt_s_legacy_patch16_224", {}),
]


@pytest.mark.parametrize(("name", "arguments"), FAILURES)
def test_what_fails_leaves_the_network_as_it_was(name, arguments):
    model = built(name).train()
    model.get_submodule(next(name for name, _ in model.named_children())).eval()
    clip = torch.randn(1, 3, *model.pretrained_cfg["input_size"][1:])
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.eval()(clip)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    with pytest.raises((ValueError, LookupError, ZeroDivisionError)):
        kinema.temporalize(model, **arguments)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model.eval()(clip), expected)


def test_after_a_failure_another_operator_can_be_tried(clip):
    model = built("resnet10t")
    with pytest.raises(ValueError, match="operator Halves"):
        kinema.temporalize(model, Halves)
    expected = frame_wise(model, clip)
    torch.testing.assert_close(kinema.temporalize(model).eval()(clip), expected, rtol=1e-4, atol=1e-5)


def test_image_weights_belong_in_front(tmp_path):
    model = built("resnet18")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    network = kinema.temporalize(model, "tada")
    for load in (kinema.load_checkpoint, kinema.init_from):
        with pytest.raises(ValueError, match="load image weights first, then temporalize"):
            load(network, weights)
    own = {name: value + 1 for name, value in network.state_dict().items()}
    kinema.load_checkpoint(network, own)
    torch.testing.assert_close(network.state_dict(), own)


class ReadsWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return torch.conv2d(self.stem(x), self.conv.weight, self.conv.bias).mean(dim=(2, 3))

    def whole(self, x):
        return self.conv(self.stem(x)).mean(dim=(2, 3))


class CutsWindows(ReadsWeights):
    def forward(self, x):
        x = self.stem(x)
        return (
            self.conv(x.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1))
            .mean(dim=(2, 3))
            .unflatten(0, (-1, 2))
            .sum(1)
        )


def test_a_convolution_that_is_never_called_is_found():
    with pytest.raises(ValueError, match="reads the weights of conv without calling it"):
        kinema.temporalize(ReadsWeights())


def test_frames_cut_into_windows_are_found():
    with pytest.raises(ValueError, match="cuts frames into windows before conv"):
        kinema.temporalize(CutsWindows())


@pytest.mark.parametrize("training", [True, False])
def test_the_network_stays_in_the_mode_it_was_in(training):
    model = built("resnet10t").train(training)
    model.bn1.train(not training)
    network = kinema.temporalize(model)
    assert isinstance(network, TemporalizedNetwork)
    others = [module.training for name, module in network.named_modules() if name != "model.bn1"]
    assert set(others) == {training} and network.model.bn1.training is not training


def test_windows_that_only_larger_frames_are_cut_into_are_found():
    class CutsLargeFrames(CutsWindows):
        def forward(self, x):
            return ReadsWeights.whole(self, x) if x.shape[-1] < 100 else super().forward(x)

    network = kinema.temporalize(CutsLargeFrames())
    with pytest.raises(ValueError, match=r"cuts frames into windows before conv \(4 frames became 8\)"):
        network(torch.randn(2, 3, 2, 128, 128))
