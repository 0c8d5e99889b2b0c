"""The papers' own frame numbers: worked by hand, or by the arithmetic of their code in floats."""

import random
from fractions import Fraction
from math import floor

import pytest

from kinema.data.published_sampling import PublishedIntervals, PublishedSegments
from kinema.data.sampling import Dense, Segments, draw_clips, frame_scheme

FPS = Fraction(30)


def draw(scheme, frames, fps=FPS, **options):
    options.setdefault("kind", "constant_clips_per_video")
    sample = frames if isinstance(frames, range) else range(frames)
    return draw_clips(scheme, sample, fps=fps, rng=random.Random(options.pop("seed", 0)), **options)


def indices(scheme, frames, **options):
    return [clip.indices for clip in draw(scheme, frames, **options)]


class TestTAda:
    def test_frames_of_8x8_are_9_apart_and_those_of_16x5_5_27(self):
        (clip,) = indices(PublishedIntervals(8, 8, "tada", 30), 64)
        assert clip == [0, 9, 18, 27, 36, 45, 54, 63]
        (clip,) = indices(PublishedIntervals(16, 5, "tada", 30), 80)
        assert clip == [floor(79 * i / 15) for i in range(16)]
        assert clip[-1] == 79 and clip[:4] == [0, 5, 10, 15] and clip[4] == 21

    def test_a_single_clip_is_central_and_several_never_reach_the_end(self):
        scheme = PublishedIntervals(8, 8, "tada", 30)
        assert indices(scheme, 300) == [[118 + 9 * i for i in range(8)]]
        starts = [clip[0] for clip in indices(scheme, 300, num_clips=10)]
        assert starts == [floor(236 * i / 10) for i in range(10)] == [0, 23, 47, 70, 94, 118, 141, 165, 188, 212]

    @pytest.mark.parametrize(
        ("fps", "target", "spacing"), [(60, 30, 127 / 7), (30, 60, 31 / 7), (25, 30, (160 / 3 - 1) / 7)]
    )
    def test_the_window_is_rescaled_to_the_rate_of_the_video(self, fps, target, spacing):
        scheme = PublishedIntervals(8, 8, "tada", target)
        (clip,) = draw(scheme, 10 * fps, Fraction(fps), num_clips=1)
        begin = (10 * fps - 64 * fps / target) / 2
        assert clip.indices == [floor(begin + i * spacing + 1e-9) for i in range(8)]
        assert clip.end - clip.start == Fraction(64, target)

    def test_a_short_video_ends_with_its_last_frame_again_and_again(self):
        assert indices(PublishedIntervals(8, 8, "tada", 30), 40) == [[0, 9, 18, 27, 36, 39, 39, 39]]

    def test_training_begins_anywhere_in_the_free_part(self):
        scheme = PublishedIntervals(4, 5, "tada", 30)
        clips = [draw(scheme, 25, kind="random", seed=seed)[0] for seed in range(300)]
        # 20 of 25 frames: a real number from 0 to 5, so frame 5 is the last to begin with only by chance.
        assert {clip.indices[0] for clip in clips} == {0, 1, 2, 3, 4}
        assert len({clip.start for clip in clips}) == 300
        assert {clip.indices[-1] - clip.indices[0] for clip in clips} == {19}

    def test_segments_round_to_even_and_two_clips_are_middles_and_ends(self):
        # 20 frames, 8 segments of 2.5: middles 1.25, 3.75, 6.25, ...
        assert indices(PublishedSegments(8, "tada"), 20) == [[1, 4, 6, 9, 11, 14, 16, 19]]
        middles, ends = indices(PublishedSegments(8, "tada"), 20, num_clips=2)
        assert middles == [1, 4, 6, 9, 11, 14, 16, 19]
        assert ends == [2, 5, 8, 10, 12, 15, 18, 19]  # 2.5 and 12.5 round down, 7.5 and 17.5 up; 20 is beyond the video

    def test_segments_of_three_clips_end_with_the_ends(self):
        clips = indices(PublishedSegments(2, "tada"), 12, num_clips=3)
        assert clips == [[2, 8], [4, 10], [6, 11]]

    def test_training_takes_what_a_real_number_in_the_segment_rounds_to(self):
        seen = [set(), set()]
        for seed in range(400):
            (clip,) = indices(PublishedSegments(2, "tada"), 6, kind="random", seed=seed)
            for frames, frame in zip(seen, clip, strict=True):
                frames.add(frame)
        assert seen == [{0, 1, 2, 3}, {3, 4, 5}]


