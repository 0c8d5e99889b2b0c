"""The laws that every temporal operator keeps, each operator listed once with the laws that are its own."""

import copy
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.feature_calibration import FeatureCalibration
from kinema.operators.nonlocal_block import AFFINITIES, NonLocalBlock
from kinema.operators.protocol import StreamingMixer, TemporalMixer
from kinema.operators.shift import TemporalShift
from kinema.operators.tada_layer import calibrate
from kinema.operators.temporal_conv import TemporalConv
from kinema.operators.temporal_pool import TemporalMaxPool
from kinema.testing import (
    assert_causal,
    assert_close_in_bfloat16,
    assert_deterministic,
    assert_exports,
    assert_gradients_are_exact,
    assert_gradients_reach_every_parameter,
    assert_identity,
    assert_order_ignored,
    assert_order_matters,
    assert_streams,
)

CHANNELS = 8


@dataclass(frozen=True)
class Case:
    """An operator and what it promises beyond the laws of all."""

    operator: nn.Module
    causal: bool = False
    sees_order: bool = True
    starts_as_identity: bool = False
    halves_frames: bool = False
    fresh: nn.Module = field(init=False)
    """The operator as it was built; other laws move its values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fresh", copy.deepcopy(self.operator))

    def moved(self) -> nn.Module:
        """The operator off its initial values: the identity keeps most laws idly."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a router whose few ReLUs are all silent says nothing of order
            for parameter in self.operator.parameters():
                nn.init.normal_(parameter, std=0.5)
        return self.operator


CASES = {
    **{f"shift {fraction}": Case(TemporalShift(CHANNELS, fraction=fraction)) for fraction in (1 / 4, 1 / 2, 1)},
    **{
        f"causal shift {fraction}": Case(TemporalShift(CHANNELS, fraction=fraction, causal=True), causal=True)
        for fraction in (1 / 4, 1 / 2, 1)
    },
    **{
        f"non-local {affinity}": Case(
            NonLocalBlock(CHANNELS, affinity=affinity), starts_as_identity=True, sees_order=False
        )
        for affinity in AFFINITIES
    },
    "calibrated convolution": Case(calibrate(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), ratio=2)),
    "calibrated on both sides": Case(
        calibrate(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), calibration="cin+cout", calibrate_bias=True, ratio=2)
    ),
    "calibrated by attention": Case(
        calibrate(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), routing="attention", ratio=2, head_dim=2)
    ),
    "calibrated 3-D convolution": Case(calibrate(nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1), ratio=2)),
    "causal calibrated convolution": Case(
        calibrate(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), routing="causal", calibrate_bias=True), causal=True
    ),
    **{
        f"convolution calibrated from the past, {routing}": Case(
            calibrate(
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                routing=routing,
                causal=True,
                num_frames=3,
                ratio=2,
                kernels=(3, 2),
            ),
            causal=True,
        )
        for routing in ("linear", "local", "clip", "global", "local_global", "local_global_ln")
    },
    "calibration of features": Case(FeatureCalibration(CHANNELS, ratio=2)),
    "temporal aggregation": Case(
        TemporalAggregation(nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS)), sees_order=False
    ),
    **{
        f"causal temporal aggregation, {pooling} of {kernel}": Case(
            TemporalAggregation(
                nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS), pooling=pooling, kernel=kernel, causal=True
            ),
            causal=True,
        )
        for pooling, kernel in (("avg", 3), ("max", 2), ("avg+max", 4))
    },
    "causal temporal aggregation, one norm": Case(
        TemporalAggregation(nn.BatchNorm2d(CHANNELS), None, causal=True), causal=True
    ),
    **{
        f"{'depthwise' if depthwise else 'full'} temporal convolution": Case(
            TemporalConv(CHANNELS, depthwise=depthwise), starts_as_identity=True
        )
        for depthwise in (True, False)
    },
    "causal temporal convolution": Case(TemporalConv(CHANNELS, causal=True), starts_as_identity=True, causal=True),
    "temporal pool": Case(TemporalMaxPool(), halves_frames=True),
}


def cases(condition=lambda case: True):
    return pytest.mark.parametrize("name", [name for name, case in CASES.items() if condition(case)])


@pytest.fixture
def clip():
    return torch.randn(2, CHANNELS, 5, 4, 6)


@cases(lambda case: not case.halves_frames)
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_a_mixer_keeps_the_shape_of_a_clip_of_any_length(name, num_frames):
    operator = CASES[name].operator
    assert isinstance(operator, TemporalMixer)
    assert operator(torch.randn(2, CHANNELS, num_frames, 4, 6)).shape == (2, CHANNELS, num_frames, 4, 6)


@cases(lambda case: case.sees_order and not case.halves_frames)
def test_frame_order_matters(name, clip):
    assert_order_matters(CASES[name].moved(), clip)


@cases(lambda case: not case.sees_order)
def test_attention_without_positions_takes_frames_as_a_set(name, clip):
    assert_order_ignored(CASES[name].moved(), clip)


@cases(lambda case: case.causal)
def test_the_future_is_ignored(name, clip):
    assert_causal(CASES[name].operator, clip)


@cases(lambda case: case.causal)
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_stepping_equals_forward(name, num_frames):
    assert isinstance(CASES[name].operator, StreamingMixer)
    assert_streams(CASES[name].operator, torch.randn(2, CHANNELS, num_frames, 4, 6), tolerance=1e-6)


@cases(lambda case: case.starts_as_identity)
def test_starts_as_the_identity(name, clip):
    assert_identity(CASES[name].fresh.eval(), clip)


@cases()
def test_the_gradient_is_exact(name):
    assert_gradients_are_exact(CASES[name].moved(), torch.randn(1, CHANNELS, 3, 2, 2))


@cases()
def test_gradients_reach_every_parameter(name, clip):
    assert_gradients_reach_every_parameter(CASES[name].operator, clip)


@cases()
def test_calls_agree(name, clip):
    assert_deterministic(CASES[name].moved(), clip)


@cases()
def test_bfloat16_stays_near(name, clip):
    assert_close_in_bfloat16(CASES[name].moved(), clip)


@cases()
def test_exports(name, clip):
    assert_exports(CASES[name].moved(), clip)
