"""Clips from the cache are those that decoding gives, and a video that cannot be decoded is told as before."""

import shutil
import subprocess
import sys
from fractions import Fraction

import pytest
import torch

from kinema.data.clips import EvalClips
from kinema.data.datamodule import VideoDataModule
from kinema.data.decoding import DecodeError, open_video
from kinema.data.frame_cache import FrameCache, prepare_frame_cache
from kinema.data.sampling import Segments
from kinema.data.transforms import EvalTransform

from painted import write_video


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KINEMA_DATA", str(tmp_path))


def module(root, **options):
    options = {"size": 32, "resize": 36, "batch_size": 4, "num_workers": 0, "seed": 5, "train_crop": "random"} | options
    data = VideoDataModule(str(root), **options)
    data.setup()
    return data


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_bit_equal_to_decoded_ones(motion, workers):
    decoded, cached = module(motion), module(motion, frame_cache=True, num_workers=workers)
    for loader in ("train_dataloader", "val_dataloader"):
        batches = list(zip(getattr(decoded, loader)(), getattr(cached, loader)(), strict=True))
        assert len(batches) >= 6
        for one, two in batches:
            assert one["names"] == two["names"]
            assert torch.equal(one["clip"], two["clip"])
            assert torch.equal(one["end"], two["end"])


def test_frames_are_decoded_once_for_all(motion, tmp_path, monkeypatch):
    paths = sorted((motion / "videos").glob("val_*.mp4"))
    first = prepare_frame_cache(tmp_path, paths, 36, num_workers=0, progress=False)
    monkeypatch.setattr("kinema.data.frame_cache.open_video", lambda *_: pytest.fail("decoded again"))
    again = prepare_frame_cache(tmp_path, [*paths[::-1], paths[0]], 36, num_workers=0, progress=False)
    assert again.folder == first.folder
    with again.open(paths[3]) as video:
        assert video.decode([2, 0, 2]).shape == (3, 3, 36, 36)
        with pytest.raises(IndexError, match="frames \\[-1\\]"):
            video.decode([-1])


def test_another_side_or_a_changed_file_is_another_cache(motion, tmp_path):
    copy = shutil.copytree(motion / "videos", tmp_path / "videos")
    paths = sorted(copy.glob("val_0000*.mp4"))

    def folder(side=36):
        return prepare_frame_cache(tmp_path / "frames", paths, side, num_workers=0, progress=False).folder

    first = folder()
    assert folder(side=40) != first
    shutil.copy(paths[0], paths[1])
    second = folder()
    assert second != first
    with FrameCache(second).open(paths[1]) as cached, open_video(paths[0]) as video:
        assert cached.fps == video.fps and cached.num_frames == video.num_frames


def test_what_cannot_be_decoded_is_told_as_without_a_cache(motion, tmp_path):
    copy = shutil.copytree(motion, tmp_path / "set")
    broken = sorted((copy / "videos").glob("val_*.mp4"))[1]
    broken.write_bytes(b"no video")
    with pytest.raises(DecodeError) as told:
        open_video(broken)
    cache = prepare_frame_cache(tmp_path / "frames", [broken], 36, num_workers=0, progress=False)
    with pytest.raises(DecodeError, match=str(told.value)[:30]):
        cache.open(broken)
    plain, cached = (list(module(copy, frame_cache=wanted).val_dataloader()) for wanted in (False, True))
    for one, two in zip(plain, cached, strict=True):
        assert torch.equal(one["decoded"], two["decoded"])
    assert not all(batch["decoded"].all() for batch in cached)


def test_a_full_disk_leaves_nothing_behind(motion, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kinema.data.frame_cache._decode", full)
    with pytest.raises(OSError, match="make room there"):
        prepare_frame_cache(
            tmp_path / "frames", [motion / "videos" / "val_00000a.mp4"], 36, num_workers=0, progress=False
        )
    assert not [path for path in (tmp_path / "frames").iterdir() if path.is_dir()]


UNGUARDED = """
from pathlib import Path
from kinema.data.frame_cache import prepare_frame_cache
prepare_frame_cache(Path("frames"), [Path(r"{video}")], 36, num_workers=1, progress=False)
"""


@pytest.mark.slow
def test_a_script_that_its_processes_would_run_again_is_told_so_and_does_not_wait_for_itself(motion, tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED.format(video=motion / "videos" / "val_00000a.mp4"))
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode != 0
    assert "__main__" in ran.stderr and "run again by each of them" in ran.stderr


def test_crops_of_the_whole_frame_need_it_as_it_is(motion):
    with pytest.raises(ValueError, match="random_resized"):
        module(motion, frame_cache=True, train_crop="random_resized")


def uneven_video(path):
    """Two seconds of ten frames each, then two of 50: 20 frames until 2 s, 100 behind."""
    times = [1280 * number for number in range(20)] + [25600 + 256 * number for number in range(100)]
    return write_video(path, 120, times=times, time_base=Fraction(1, 12_800))


def test_a_cached_video_of_variable_rate_keeps_its_clock(tmp_path):
    path = uneven_video(tmp_path / "uneven.mp4")
    cache = prepare_frame_cache(tmp_path / "frames", [path], 64, num_workers=0, progress=False)
    with open_video(path) as video, cache.open(path) as cached:
        for time in (0, 0.149, 0.151, 1, 1.9, 2, 2.5, 3.98, 3.985, 4, 60):
            moment = Fraction(str(time))
            nearest = min(range(120), key=lambda number: abs(video.timestamps[number] - moment))
            assert video.frame_at(moment) == cached.frame_at(moment) == (nearest if time < 3.99 else 120), time
        assert abs(round(video.fps) - 30) < 2 and video.frame_at(Fraction(1)) == 10, "not 30, by the mean rate"
        assert cached.clock.begin(25) == video.clock.begin(25) == video.timestamps[25]
        assert cached.clock.duration == video.clock.duration == video.duration


def test_a_bad_frame_costs_the_clips_that_show_it_and_no_more(tmp_path):
    path = write_video(tmp_path / "video.mp4", 40, options={"g": "1", "x264-params": "scenecut=0:keyint=1"})
    with open_video(path) as video:
        expected = video.decode(range(40))
    import av

    with av.open(str(path)) as container:
        (place, size) = next((packet.pos, packet.size) for n, packet in enumerate(container.demux(video=0)) if n == 3)
    content = bytearray(path.read_bytes())
    content[place : place + size] = bytes(size)
    path.write_bytes(content)
    cache = prepare_frame_cache(tmp_path / "frames", [path], 64, num_workers=0, progress=False)
    with cache.open(path) as cached:
        assert torch.equal(cached.decode([0, 2, 4, 39]), expected[[0, 2, 4, 39]])
        with pytest.raises(
            DecodeError, match=r"the frames \[3\] could not be decoded when the cache was made, .* because:"
        ):
            cached.decode([2, 3])


def test_what_lies_between_two_times_is_told_by_the_clock_of_the_video(tmp_path):
    path = uneven_video(tmp_path / "uneven.mp4")
    cache = prepare_frame_cache(tmp_path / "frames", [path], 64, num_workers=0, progress=False)
    for source in (None, cache):
        clips = EvalClips(Segments(4), EvalTransform(32), cache=source)
        (view,) = clips(path, start=Fraction(1), end=Fraction(14, 10))
        assert view.clip.indices == [10, 11, 12, 13], "ten frames a second, not 30 as in the mean"
        with pytest.raises(DecodeError, match=r"the sample starts at 5\.000 s and the video ends at 4\.0\d0 s"):
            clips(path, start=Fraction(5))
