"""Real files that break readers. They may not be redistributed: these tests need the folder that holds them."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.data.decoding import DecodeError, index_cache, open_video, packets
from kinema.data.inspection import inspect_video

from painted import decode_everything

SHARED = Path(os.environ.get("KINEMA_SHARED", Path(__file__).parents[3] / "shared"))
CLIPS = SHARED / "data" / "unit_clips"
pytestmark = pytest.mark.skipif(
    not CLIPS.is_dir(), reason=f"no folder {CLIPS}; set KINEMA_SHARED to the folder of the shared recordings"
)

FRAMES = {
    "a24_s3_t1.mp4": 56,
    "a25_s3_t1.mp4": 60,
    "decord_flipping_a_pancake.mkv": 310,
    "decord_unordered.mov": 4,
    "decord_video_0.mov": 3,
    "decord_video_90.mov": 3,
    "decord_video_180.mov": 3,
    "decord_video_270.mov": 3,
    "mmaction2_demo.mp4": 280,
    "mmaction2_ntu_S001C001P001R001A001_rgb.avi": 103,
    "mmaction2_part_0.mp4": 32,
    "mmaction2_test.avi": 164,
    "mmaction2_test.mp4": 300,
    "testvideo_down_18.mp4": 21,
    "testvideo_left_17.mp4": 20,
    "testvideo_right_18.mp4": 21,
    "testvideo_up_17.mp4": 17,
}


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "sought"])
@pytest.mark.parametrize("name", FRAMES)
def test_frames_equal_those_of_a_full_decode(name, keep, monkeypatch):
    index_cache.forget_all()
    if not keep:
        monkeypatch.setattr(packets, "KEEP_BYTES", -1)
    everything = decode_everything(CLIPS / name).values()
    draw = np.random.default_rng(0)
    with open_video(CLIPS / name) as video:
        assert video.num_frames == FRAMES[name] == len(everything)
        wanted = draw.integers(0, video.num_frames, 6).tolist()
        frames = video.decode(wanted)
        orientation = video.index.picture.orientation
    for number, plain in enumerate(everything):
        for place in (place for place, other in enumerate(wanted) if other == number):
            assert np.array_equal(frames[place].permute(1, 2, 0).numpy(), orientation.apply(plain))


@pytest.mark.parametrize(("degrees", "size"), [(0, (568, 320)), (90, (320, 568)), (180, (568, 320)), (270, (320, 568))])
def test_a_phone_held_four_ways_films_upright(degrees, size):
    """A keyboard, its letters upright in all four (seen by eye); its front edge, where the light is, is at the bottom."""
    with open_video(CLIPS / f"decord_video_{degrees}.mov") as video:
        assert (video.width, video.height) == size
        assert video.decode([0]).shape == (1, 3, size[1], size[0])


def test_a_frame_count_of_zero_in_the_header_means_nothing():
    with open_video(CLIPS / "decord_flipping_a_pancake.mkv") as video:
        assert video.num_frames == 310
        assert video.duration == Fraction(10_333, 1000)


def test_the_corrupted_file_is_noticed():
    with open_video(CLIPS / "decord_corrupted.mp4") as video:
        with pytest.raises(DecodeError, match="cannot be decoded exactly"):
            video.decode(range(video.num_frames))
        whole = [number for number in range(video.num_frames) if number not in video.report.missing]
        assert video.decode(whole).shape[0] == len(whole) > 0
    facts = inspect_video(CLIPS / "decord_corrupted.mp4")
    assert facts.status == "damaged"
    assert torch.tensor(facts.missing).min() > 0
