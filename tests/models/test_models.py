"""The named networks: what they take, give and refuse."""

import pytest
import torch
from torch import nn

import kinema
from kinema.models import MODELS, list_options
from kinema.operators.nonlocal_block import NonLocalBlock
from kinema.operators.shift import TemporalShift
from kinema.operators.temporal_pool import TemporalMaxPool


def count(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.fixture(scope="module")
def clip():
    return torch.randn(2, 3, 4, 64, 64)


def test_names_are_sorted_and_those_of_the_functions():
    assert kinema.list_models() == sorted(MODELS)
    assert all(build.__name__ == name for name, build in MODELS.items())
    wanted = "tsn_nano tsm_nano tsn_r50 tsm_r18 tsm_r50 tsm_r101 tsm_mobilenetv2 tsn_mobilenetv2"
    assert set(wanted.split()) <= set(MODELS)


@pytest.mark.parametrize(
    ("name", "options", "shifts"),
    [
        ("tsm_r18", {}, 8),
        ("tsm_r50", {}, 16),
        ("tsm_r101", {}, 18),
        ("tsm_r101", {"shift_every": 1}, 33),
        ("tsm_r101", {"placement": "in_place"}, 33),
        ("tsm_r50", {"shift_every": 2}, 2 + 2 + 3 + 2),
        ("tsm_r50", {"shift_fraction": 0}, 0),
        ("tsm_mobilenetv2", {}, 10),
        ("tsn_r50", {}, 0),
        ("tsn_mobilenetv2", {}, 0),
    ],
)
def test_number_of_shifts(name, options, shifts):
    assert count(kinema.create_model(name, **options), TemporalShift) == shifts


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("tsm_")])
def test_options_reach_the_shifts(name):
    model = kinema.create_model(name, shift_fraction=1 / 2, causal=True)
    shifts = [module for module in model.modules() if isinstance(module, TemporalShift)]
    assert shifts and all(shift.fraction == 1 / 2 and shift.causal for shift in shifts)


@pytest.mark.parametrize("name", ["tsn_r50", "tsm_r50"])
@pytest.mark.parametrize("non_local", ["gaussian", "embedded_gaussian", "dot_product"])
def test_non_local_blocks_stand_where_the_tsm_code_puts_them(name, non_local):
    model = kinema.create_model(name, non_local=non_local)
    places = [n for n, module in model.named_modules() if isinstance(module, NonLocalBlock)]
    blocks = ("layer2.0", "layer2.2", "layer3.0", "layer3.2", "layer3.4")
    assert places == [f"backbone.trunk.{block}.after.operator" for block in blocks]
    assert all(m.affinity == non_local for m in model.modules() if isinstance(m, NonLocalBlock))


def test_temporal_pooling_stands_in_front_of_the_second_stage(clip):
    model = kinema.create_model("tsm_nano", temporal_pool=True)
    assert [n for n, m in model.named_modules() if isinstance(m, TemporalMaxPool)] == [
        "backbone.trunk.layer2.before.operator"
    ]
    assert model.forward_features(clip).shape == (2, 2, 128)
    assert model(clip).shape == (2, 400)


def test_any_operator_makes_a_temporal_network(clip):
    class Mean(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(channels, 1, 1, 1))

        def forward(self, x):
            return x + self.weight * x.mean(dim=2, keepdim=True)

    model = kinema.create_model("tsn_nano", mixer=Mean, placement="in_place", mixer_every=2)
    assert count(model, Mean) == 4
    model(clip).sum().backward()


def test_size_of_a_nano_network_is_an_option(clip):
    model = kinema.create_model("tsm_nano", depths=(1, 1, 1, 1), width=8)
    assert model.forward_features(clip).shape == (2, 4, 64)
    assert count(model, TemporalShift) == 4


@pytest.mark.parametrize("name", ["tsn_nano", "tsm_nano", "tsm_mobilenetv2"])
def test_features_and_head_make_the_logits(name, clip):
    model = kinema.create_model(name, num_classes=7).eval()
    features = model.forward_features(clip)
    assert features.shape[:2] == (2, 4)
    wanted = torch.stack([model.head.fc(frame) for frame in features.unbind(1)]).mean(0)
    torch.testing.assert_close(model(clip), wanted)