class TestTimeSformer:
    def test_a_single_clip_starts_with_the_video(self):
        (clip,) = draw(PublishedIntervals(8, 32, "timesformer", 30), 300)
        assert clip.indices == [floor(255 * i / 7) for i in range(8)] == [0, 36, 72, 109, 145, 182, 218, 255]
        assert clip.end - clip.start == Fraction(256, 30)  # 8.5 s

    def test_several_clips_are_fractions_of_the_free_time(self):
        clips = indices(PublishedIntervals(8, 32, "timesformer", 30), 300, num_clips=4)
        assert [clip[0] for clip in clips] == [0, 11, 22, 33]

    def test_segments_share_their_borders_and_take_the_middle(self):
        # (40 - 1) / 8 = 4.875: borders 0, 5, 10, 15, 20, 24, 29, 34, 39 (19.5 to 20, 24.375 to 24)
        assert indices(PublishedSegments(8, "timesformer"), 40) == [[2, 7, 12, 17, 22, 26, 31, 36]]
        borders = [0, 5, 10, 15, 20, 24, 29, 34, 39]
        drawn = [indices(PublishedSegments(8, "timesformer"), 40, kind="random", seed=seed)[0] for seed in range(200)]
        for i in range(8):
            assert {clip[i] for clip in drawn} == set(range(borders[i], borders[i + 1] + 1))


class TestUniFormer:
    def test_clips_are_whole_steps_apart_without_regard_to_the_rate(self):
        scheme = frame_scheme("dense", 16, 4, rounding="uniformer")
        clips = indices(scheme, 300, fps=Fraction(60), num_clips=4)
        assert [clip[0] for clip in clips] == [0, 78, 156, 234]  # (300 - 64) // 3
        assert [frame - 78 for frame in clips[1]] == [floor(63 * i / 15) for i in range(16)]
        assert indices(scheme, 301)[0][0] == 118  # 237 // 2

    def test_segments_of_one_and_of_two_clips(self):
        scheme = PublishedSegments(8, "uniformer")
        borders = [0, 5, 10, 15, 20, 24, 29, 34]
        assert indices(scheme, 40) == [[border + 2 for border in borders]]  # 4.875 / 2 = 2.4
        first, second = indices(scheme, 40, num_clips=2)
        assert first == [border + 1 for border in borders]  # 1.625
        assert second == [border + 3 for border in borders]  # 3.25


class TestTSM:
    @pytest.mark.parametrize("frames", [3, 7, 8, 20, 40, 63, 301])
    def test_test_frames_and_the_two_clips(self, frames):
        tick = frames / 8
        centre, start = indices(PublishedSegments(8, "tsm"), frames, num_clips=2)
        assert centre == [int(tick / 2 + tick * i) for i in range(8)] == indices(PublishedSegments(8, "tsm"), frames)[0]
        assert start == [int(tick * i) for i in range(8)]

    def test_training_takes_frame_0_alone_of_a_short_video_and_random_frames_of_equal_segments(self):
        scheme = PublishedSegments(8, "tsm")
        assert indices(scheme, 7, kind="random") == [[0] * 8]
        seen = [indices(scheme, 23, kind="random", seed=seed)[0] for seed in range(100)]
        assert [{clip[i] for clip in seen} for i in range(8)] == [{2 * i, 2 * i + 1} for i in range(8)]

    def test_more_than_two_clips_are_refused(self):
        with pytest.raises(ValueError, match="one or two clips of a video, 3 were asked for"):
            draw(PublishedSegments(8, "tsm"), 40, num_clips=3)


