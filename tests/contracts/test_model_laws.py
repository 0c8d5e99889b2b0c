"""The laws that every named network keeps."""

import pytest
import torch

import kinema
from kinema.models import MODELS
from kinema.testing import (
    assert_causal,
    assert_close_in_bfloat16,
    assert_deterministic,
    assert_exports,
    assert_gradients_reach_every_parameter,
    assert_order_ignored,
    assert_order_matters,
)

FRAME_WISE = [name for name in MODELS if name.startswith("tsn_")]
TEMPORAL = [name for name in MODELS if name not in FRAME_WISE and name != "tadaformer_l14"]
"""TAdaFormer-L/14 is B/16 for three times as long, and takes no frames of 64 pixels."""
CAUSAL = [name for name in TEMPORAL if name.startswith("tsm_")]
VARIANTS = [
    ("tsm_nano", {"placement": "in_place"}),
    ("tsm_nano", {"non_local": "embedded_gaussian"}),
    ("tsm_nano", {"temporal_pool": True}),
    ("tsm_nano", {"temporal_pool": True, "non_local": "dot_product", "placement": "in_place"}),
    ("tsm_nano", {"causal": True}),
    ("tsm_nano", {"num_classes": (3, 4)}),
    ("tsn_nano", {"non_local": "gaussian"}),
    ("tada2d_nano", {"calibration": "cout", "routing": "attention", "aggregation": "avg+max"}),
    ("tada2d_nano", {"calibration": "cin+cout", "routing": "static", "aggregation_norm": "shared"}),
    ("tada2d_nano", {"calibration": "cin+cout+kernel", "calibrated_fraction": 0.5, "aggregation": "none"}),
    ("tada2d_nano", {"non_local": "embedded_gaussian", "calibrated_stages": (3, 4)}),
    ("tadaconvnext_nano", {"calibration": "cin", "routing": "local", "aggregation": "avg"}),
    ("tadaconvnextv2_nano", {"calibrated_fraction": 0.5, "aggregation": "max"}),
    ("tadaformer_nano", {"enhanced": True}),
    ("timesformer_rotary_nano", {"token_shift": True, "rotary_layout": "reference"}),
    ("timesformer_rotary_nano", {"rotary": False}),
    ("r3d_nano", {"tada": "3d"}),
    ("r2plus1d_nano", {"tada": "2d+1d"}),
    ("slowonly_nano", {"tada": "2d"}),
    ("uniformer_nano", {"split": True, "layer_scale": 0.1, "representation_size": 24}),
    ("uniformer_nano", {"std": True, "stage_types": "GLGL", "dpe": False}),
    ("uniformer_nano", {"light": True, "depths": (1, 1, 3, 2)}),
    ("slowfast_nano", {"tada": "2d", "routing": "linear"}),  # the routers of its fast pathway have one ReLU each
]
NEEDS = {"slowfast_r50": {"alpha": 4}}
"""Clips here have four frames, and SlowFast takes whole multiples of its alpha."""


def of(names):
    """The networks small enough for every law; those of full size run the code of the nano ones, for longer."""
    quick = {"tsn_r18", "tsn_r50", "tsn_mobilenetv2", "tsm_r18", "tsm_r50", "tsm_mobilenetv2"}
    quick |= {name for name in MODELS if name.endswith("_nano")}
    return [
        pytest.param(name, marks=pytest.mark.slow if name.endswith("_r101") else [])
        for name in names
        if name in quick or name.endswith("_r101")
    ]


ALL = [pytest.param(*param.values, {}, marks=param.marks) for param in of(FRAME_WISE + TEMPORAL)] + VARIANTS


QUICKLY_COMPILED = [
    ("tsm_nano", {"placement": "in_place"}),
    ("tada2d_nano", {}),
    ("tadaformer_nano", {"enhanced": True}),
]
COMPILED = QUICKLY_COMPILED + [
    pytest.param(*variant, marks=pytest.mark.slow) for variant in VARIANTS if variant not in QUICKLY_COMPILED
]
"""Tracing takes longer than all other laws together."""


def ids(value):
    return value if isinstance(value, str) else " ".join(f"{key}={value[key]}" for key in value) or "as named"