def test_without_consensus_every_frame_has_its_scores(clip):
    model = kinema.create_model("tsm_nano", num_classes=7, consensus="identity").eval()
    mean = kinema.create_model("tsm_nano", num_classes=7).eval()
    mean.load_state_dict(model.state_dict())
    assert model(clip).shape == (2, 4, 7)
    torch.testing.assert_close(model(clip).mean(1), mean(clip))


def test_logits_are_raw_in_training_and_in_evaluation(clip):
    model = kinema.create_model("tsm_nano", num_classes=7, dropout=0.0)
    with torch.no_grad():
        model.head.fc.bias.copy_(torch.arange(7.0))
    for mode in (True, False):
        total = model.train(mode)(clip).sum(dim=1)
        assert (total - 21).abs().max() < 2  # probabilities would sum to 1


def test_the_classifier_starts_as_in_the_tsm_code():
    head = kinema.create_model("tsm_r18", num_classes=400).head
    assert head.fc.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert not head.fc.bias.any()
    assert head.dropout.p == 0.5


def test_every_norm_starts_at_one():
    """timm would start the last of each branch at zero; the TSM authors train from torchvision's."""
    for module in kinema.create_model("tsm_r50").modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()


def test_convolutions_start_as_in_the_tsm_code():
    """Standard deviations measured on their network: sqrt(2 / (kernel area x output channels)), as torchvision's."""
    trunk = kinema.create_model("tsm_r50").backbone.trunk
    for name, std in (("conv1", 0.02507), ("layer1.0.conv1.conv", 0.1758), ("layer1.0.conv2", 0.05832)):
        assert trunk.get_submodule(name).weight.std().item() == pytest.approx(std, rel=0.05)


def test_reset_classifier_changes_the_classifier_alone(clip):
    model = kinema.create_model("tsm_nano", num_classes=7).double().eval()
    features = model.forward_features(clip.double())
    model.reset_classifier(11)
    assert model(clip.double()).shape == (2, 11)
    assert model.head.fc.weight.dtype == torch.float64
    assert torch.equal(model.forward_features(clip.double()), features)


def test_a_tuple_of_sizes_gives_a_tuple_of_logits(clip):
    model = kinema.create_model("tsm_nano", num_classes=(97, 300))
    assert [logits.shape for logits in model(clip)] == [(2, 97), (2, 300)]
    model.reset_classifier((5, 6))
    assert [logits.shape for logits in model(clip)] == [(2, 5), (2, 6)]
    model.reset_classifier(5)
    assert model(clip).shape == (2, 5)


@pytest.mark.parametrize("num_classes", [0, (), (5, 0), -3])
def test_no_classes_are_refused(num_classes):
    with pytest.raises(ValueError, match="leaves nothing to predict"):
        kinema.create_model("tsm_nano", num_classes=num_classes)


