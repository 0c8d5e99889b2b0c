"""Timing side by side: order, ratios, memory, and what is refused. No test here asks a clock how fast anything is."""

import gc
import itertools
from typing import ClassVar

import pytest
import torch
from torch import nn

from kinema.evaluation import latency
from kinema.evaluation.latency import LatencyRow, compare_latency, latency_table
from kinema.memory_format import to_channels_last

SHAPE = (2, 3, 4, 8, 8)


class Counting(nn.Module):
    """Says who ran when, and how."""

    log: ClassVar[list] = []  # shared by the copies that are timed

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, clip):
        self.log.append((self.name, self.training, torch.is_grad_enabled(), clip.dtype, torch.get_num_threads()))
        return clip.mean(dim=(1, 2, 3, 4)) * self.weight


class Compiled(nn.Module):
    """Cannot be called otherwise."""

    def forward(self, clip):
        if not torch.compiler.is_compiling():
            raise RuntimeError("its code runs, and not what was made from it")
        return clip.sigmoid() * 2


@pytest.fixture
def log():
    Counting.log.clear()
    return Counting.log


@pytest.fixture
def clock(monkeypatch):
    """A clock on which every call takes the milliseconds that the test lists."""

    def install(durations):
        ticks = itertools.chain.from_iterable((0.0, duration / 1e3) for duration in durations)
        monkeypatch.setattr(latency.time, "perf_counter", lambda: next(ticks))

    return install


def test_rounds_are_interleaved_and_turned_around(log):
    models = {name: Counting(name) for name in "abc"}
    rows = compare_latency(models, SHAPE, rounds=3, warmup=1)
    order = "".join(name for name, *_ in log)
    assert order == "abc" + "cba" + "abc" + "cba" + "abc"  # the last three measure memory
    assert [row.name for row in rows] == ["a", "b", "c"]
    assert all(len(row.times_ms) == 3 for row in rows)


def test_what_was_there_before_is_no_garbage_of_a_call(log, monkeypatch):
    """Collecting looks at what calls leave, not at every module each time; what somebody else has set aside stays so."""
    frozen = []
    monkeypatch.setattr(latency, "_wait", lambda device: frozen.append(gc.get_freeze_count()))
    compare_latency({"a": Counting("a")}, SHAPE, rounds=1, warmup=0)
    assert min(frozen) > 10_000 and gc.get_freeze_count() == 0 and gc.isenabled()
    gc.freeze()
    try:
        compare_latency({"a": Counting("a")}, SHAPE, rounds=1, warmup=0)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_ratios_are_taken_within_a_round(log, clock):
    """A machine that slows down from 10 ms to 100 ms: the ratio is 1.5 in every round all the same."""
    clock([10, 15, 30, 20, 100, 150])  # a b, b a, a b
    a, b = compare_latency({"a": Counting("a"), "b": Counting("b")}, SHAPE, rounds=3, warmup=0)
    assert a.times_ms == pytest.approx((10, 20, 100))
    assert b.times_ms == pytest.approx((15, 30, 150))
    assert (a.ratio, a.ratio_low, a.ratio_high) == (1, 1, 1)
    assert (b.ratio, b.ratio_low, b.ratio_high) == pytest.approx((1.5, 1.5, 1.5))
    assert b.median_ms == pytest.approx(30)
    assert b.clips_per_s == pytest.approx(2 / 0.030)


def test_the_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians(log, clock):
    """One round of three was disturbed while the second network ran."""
    clock([10, 30, 22, 20, 100, 110])  # a b, b a, a b
    _, b = compare_latency({"a": Counting("a"), "b": Counting("b")}, SHAPE, rounds=3, warmup=0)
    assert b.ratio == pytest.approx(1.1)


def test_the_spread_is_that_of_the_ratios(log, clock):
    clock([10, 10, 20, 10, 10, 30, 40, 10, 10, 50])  # a b, b a, a b, b a, a b
    _, b = compare_latency({"a": Counting("a"), "b": Counting("b")}, SHAPE, rounds=5, warmup=0)
    assert (b.ratio_low, b.ratio, b.ratio_high) == pytest.approx((2, 3, 4))


def test_another_baseline(log, clock):
    clock([10, 20])
    rows = compare_latency({"a": Counting("a"), "b": Counting("b")}, SHAPE, rounds=1, warmup=0, baseline="b")
    assert [row.ratio for row in rows] == pytest.approx([0.5, 1])


@pytest.mark.parametrize(("mode", "training"), [("forward", False), ("forward_backward", True)])
def test_modes(mode, training, log):
    compare_latency({"a": Counting("a")}, SHAPE, mode=mode, rounds=1, warmup=0, dtype=torch.bfloat16)
    assert {entry[1:4] for entry in log} == {(training, training, torch.bfloat16)}


