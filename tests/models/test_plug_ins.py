"""R3D, R(2+1)D, SlowOnly and SlowFast, plain and with calibrated convolutions."""

import pytest
import torch
from torch import nn

import kinema
from kinema.backbones.resnet3d import R3D
from kinema.operators.tada_layer import TAdaLayer
from kinema.operators.tadaconv import TAdaConv2d, TAdaConv3d

TABLE = [
    # Huang et al. 2022, table 3: parameters in millions and GMACs at 256 pixels, printed there to 0.1 M and 0.01 G.
    ("r3d_r50", {}, 8, 46.981, 84.231),
    ("r3d_r50", {"tada": "3d"}, 8, 50.131, 84.247),
    ("r2plus1d_r50", {}, 8, 28.108, 49.552),
    ("r2plus1d_r50", {"tada": "2d"}, 8, 31.258, 49.569),
    ("r2plus1d_r50", {"tada": "2d+1d"}, 8, 34.408, 49.585),
    ("slowonly_r50", {}, 8, 32.454, 54.518),
    ("slowonly_r50", {"tada": "2d"}, 8, 35.604, 54.535),
    ("slowfast_r50", {}, 32, 34.480, 36.099),
    ("slowfast_r50", {"tada": "2d"}, 32, 37.680, 36.109),
    ("slowfast_r50", {"alpha": 4}, 32, 34.566, 65.709),
    ("slowfast_r50", {"alpha": 4, "tada": "2d"}, 32, 37.767, 65.726),
]
CALIBRATED = [
    ("r3d_nano", {"tada": "3d"}),
    ("r2plus1d_nano", {"tada": "2d"}),
    ("r2plus1d_nano", {"tada": "2d+1d"}),
    ("slowonly_nano", {"tada": "2d"}),
    ("slowfast_nano", {"tada": "2d"}),
]
"""Every network with every value of `tada`."""


@pytest.fixture
def clip():
    return torch.randn(2, 3, 8, 48, 48, dtype=torch.float64)


@pytest.mark.parametrize(("name", "options", "num_frames", "params", "gmacs"), TABLE)
def test_size_and_cost_are_those_of_the_paper(name, options, num_frames, params, gmacs):
    with torch.device("meta"):
        model = kinema.create_model(name, **options)
    assert model.num_frames == num_frames
    cost = kinema.profile(model, (1, 3, num_frames, 256, 256))
    assert cost.params / 1e6 == pytest.approx(params, abs=5e-4)
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize(("name", "options"), CALIBRATED)
def test_at_first_a_calibrated_network_is_its_base(name, options, clip):
    torch.manual_seed(0)
    base = kinema.create_model(name, 7).double().eval()
    for module in base.modules():  # the last norm of some blocks starts at zero and would hide the branch
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.weight, mean=1, std=0.1)
    calibrated = kinema.create_model(name, 7, **options).double().eval()
    report = kinema.init_from(calibrated, base.state_dict())
    assert report.initial and all(".router." in tensor for tensor in report.initial)
    assert not report.refused and not report.inflated
    torch.testing.assert_close(calibrated(clip), base(clip), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CALIBRATED)
def test_calibration_leaves_the_initial_weights_as_they_are(name, options):
    models = []
    for given in ({}, options):
        torch.manual_seed(0)
        models.append(kinema.create_model(name, 7, **given).backbone)
    plain, calibrated = (sum(p.abs().sum() for n, p in m.named_parameters() if ".router." not in n) for m in models)
    assert plain == calibrated


@pytest.mark.parametrize(("name", "options"), CALIBRATED)
def test_the_calibration_counts(name, options, clip):
    """Another router's output moves the logits, in every calibrated layer."""
    model = kinema.create_model(name, 7, **options).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.ones_(module.weight)
    nn.init.normal_(model.head.fc.weight)
    before = model(clip)
    layers = [module for module in model.modules() if isinstance(module, TAdaLayer)]
    blocks = sum(module.__class__.__name__ == "ResBlock" for module in model.modules())
    assert len(layers) == (2 * blocks if options["tada"] == "2d+1d" else blocks)
    for layer in layers:
        # The router's ReLU may be closed for one clip; a bias in front of it opens it.
        nn.init.ones_(layer.router.norm.bias)
        nn.init.ones_(layer.router.to_cin.weight)
        assert (model(clip) - before).norm() > 1e-6 * before.norm()
        nn.init.zeros_(layer.router.to_cin.weight)