def test_other_channels_than_red_green_and_blue():
    model = kinema.create_model("tsm_nano", in_channels=10)
    assert model(torch.randn(1, 10, 4, 64, 64)).shape == (1, 400)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tsm_r5", {}, "no network is named 'tsm_r5'; did you mean 'tsm_r50'"),
        ("perceiver", {}, "no network is named 'perceiver'; known are r2plus1d_nano"),
        ("tsm_r50", {"shift_fractoin": 1}, "tsm_r50 has no option 'shift_fractoin'; did you mean 'shift_fraction'"),
        ("tsn_r50", {"causal": True}, "tsn_r50 has no option 'causal'; known are"),
        ("tsm_mobilenetv2", {"non_local": "gaussian"}, "tsm_mobilenetv2 has no option 'non_local'"),
        ("tsm_nano", {"shift_fraction": 0.01}, "moves no channel of channels=16"),
        ("tsm_nano", {"shift_fraction": -0.5}, "no share of the channels"),
        ("tsm_nano", {"shift_every": 0}, "no number of blocks"),
        ("tsm_nano", {"placement": "inplace"}, "placement='inplace' is unknown"),
        ("tsm_nano", {"placement": "inplace", "shift_fraction": 0}, "placement='inplace' is unknown"),
        ("tsm_nano", {"non_local": "cosine"}, "affinity='cosine' is unknown"),
        ("tsm_nano", {"num_frames": 0}, "num_frames=0 is no number of frames"),
        ("tada2d_nano", {"num_frames": 8.5}, "num_frames=8.5 is no number of frames"),
        ("tada2d_nano", {"in_channels": 0}, "in_channels=0 is no number of channels"),
        ("tada2d_nano", {"num_classes": 2.5}, "num_classes=2.5 leaves nothing to predict"),
        ("tada2d_nano", {"calibrated_stages": []}, "give each of the stages to calibrate once"),
        ("tada2d_nano", {"calibrated_stages": [3, 3]}, "give each of the stages to calibrate once"),
        ("tada2d_nano", {"calibrated_stages": 5}, "calibrated_stages=5 is no list of whole numbers"),
        ("tada2d_nano", {"routing_kernels": (3, 3, 3)}, "give two odd numbers of frames"),
        ("tada2d_nano", {"routing_ratio": 0}, "routing_ratio=0 divides channels"),
        ("tadaconvnextv2_nano", {"routing_ratio": 2.5}, "routing_ratio=2.5 divides channels"),
        ("tsm_nano", {"consensus": "max"}, "consensus='max' is unknown"),
        ("tsm_nano", {"causal": True, "non_local": "gaussian"}, "non_local='gaussian' reads the future"),
        ("tsm_nano", {"causal": True, "temporal_pool": True}, "temporal_pool=True reads the future"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model(name, **options)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_option_is_described_with_its_default(name):
    described = kinema.describe_options(name)
    assert list(described) == list_options(name)
    for option, text in described.items():
        assert "default" in text.lower() or "when not given" in text, option


def test_descriptions_are_of_the_network_asked_for():
    assert kinema.describe_options("tadaformer_b16")["routing_ratio"].endswith("Default 2.")
    assert kinema.describe_options("tada2d_r50")["routing_ratio"].endswith("Default 4.")
    assert "local_global_ln" in kinema.describe_options("tadaconvnext_tiny")["routing"]
    assert "last block" in kinema.describe_options("tadaconvnext_tiny")["drop_path"]


def test_options_of_a_network_can_be_listed():
    assert "shift_fraction" in list_options("tsm_r50")
    assert "mixer" in list_options("tsn_r50")
    assert "mixer" not in list_options("tsm_r50")
    with pytest.raises(ValueError, match="no network is named"):
        list_options("tsm")


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (torch.randn(3, 4, 64, 64), r"expected a clip \(B, C, T, H, W\) with 5 axes, got shape \(3, 4, 64, 64\)"),
        (torch.randn(1, 4, 3, 64, 64), "expected 3 channels on axis 1"),
        (
            torch.randint(0, 255, (1, 3, 4, 64, 64), dtype=torch.uint8),
            "expected a floating-point clip, got torch.uint8",
        ),
        (torch.randn(1, 3, 0, 64, 64), r"shape \(1, 3, 0, 64, 64\) is empty"),
        (torch.randn(0, 3, 4, 64, 64), r"shape \(0, 3, 4, 64, 64\) is empty"),
    ],
)
def test_what_is_no_clip_is_refused(clip, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model("tsm_nano")(clip)


def test_a_frame_wise_network_with_learnt_convolutions_over_time():
    """It starts as the network without them, their number is that of TSM's shifts, and only their weights are new."""
    torch.manual_seed(0)
    plain = kinema.create_model("tsn_nano", 5).eval()
    clip = torch.randn(2, 3, 4, 64, 64)
    for mixer, taps in (("temporal_conv", lambda c: 3 * c * c), ("depthwise_temporal_conv", lambda c: 3 * c)):
        torch.manual_seed(0)
        network = kinema.create_model("tsn_nano", 5, mixer=mixer).eval()
        new = [p for name, p in network.named_parameters() if "operator" in name]
        assert [p.numel() for p in new] == [taps(c) for c in (16, 16, 32, 64, 64)]
        torch.testing.assert_close(network(clip), plain(clip))
    with pytest.raises(ValueError, match="mixer='conv' is unknown; give temporal_conv, depthwise_temporal_conv"):
        kinema.create_model("tsn_nano", 5, mixer="conv")