def build(name, **options):
    """Classes few and weights in the classifier large enough to be seen through it."""
    torch.manual_seed(0)
    model = kinema.create_model(name, **{"num_classes": 5, **NEEDS.get(name, {}), **options}).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    for (
        key,
        parameter,
    ) in model.backbone.named_parameters():  # calibration starts as the identity, which keeps laws idly
        if parameter.abs().max() < 1e-5:  # a layer scale likewise, and an embedding of time
            torch.nn.init.normal_(parameter, std=1.0 if key == "time_embed" else 0.01)
    return model


@pytest.fixture
def clip():
    """Small, as the laws hold at any size: the last maps of a deep network are one or two pixels wide."""
    return torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "options"), ALL, ids=ids)
@pytest.mark.parametrize("num_frames", [1, 5])
def test_a_clip_of_any_length_is_taken(name, options, num_frames):
    num_frames *= 4 if name.startswith("slowfast_") else 1
    logits = build(name, **options)(torch.randn(2, 3, num_frames, 64, 64))
    sizes = [tuple(head.shape) for head in (logits if isinstance(logits, tuple) else (logits,))]
    assert sizes == [(2, 3), (2, 4)] if "num_classes" in options else sizes == [(2, 5)]


@pytest.mark.parametrize("name", of(TEMPORAL))
def test_frame_order_matters(name, clip):
    assert_order_matters(build(name), clip)


@pytest.mark.parametrize("placement", ["residual", "in_place"])
@pytest.mark.parametrize("causal", [False, True])
def test_frame_order_matters_wherever_the_shift_stands(placement, causal, clip):
    assert_order_matters(build("tsm_nano", placement=placement, causal=causal), clip)


@pytest.mark.parametrize("name", of(FRAME_WISE))
def test_frame_order_does_not_matter_without_an_operator(name, clip):
    assert_order_ignored(build(name), clip)


def test_a_shift_of_nothing_is_a_frame_wise_network(clip):
    assert_order_ignored(build("tsm_nano", shift_fraction=0), clip)


class PerFrame(torch.nn.Module):
    """Scores of every frame, as (B, K, T, 1, 1), so that causality can be asked of them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, clip):
        return self.model(clip).transpose(1, 2)[..., None, None]


@pytest.mark.parametrize("placement", ["residual", "in_place"])
@pytest.mark.parametrize("name", of(CAUSAL))
def test_a_causal_network_ignores_the_future(name, placement, clip):
    assert_causal(PerFrame(build(name, causal=True, placement=placement, consensus="identity")), clip)


def test_a_two_way_network_does_not(clip):
    with pytest.raises(AssertionError):
        assert_causal(PerFrame(build("tsm_nano", consensus="identity")), clip)


@pytest.mark.parametrize(("name", "options"), ALL, ids=ids)
def test_gradients_reach_every_parameter(name, options, clip):
    assert_gradients_reach_every_parameter(build(name, **options), clip)


@pytest.mark.parametrize(("name", "options"), ALL, ids=ids)
def test_evaluation_is_deterministic(name, options, clip):
    assert_deterministic(build(name, **options), clip)


@pytest.mark.parametrize(("name", "options"), ALL, ids=ids)
def test_bfloat16_stays_near(name, options, clip):
    assert_close_in_bfloat16(build(name, **options), clip, tolerance=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), ALL, ids=ids)
def test_exports(name, options, clip):
    assert_exports(build(name, **options), clip[:1], tolerance=1e-5)


@pytest.mark.parametrize(("name", "options"), COMPILED, ids=ids)
def test_compiles_whole(name, options, clip):
    """Without code generation: what counts here is that one graph holds it all and equals the network.

    In training for all; evaluation of the variants is traced whole by `test_exports` already.
    """
    torch.compiler.reset()  # it remembers the networks of other tests, and gives up at the ninth
    shallow = {"depth": 2} if "depth" in kinema.list_options(name) else {}  # tracing takes its time for every block
    model = build(name, **shallow, **options)
    model.head.dropout.p = 0.0
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for training in (False, True) if (name, options) in QUICKLY_COMPILED else (True,):
        model.train(training)
        torch.testing.assert_close(compiled(clip), model(clip), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("_nano")])
def test_each_full_size_runs(name):
    size = 224 if name.startswith("tadaformer") else 64
    model = kinema.create_model(name, 5, **NEEDS.get(name, {})).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 4, size, size))
    assert logits.shape == (1, 5) and logits.isfinite().all()