def test_convolutions_of_one_frame_are_calibrated_in_two_dimensions():
    kinds = {}
    for name, options in CALIBRATED:
        layers = [m for m in kinema.create_model(name, **options).modules() if isinstance(m, TAdaLayer)]
        kinds[name, options["tada"]] = {type(layer.conv) for layer in layers}
    assert kinds == {
        ("r3d_nano", "3d"): {TAdaConv3d},
        ("r2plus1d_nano", "2d"): {TAdaConv2d},
        ("r2plus1d_nano", "2d+1d"): {TAdaConv2d, TAdaConv3d},
        ("slowonly_nano", "2d"): {TAdaConv2d},
        ("slowfast_nano", "2d"): {TAdaConv2d},
    }


def test_options_of_the_calibration_reach_it():
    options = {"calibration": "cout", "routing": "attention", "routing_ratio": 2, "calibrated_stages": (3, 4)}
    model = kinema.create_model("slowfast_nano", tada="2d", **options)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, TAdaLayer)}
    stages = {(name.split(".")[1], name.split(".")[2]) for name in layers}
    assert stages == {(pathway, stage) for pathway in ("slow", "fast") for stage in ("layer3", "layer4")}
    assert {layer.conv.calibration for layer in layers.values()} == {"cout"}
    assert {type(layer.router).__name__ for layer in layers.values()} == {"AttentionRouting"}


def test_the_slow_pathway_sees_every_alpha_th_frame():
    model = kinema.create_model("slowfast_nano", 7, alpha=2).eval()
    seen = {}
    for pathway in ("slow", "fast"):
        model.backbone.get_submodule(pathway).stem.register_forward_pre_hook(
            lambda module, given, pathway=pathway: seen.update({pathway: given[0]})
        )
    clip = torch.randn(1, 3, 6, 32, 32)
    model(clip)
    # The rule of the authors' code, for which alpha divides the number of frames.
    indices = torch.linspace(0, 6, 6 // 2 + 1).floor().long()[:-1]
    assert torch.equal(seen["slow"], clip[:, :, indices])
    assert torch.equal(seen["fast"], clip)


def test_features_of_slowfast_are_those_of_both_pathways():
    model = kinema.create_model("slowfast_nano", width=8).eval()
    assert model.forward_features(torch.randn(2, 3, 8, 32, 32)).shape == (2, 32 * (8 + 4))


@pytest.mark.parametrize("name", ["r3d_nano", "r2plus1d_nano"])
def test_the_last_norm_of_a_block_starts_at_one_where_the_authors_start_it_there(name):
    for module in kinema.create_model(name).modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.weight.eq(1).all()


@pytest.mark.parametrize("name", ["slowonly_nano", "slowfast_nano"])
def test_and_at_zero_where_they_do_not(name):
    norms = dict(kinema.create_model(name).named_modules())
    zero = {name for name, module in norms.items() if isinstance(module, nn.BatchNorm3d) and not module.weight.any()}
    assert zero == {name for name in norms if name.endswith("norm_c")}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("r3d_r50", {"tada": "2d"}, "tada='2d' is nothing this network can take; give one of none, 3d"),
        ("r2plus1d_r50", {"tada": "3d"}, "give one of none, 2d, 2d\\+1d"),
        ("slowonly_r50", {"tada": "2d+1d"}, "give one of none, 2d"),
        ("slowfast_r50", {"tada": "yes"}, "give one of none, 2d"),
        ("r3d_nano", {"routing": "local"}, "routing was given, but tada='none' calibrates nothing; give tada='3d'"),
        ("slowfast_nano", {"num_frames": 6}, "num_frames=6 is no multiple of alpha=4"),
        ("slowfast_nano", {"fusion_kernel": 4}, "fusion_kernel=4 frames have no centre"),
        ("slowfast_nano", {"alpha": 0}, "alpha=0 is no number of frames"),
        ("slowfast_nano", {"width": 9}, "beta=2 does not divide width=9"),
        ("slowfast_nano", {"tada": "2d", "routing": "per_frame"}, "the pathways see two; give another"),
        ("slowonly_nano", {"tada": "2d", "calibrated_stages": (5,)}, "from 1 to 4"),
        ("r3d_nano", {"stem_frames": 2}, "stem_frames=2 has no frame in the middle"),
        ("slowonly_nano", {"aggregation": "avg"}, "has no option 'aggregation'"),
    ],
)
def test_what_no_network_can_be_built_from_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model(name, **options)


def test_a_clip_that_the_slow_pathway_cannot_share_is_refused():
    message = "sees every 4th frame and the clip has 6; give a clip whose number of frames is a multiple of 4"
    with pytest.raises(ValueError, match=message):
        kinema.create_model("slowfast_nano")(torch.randn(1, 3, 6, 32, 32))


def test_a_backbone_knows_its_stages():
    with pytest.raises(ValueError, match=r"no stage of this backbone is named \['layer5'\]"):
        R3D((1, 1, 1, 1), width=4, convolution_stages=["layer5"])