def test_threads_are_set_for_the_comparison_alone(log):
    before = torch.get_num_threads()
    compare_latency({"a": Counting("a")}, SHAPE, rounds=1, warmup=0, num_threads=before + 1)
    assert {entry[4] for entry in log} == {before + 1}
    assert torch.get_num_threads() == before


def test_networks_stay_as_they_are(log):
    model = Counting("a").train()
    compare_latency({"a": model}, SHAPE, mode="forward", rounds=1)
    compare_latency({"a": model}, SHAPE, mode="forward_backward", rounds=1)
    assert model.training and model.weight.grad is None


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_reaches_the_convolutions(channels_last):
    seen = []

    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, clip):
            seen.append(self.conv.weight.is_contiguous(memory_format=torch.channels_last))
            return self.conv(clip[:, :, 0])

    compare_latency({"a": Frames()}, SHAPE, rounds=1, channels_last=channels_last)
    assert set(seen) == {channels_last}


def test_channels_last_reaches_kernels_over_frames_too():
    class Clips(nn.Module):
        def __init__(self):
            super().__init__()
            self.over_clips, self.over_frames = nn.Conv3d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
            self.calibrated = nn.Parameter(torch.ones(1, 1, 4, 4, 3, 3))

        def forward(self, clip):
            return self.over_frames(self.over_clips(clip)[:, :, 0])

    network = Clips()
    wanted = {name: value.clone() for name, value in network.state_dict().items()}
    to_channels_last(network)
    assert network.over_clips.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert network.over_frames.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())
    rows = compare_latency({"a": Clips()}, SHAPE, mode="forward_backward", rounds=1, warmup=0, channels_last=True)
    assert [row.name for row in rows] == ["a"]


def test_any_callable_can_be_timed():
    rows = compare_latency({"sum": torch.sum, "square": lambda clip: clip**2}, SHAPE, rounds=2)
    assert all(row.median_ms > 0 for row in rows)


def test_peak_memory_is_what_is_held_at_once():
    """Two clips' worth are alive together at the third addition, though four are made in total."""
    mib = 2 * 3 * 4 * 256 * 256 * 4 / 2**20
    one, two = compare_latency(
        {"one": lambda clip: clip + 1, "chain": lambda clip: (((clip + 1) + 1) + 1) + 1}, (2, 3, 4, 256, 256), rounds=1
    )
    assert one.peak_memory_mib == pytest.approx(mib, rel=0.01)
    assert two.peak_memory_mib == pytest.approx(2 * mib, rel=0.01)


def test_the_table_can_be_read():
    rows = [
        LatencyRow("tsn_r50", 100.0, 10.0, 1.0, 1.0, 1.0, 86.2, ()),
        LatencyRow("b", 104.0, 9.6, 1.04, 1.03, 1.05, 90, ()),
    ]
    lines = latency_table(rows).splitlines()
    assert lines[0].split() == ["network", "ms", "clips/s", "ratio", "quartiles", "MiB"]
    assert lines[2].split() == ["b", "104.0", "9.60", "1.040", "1.030", "-", "1.050", "90"]


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ({}, {}, "none of the networks"),
        ({"a": Counting("a")}, {"baseline": "b"}, r"baseline='b' is none of the networks \['a'\]"),
        ({"a": Counting("a")}, {"mode": "backward"}, "mode='backward' is unknown"),
        ({"a": Counting("a")}, {"rounds": 0}, "give at least one round"),
        ({"a": torch.sum}, {"mode": "forward_backward"}, "nothing to differentiate"),
    ],
)
def test_what_cannot_be_timed_is_refused(models, options, message):
    with pytest.raises(ValueError, match=message):
        compare_latency(models, SHAPE, **options)


@pytest.mark.slow
def test_a_compiled_network_is_timed():
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match="its code runs"):
        compare_latency({"a": Compiled()}, SHAPE, rounds=1)
    (row,) = compare_latency({"a": Compiled()}, SHAPE, rounds=3, compile=True)
    assert len(row.times_ms) == 3


def test_compilation_without_a_compiler_is_refused_before_anything_runs(monkeypatch, log):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler on the CPU .* install g\+\+, set CXX"):
        compare_latency({"a": Counting("a")}, SHAPE, compile=True)
    assert not log


def test_networks_may_take_clips_of_their_own():
    seen = {}

    def network(name):
        return lambda clip: seen.update({name: tuple(clip.shape)}) or clip.mean()

    shapes = {"short": (1, 3, 2, 8, 8), "long": (4, 3, 5, 8, 8)}
    rows = compare_latency({name: network(name) for name in shapes}, shapes, rounds=1, warmup=0)
    assert seen == shapes
    assert rows[1].clips_per_s == pytest.approx(4e3 / rows[1].median_ms)
