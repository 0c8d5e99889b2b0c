"""Windows over the features of a video."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinema.data.untrimmed.feature_files import FeatureError, FeatureFile
from kinema.data.untrimmed.windows import Window, Windows, in_bins, inside


def file(count, spacing=0.5, duration=None):
    centers = (torch.arange(count, dtype=torch.float64) + 0.5) * spacing
    features = torch.randn(count, 3)
    return FeatureFile(
        "a", features, centers - 1, centers, centers + 1, duration or count * spacing, 10.0, 10 * spacing, 20
    )


def test_windows_begin_every_hop_unless_little_is_left():
    windows = Windows(200, 100, 4 / 15)  # EPIC-KITCHENS-100: 53.3 s every 26.7 s
    assert [w.start for w in windows.of(60.0)] == pytest.approx([0, 26.6667, 53.3333], abs=1e-3)
    assert windows.of(60.0)[0].length == pytest.approx(53.3333, abs=1e-3)
    assert len(windows.of(80 / 3 + 0.19)) == 1 and len(windows.of(80 / 3 + 0.21)) == 2
    assert len(windows.of(80 / 3)) == 1 and len(windows.of(0.1)) == 1
    assert [w.start for w in Windows(10, 4, 1.0, 6).of(13.0)] == [0, 6, 12]


def test_without_a_bin_length_a_window_is_the_video():
    (window,) = Windows(100, 80).of(37.0)
    assert (window.start, window.end, window.bin_s) == (0.0, pytest.approx(37.0), 0.37)


def test_a_window_is_filled_up_with_zeros_and_interpolated():
    windows, features = Windows(5, 5, 1.0, placing="rows"), file(17)  # 8.5 s; a window of 5 s has 10 clips
    first, second = windows.of(8.5)
    assert second.start == 5
    for window, low in ((first, 0), (second, 10)):
        rows = np.zeros((10, 3))
        seen = features.features[low : low + 10].numpy()
        rows[: len(seen)] = seen
        wanted = [np.interp(np.linspace(0, 9, 5), range(10), rows[:, c]) for c in range(3)]
        np.testing.assert_allclose(windows.sample(features.features, features, window).numpy(), wanted, atol=1e-6)


def test_a_whole_video_is_stretched_and_never_filled_up():
    windows, features = Windows(7, 7, placing="rows"), file(4, duration=90.0)  # clips only at its beginning
    got = windows.sample(features.features, features, windows.of(90.0)[0])
    wanted = [np.interp(np.linspace(0, 3, 7), range(4), features.features[:, c].numpy()) for c in range(3)]
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6)
    one = file(1)
    assert torch.equal(windows.sample(one.features, one, windows.of(1.0)[0]), one.features.T.expand(3, 7))
    same = file(7)
    assert torch.equal(windows.sample(same.features, same, windows.of(3.5)[0]), same.features.T)


@pytest.mark.parametrize("windows", [Windows(6, 6, 1.0), Windows(6, 6), Windows(40, 20, 0.25)])
def test_a_bin_shows_what_lies_around_its_middle(windows):
    late = file(9)
    late = replace(late, **{name: getattr(late, name) + 2 for name in ("starts", "centers", "ends")}, duration=8.6)
    for window in windows.of(8.6):
        got = windows.sample(late.features, late, window).numpy()
        for i in range(window.num_bins):
            middle = window.start + (i + 0.5) * window.bin_s
            wanted = [np.interp(middle, late.centers, late.features[:, c]) for c in range(3)]
            behind = window.start + i * window.bin_s >= 8.6
            np.testing.assert_allclose(got[:, i], np.zeros(3) if behind else wanted, atol=1e-6)


def test_short_clips_are_placed_alike_by_time_and_by_rows():
    centers = torch.arange(7, 4000, 8, dtype=torch.float64) / 60  # EPIC-KITCHENS-100: every 8th of 60 frames a second
    ramp = FeatureFile("a", centers[:, None].float(), centers - 0.5, centers, centers + 0.5, 66.6, 60.0, 8, 64)
    by_time, by_rows = (Windows(200, 100, 4 / 15, placing=placing) for placing in ("time", "rows"))
    window = by_time.of(66.6)[0]
    shift = by_time.sample(ramp.features, ramp, window) - by_rows.sample(ramp.features, ramp, window)
    assert shift[:, :190].abs().max() < 0.5 * 4 / 15


def test_one_clip_is_seen_all_along():
    windows, one = Windows(4, 4), file(1)
    assert torch.equal(windows.sample(one.features, one, windows.of(0.5)[0]), one.features.T.expand(3, 4))


def test_windows_without_a_clip_are_told():
    windows, features = Windows(4, 4, 1.0), file(4, duration=20.0)
    assert windows.sample(features.features, features, windows.of(20.0)[2]) is None
    assert [w.start for w in windows.seen(features)] == [0] and windows.rows(features, windows.of(20.0)[2]) is None
    with pytest.raises(FeatureError, match="2 rows were given for 4 clips"):
        windows.sample(features.features[:2], features, windows.of(20.0)[0])


def test_a_window_is_seen_where_its_placing_can_tell_what_it_shows():
    seconds = torch.arange(1.28, 20, 2.56, dtype=torch.float64)  # 64 frames of 25 per second
    clips = FeatureFile("a", torch.randn(8, 1), seconds - 1.28, seconds, seconds + 1.28, 20.48, 25.0, 64, 64)
    edges = Windows(16, 16, 0.1)
    assert len(edges.seen(clips)) == len(edges.of(20.48)) == 13
    for window in edges.seen(clips):
        assert edges.sample(clips.features, clips, window).isfinite().all()
    middles = Windows(16, 16, 0.1, placing="rows")
    assert [w.start for w in middles.seen(clips)] == [w.start for w in middles.of(20.48) if held(clips, w)]
    assert len(middles.seen(clips)) == 8
    short = replace(clips, starts=seconds - 0.1, ends=seconds + 0.1)
    assert 8 <= len(edges.seen(short)) < 13, "between two short clips nothing is known"


def held(clips, window):
    return bool(((clips.centers >= window.start) & (clips.centers < window.end)).any())


@pytest.mark.parametrize("placing", ["time", "rows"])
@pytest.mark.parametrize("windows", [Windows(6, 6, 1.0), Windows(6, 6), Windows(40, 20, 0.25), Windows(3, 3, 0.4)])
def test_a_window_is_made_of_its_rows_alone(windows, placing):
    windows = replace(windows, placing=placing)
    for features in (file(40), file(1), file(2)):
        for window in windows.seen(features):
            rows = windows.rows(features, window)
            others = torch.full_like(features.features, float("nan"))
            others[rows] = features.features[rows]
            wanted = windows.sample(features.features, features, window)
            assert torch.equal(windows.sample(others, features, window), wanted)
            assert torch.equal(windows.place(features.features[rows], features, window), wanted)
    if windows.bin_s is not None:
        assert rows.stop - rows.start < 40


def test_only_whole_segments_count_in_bins_of_the_window():
    window = Window(10.0, 0.5, 20)  # 10 to 20 s
    segments = torch.tensor(
        [[11.0, 12.0], [9.0, 12.0], [15.0, 20.005], [15.0, 20.1], [10.0, 20.0]], dtype=torch.float64
    )
    assert inside(segments, window).tolist() == [True, False, True, False, True]
    bins = in_bins(segments[inside(segments, window)], window)
    assert bins.tolist() == [[2, 4], [10, 20], [0, 20]]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"num_bins": 10, "max_bins": 11}, "give 1 to 10"),
        ({"max_bins": 0}, "give 1 to 100"),
        ({"bin_s": 0.0}, "no length in seconds"),
        ({"bin_s": 1.0, "hop_bins": 101}, "leaves gaps"),
        ({"bin_s": 1.0, "hop_bins": 0}, "leaves gaps"),
    ],
)
def test_windows_that_cannot_be_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Windows(**options)
