"""Which frames are taken, what they weigh, and how long they took."""

from fractions import Fraction
from math import inf

import pytest
import torch

from kinema.data.published_sampling import PublishedIntervals
from kinema.data.sampling import Dense, Segments
from kinema.data.untrimmed.clip_grid import frames_apart
from kinema.streaming.latencies import Latencies
from kinema.streaming.pacing import Pacing, trained_rate
from kinema.streaming.smoothing import Smoothing


def taken(rate, times, fps=None):
    pacing = Pacing(None if rate is None else Fraction(rate), fps)
    return [number for number, time_s in enumerate(times) if pacing.takes(time_s)]


def test_frames_are_taken_by_their_times():
    thirtieths = [Fraction(number, 30) for number in range(300)]
    assert taken(None, thirtieths) == taken(30, thirtieths) == list(range(300))
    assert taken(10, thirtieths, Fraction(30)) == list(range(0, 300, 3)), "the nearest to each tick"
    assert taken(10, thirtieths) == [0, *range(2, 300, 3)], "none is late by more than half a tick"
    assert taken(30, thirtieths, Fraction(30)) == taken(60, thirtieths, Fraction(30)) == list(range(300))
    uneasy = [time_s + Fraction((-1) ** number, 75) for number, time_s in enumerate(thirtieths)]
    assert taken(30, uneasy, Fraction(30)) == list(range(300)), "off by 0.4 of the distance of two frames"
    assert len(taken(25, thirtieths)) == 250 and taken(60, thirtieths) == list(range(300))
    rounded = [Fraction(round(1000 * time_s), 1000) for time_s in thirtieths]
    assert taken(30, rounded) == list(range(300)), "milliseconds of Matroska"
    assert taken("30000/1001", [Fraction(1001 * number, 30000) for number in range(300)]) == list(range(300))
    uneven = [Fraction(0), Fraction(1, 100), Fraction(3, 10), Fraction(31, 100), Fraction(9, 10)]
    assert taken(5, uneven) == [0, 2, 4], "3/10 is as near to 2/5 as to 1/5"
    with pytest.raises(ValueError, match="a rate of 0"):
        Pacing(Fraction(0))


def test_the_rate_of_a_runs_clips():
    assert trained_rate(Segments(8), Fraction(25)) is None
    assert trained_rate(Dense(8, 5), Fraction(25)) == 5 and trained_rate(Dense(8, 5), None) is None
    assert trained_rate(Dense(8, 2, target_fps=12.5), Fraction(60)) == Fraction(25, 4)
    assert trained_rate(PublishedIntervals(8, 8, "tada", 30), None) == Fraction(30 * 7, 63)
    assert trained_rate(PublishedIntervals(1, 8, "tada"), Fraction(24)) == 3
    assert [frames_apart(scheme) for scheme in (Segments(8), Dense(8, 5), PublishedIntervals(16, 5, "tada", 30))] == [
        None,
        5,
        Fraction(79, 15),
    ]


@pytest.mark.parametrize("half_life", [0.0, 0.3, 2.0, inf])
def test_means_are_those_of_the_equation(half_life):
    smoothing = Smoothing(half_life)
    generator = torch.Generator().manual_seed(0)
    times = [0.0, 0.04, 0.5, 0.5, 2.0]
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    for _ in range(2):  # once more behind a reset
        for last in range(5):
            ages = [times[last] - times[i] for i in range(last)]
            weights = torch.tensor(
                [*(0.5 ** (age / half_life) if half_life else 0.0 for age in ages), 1.0], dtype=torch.float64
            )
            wanted = (weights[:, None] * logits[: last + 1]).sum(0) / weights.sum()
            (mean,) = smoothing([logits[last]], times[last])
            torch.testing.assert_close(mean, wanted)
        smoothing.reset()


def test_smoothing_keeps_classifiers_apart_and_refuses_nonsense():
    smoothing = Smoothing(inf)
    smoothing([torch.ones(2), torch.zeros(3)], 0)
    verbs, nouns = smoothing([torch.zeros(2), torch.ones(3)], 1)
    assert verbs.tolist() == [0.5, 0.5] and nouns.tolist() == [0.5] * 3
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="a half-life of"):
            Smoothing(wrong)


def test_percentiles_of_many_durations_in_little_memory():
    latencies = Latencies()
    assert latencies.percentile_ms(0.5) == 0
    for number in range(10_000):
        latencies.add(1 + number / 100)
    assert latencies.percentile_ms(0.5) == pytest.approx(51, rel=0.011)
    assert latencies.percentile_ms(0.99) == pytest.approx(100, rel=0.011)
    assert latencies.percentile_ms(0) == pytest.approx(1, rel=0.011)
    assert latencies.percentile_ms(1) <= latencies.longest_ms == pytest.approx(100.99)
    latencies.add(0)
    assert latencies.count == 10_001 and len(latencies._bins) < 600
