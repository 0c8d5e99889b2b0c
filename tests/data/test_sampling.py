"""Frame indices against the arithmetic of the papers' code, and against pytorchvideo's samplers."""

import random
from fractions import Fraction

import pytest
from pytorchvideo.data.clip_sampling import make_clip_sampler

from kinema.data.sampling import Dense, Segments, SpreadClipSampler, draw_clips, frame_scheme

FPS = Fraction(30)


def draw(scheme, frames, **options):
    options.setdefault("rng", random.Random(0))
    return draw_clips(scheme, frames if isinstance(frames, range) else range(frames), fps=FPS, **options)


@pytest.mark.parametrize("frames", [8, 9, 24, 40, 63, 100, 301])
def test_segment_centres_are_those_of_tsm(frames):
    tick = frames / 8
    (clip,) = draw(Segments(8), frames, kind="constant_clips_per_video")
    assert clip.indices == [int(tick / 2 + tick * i) for i in range(8)]


@pytest.mark.parametrize("frames", [24, 63, 100])
def test_two_clips_are_tsm_s_twice_sample(frames):
    tick = frames / 8
    centre, start = draw(Segments(8), frames, kind="constant_clips_per_video", num_clips=2)
    assert centre.indices == [int(tick / 2 + tick * i) for i in range(8)]
    assert start.indices == [int(tick * i) for i in range(8)]
    assert (centre.index, start.index) == (0, 1)


def test_segment_training_takes_one_frame_of_each_segment_and_reaches_all_of_them():
    seen = [set() for _ in range(4)]
    for seed in range(200):
        (clip,) = draw(Segments(4), 23, rng=random.Random(seed))
        for segment, index in zip(seen, clip.indices, strict=True):
            segment.add(index)
    # 23 // 4 = 5 frames a segment; TSM's code leaves the last 3 frames out.
    assert seen == [set(range(5 * i, 5 * i + 5)) for i in range(4)]


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize("kind", ["random", "constant_clips_per_video"])
@pytest.mark.parametrize("scheme", [Segments(8), Dense(8, 2), Dense(8, 2, "repeat_last")])
def test_short_videos_still_give_all_frames_in_order(scheme, kind, frames):
    for clip in draw(scheme, frames, kind=kind):
        assert len(clip.indices) == 8
        assert all(0 <= index < frames for index in clip.indices)
    if isinstance(scheme, Segments):
        assert clip.indices == sorted(clip.indices)


def test_dense_loops_or_repeats_the_last_frame():
    (loop,) = draw(Dense(6, 2), 7, kind="constant_clips_per_video")
    (last,) = draw(Dense(6, 2, "repeat_last"), 7, kind="constant_clips_per_video")
    assert loop.indices == [0, 2, 4, 6, 1, 3]
    assert last.indices == [0, 2, 4, 6, 6, 6]


@pytest.mark.parametrize("frames", [64, 65, 100, 299, 300])
def test_ten_dense_clips_are_tsm_s(frames):
    # TSM's test: ten starts, linspace(0, n - 64), truncated; 64 frames, stride 64 // 8.
    clips = draw(Dense(8, 8), frames, kind="constant_clips_per_video", num_clips=10)
    starts = [int(i * (frames - 64) / 9) if (i * (frames - 64)) % 9 else i * (frames - 64) // 9 for i in range(10)]
    assert [clip.indices[0] for clip in clips] == starts
    assert all(clip.indices == [start + 8 * i for i in range(8)] for clip, start in zip(clips, starts, strict=True))


def test_dense_training_starts_are_uniform_over_all_places():
    starts = [draw(Dense(4, 2), 20, rng=random.Random(seed))[0].indices[0] for seed in range(2400)]
    counts = [starts.count(start) for start in range(12)]
    assert sum(counts) == 2400
    assert min(counts) > 130 and max(counts) < 280


def test_uniform_covers_the_video_side_by_side_also_where_floats_would_lose_the_last_clip():
    clips = draw(Dense(3, 1), 30, kind="uniform")
    assert [clip.indices for clip in clips] == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(10)]


def test_spread_sampler_reaches_the_end_and_pytorchvideo_0_1_5_does_not():
    ours, theirs = SpreadClipSampler(Fraction(2), 3), make_clip_sampler("constant_clips_per_video", Fraction(2), 3)
    assert [ours(0, Fraction(10), {}).clip_start_sec for _ in range(3)] == [0, 4, 8]
    assert [theirs(0, Fraction(10), {}).clip_start_sec for _ in range(3)] == [0, Fraction(8, 3), Fraction(16, 3)]


def test_as_many_clips_as_asked_for_when_there_is_no_free_time():
    clips = draw(Dense(8, 2), 16, kind="constant_clips_per_video", num_clips=3)
    assert [clip.index for clip in clips] == [0, 1, 2]


def test_clips_of_a_part_of_a_video_stay_in_it():
    for kind in ("random", "constant_clips_per_video"):
        for scheme in (Segments(4), Dense(4, 2)):
            for clip in draw(scheme, range(30, 60), kind=kind):
                assert all(30 <= index < 60 for index in clip.indices)


def test_the_global_generator_is_left_alone_and_does_not_matter():
    random.seed(1)
    before = random.getstate()
    first = draw(Dense(4, 2), 100, rng=random.Random(7))
    assert random.getstate() == before
    random.seed(2)
    assert draw(Dense(4, 2), 100, rng=random.Random(7)) == first
    assert draw(Dense(4, 2), 100, rng=random.Random(8)) != first


def test_an_empty_video_and_an_unknown_kind_are_refused():
    with pytest.raises(ValueError, match="at least 1 frame"):
        draw(Segments(4), 0)
    with pytest.raises(ValueError, match="unknown kind of clip sampler 'middle'"):
        draw(Segments(4), 10, kind="middle")


def test_no_clip_is_refused():
    with pytest.raises(ValueError, match="num_clips must be at least 1, got 0"):
        draw(Segments(4), 90, kind="constant_clips_per_video", num_clips=0)


@pytest.mark.parametrize("scheme", [Dense(4, 2), frame_scheme("dense", 4, 2, rounding="uniformer")])
def test_times_of_a_clip_count_from_the_start_of_the_file(scheme):
    (clip,) = draw(scheme, range(150, 240), kind="constant_clips_per_video")
    assert 5 <= clip.start <= Fraction(clip.indices[0], 30) and Fraction(clip.indices[-1], 30) <= clip.end <= 8