class TestEveryCode:
    SCHEMES = tuple(
        [PublishedSegments(8, code) for code in ("tsm", "tada", "timesformer", "uniformer")]
        + [PublishedIntervals(8, 8, code) for code in ("tada", "timesformer", "uniformer")]
    )

    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    @pytest.mark.parametrize("frames", [1, 2, 7, 9, 64, 65, 1000])
    @pytest.mark.parametrize("kind", ["random", "constant_clips_per_video"])
    def test_frames_lie_in_the_video_in_order(self, scheme, frames, kind):
        for seed in range(5):
            clips = draw(scheme, frames, kind=kind, num_clips=2, seed=seed)
            assert [clip.index for clip in clips] == ([0] if kind == "random" else [0, 1])
            for clip in clips:
                assert len(clip.indices) == 8 and clip.indices == sorted(clip.indices)
                assert clip.indices[0] >= 0 and clip.indices[-1] < frames

    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    def test_draws_follow_from_the_generator_alone_and_stay_within_the_sample(self, scheme):
        sample = range(60, 150)
        drawn = [indices(scheme, sample, seed=seed, kind="random")[0] for seed in range(10)]
        assert drawn == [indices(scheme, sample, seed=seed, kind="random")[0] for seed in range(10)]
        assert len(set(map(tuple, drawn))) > 5
        assert all(60 <= frame < 150 for clip in drawn for frame in clip)

    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    def test_windows_side_by_side_are_refused(self, scheme):
        with pytest.raises(ValueError, match="use rounding 'kinema' for that"):
            draw(scheme, 900, kind="uniform")


def test_schemes_by_name():
    assert frame_scheme("segment", 8) == Segments(8)
    assert frame_scheme("segment", 8, rounding="tada") == PublishedSegments(8, "tada")
    assert frame_scheme("dense", 8, 4, short_video="repeat_last") == Dense(8, 4, "repeat_last")
    assert frame_scheme("dense", 8, 8, rounding="tsm", target_fps=30) == Dense(8, 8, "loop", 30)
    assert frame_scheme("dense", 8, 8, rounding="tada", target_fps=60) == PublishedIntervals(8, 8, "tada", 60)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (
            lambda: frame_scheme("dense", 8, rounding="slowfast"),
            "unknown rounding 'slowfast'; use one of kinema, tsm, tada",
        ),
        (lambda: frame_scheme("segment", 8, target_fps=30), "target_fps=30 was given, but sampling 'segment'"),
        (
            lambda: frame_scheme("dense", 8, rounding="uniformer", target_fps=30),
            "rounding 'uniformer' has no rate to keep",
        ),
        (lambda: frame_scheme("dense", 8, target_fps=0), "target_fps must be above 0, got 0"),
        (lambda: frame_scheme("dense", 8, rounding="tada", target_fps=-30), "target_fps must be above 0, got -30"),
        (lambda: PublishedIntervals(8, 8, "tsm"), "exact strides that loop; use Dense"),
        (lambda: PublishedSegments(8, "pyslowfast"), "unknown code 'pyslowfast'; use one of tsm, tada, timesformer"),
    ],
)
def test_what_no_code_has_is_refused(build, match):
    with pytest.raises(ValueError, match=match):
        build()


@pytest.mark.parametrize(("fps", "wanted"), [(60, [0, 8, 16, 24]), (15, [0, 2, 4, 6]), (25, [0, 3, 6, 10])])
def test_our_strides_are_rescaled_too(fps, wanted):
    (clip,) = draw(Dense(4, 4, target_fps=30), 1000, Fraction(fps), kind="random")
    assert [frame - clip.indices[0] for frame in clip.indices] == wanted
    assert clip.end - clip.start == pytest.approx(16 / 30, abs=1 / fps)


def test_rescaled_windows_tile_a_video_of_another_rate():
    clips = draw(Dense(4, 4, target_fps=30), 96, Fraction(60), kind="uniform")
    assert [clip.indices[0] for clip in clips] == [0, 32, 64]
