"""The engine of `kinema bench data`: contenders take turns, ratios are right, and a leak would be seen."""

import itertools
import mmap
import time

import pytest
import torch

from kinema.benchmarks import throughput
from kinema.benchmarks.throughput import (
    compare_decoders,
    compare_loaders,
    kinema_loader,
    measure_memory,
    prepare_bench_videos,
    pytorchvideo_loader,
)
from kinema.data.decoding import open_video
from kinema.data.sampling import Dense, Segments
from kinema.data.transforms import TrainTransform

from painted import numbers_in, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return prepare_bench_videos(
        tmp_path_factory.mktemp("bench"), num_videos=2, seconds=2, size=(96, 64), progress=False
    )


def burn(seconds):
    """Keep the processor busy, so that the clock on the wall and processor time agree."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_bench_videos_are_made_once_and_are_what_they_claim(videos, capsys):
    with open_video(videos[0]) as video:
        assert (video.num_frames, video.fps, video.width, video.height) == (60, 30, 96, 64)
        assert video.index.packets.keyframes == [0]
        first, second = video.decode([0, 30]).float()
        assert (first - second).abs().mean() > 5, "something moves"
    before = [path.stat().st_mtime_ns for path in videos]
    again = prepare_bench_videos(videos[0].parent, num_videos=2, seconds=2, size=(96, 64))
    assert again == videos
    assert [path.stat().st_mtime_ns for path in videos] == before
    assert videos[0].read_bytes() != videos[1].read_bytes()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_ratios_of_loaders_are_of_clips_per_second():
    turns = []

    def loader(name, seconds, clips):
        def start():
            turns.append(name)
            for _ in range(2):
                burn(seconds * clips)
                yield {"clip": torch.zeros(clips, 1)}

        return start

    rows = compare_loaders({"fast": loader("fast", 0.002, 5), "slow": loader("slow", 0.008, 3)}, rounds=4)
    assert [row.name for row in rows] == ["fast", "slow"]
    fast, slow = rows
    assert slow.ratio == slow.ratio_low == slow.ratio_high == 1
    assert 2.5 < fast.ratio < 6
    assert fast.ratio_low <= fast.ratio <= fast.ratio_high
    assert fast.cpu_ms_per_clip == pytest.approx(2, rel=0.5)
    assert slow.cpu_ms_per_clip == pytest.approx(8, rel=0.5)
    assert fast.clips_per_s > slow.clips_per_s
    assert turns == ["slow", "fast", "fast", "slow"] * 2 + ["slow", "fast"], "turns alternate; one round is warm-up"


def test_the_baseline_can_be_named():
    loaders = {name: lambda: (burn(0.001), torch.zeros(4, 1))[1:] for name in ("a", "b", "c")}
    rows = {row.name: row for row in compare_loaders(loaders, rounds=1, baseline="b")}
    assert rows["b"].ratio == 1
    with pytest.raises(ValueError, match=r"baseline='d' is not among the contenders \['a', 'b', 'c'\]"):
        compare_loaders(loaders, baseline="d")


def test_a_loader_without_clips_is_no_fast_loader():
    with pytest.raises(ValueError, match="a loader gave no clip"):
        compare_loaders({"empty": list}, rounds=1)


@pytest.mark.parametrize("scheme", [Segments(4), Dense(4, 3)], ids=["segments", "dense"])
def test_both_loaders_give_the_same_kind_of_clip(scheme, tmp_path):
    """Same frames to choose from, same transforms: else the comparison compares something else."""
    paths = [write_video(tmp_path / f"{n}.mp4", 40, options={"g": "12"}) for n in range(3)]
    transform = TrainTransform(64, crop="center")
    ours = [batch["clip"] for batch in kinema_loader(paths, scheme, transform, batch_size=2)()]
    theirs = list(pytorchvideo_loader(paths, scheme, transform, batch_size=2)())
    assert [clip.shape for clip in ours] == [clip.shape for clip in theirs] == [(2, 3, 4, 64, 64), (1, 3, 4, 64, 64)]
    assert ours[0].dtype == theirs[0].dtype == torch.uint8
    uncut = TrainTransform(64, crop="random_resized", scale=(1.0, 1.0), ratio=(1.5, 1.5))
    for loader in (kinema_loader, pytorchvideo_loader):
        (batch,) = loader(paths, scheme, uncut, batch_size=3)()
        for clip in batch["clip"] if isinstance(batch, dict) else batch:
            numbers = numbers_in(torch.nn.functional.interpolate(clip.transpose(0, 1).float(), (64, 96)))
            steps = [b - a for a, b in itertools.pairwise(numbers)]
            assert (
                all(step == 3 for step in steps) if isinstance(scheme, Dense) else all(0 < step < 20 for step in steps)
            )


def test_every_pass_of_ours_draws_anew(videos):
    start = kinema_loader(videos, Segments(4), TrainTransform(32))
    first, second = (next(iter(start()))["clip"] for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_decoders_are_compared_on_the_same_clips(videos, monkeypatch):
    seen = []

    class Decoder:
        def __init__(self, path, seek_mode, num_ffmpeg_threads):
            self.path = path

        def get_frames_at(self, indices):
            seen.append((self.path, tuple(indices)))
            burn(0.02)
            return type("Batch", (), {"data": None})

    asked = []
    monkeypatch.setattr(throughput, "load_torchcodec", lambda: Decoder)
    original = open_video

    def spy(path, decoder="auto"):
        video = original(path, decoder)
        decode = video.decode
        video.decode = lambda indices: (asked.append((str(path), tuple(indices))), decode(indices))[1]
        return video

    monkeypatch.setattr(throughput, "open_video", spy)
    rows = compare_decoders(videos, Segments(4), rounds=3)
    assert [row.name for row in rows] == ["kinema, first visit", "kinema", "torchcodec"]
    assert rows[2].ratio == 1
    assert rows[0].ratio < 1, "torchcodec was made slow"
    assert len(seen) == 2 * 4
    assert sorted(asked) == sorted(seen * 2)


def test_without_torchcodec_ours_is_the_baseline(videos, monkeypatch):
    def absent():
        raise ImportError("no torchcodec")

    monkeypatch.setattr(throughput, "load_torchcodec", absent)
    rows = compare_decoders(videos, Dense(4, 2), rounds=1)
    assert [row.name for row in rows] == ["kinema, first visit", "kinema"]
    assert rows[0].ratio == 1


def test_growth_is_counted_from_when_caches_are_full(monkeypatch):
    readings = iter([100.0, 150.0, 151.0, 152.0, 160.0])
    monkeypatch.setattr(throughput, "_resident_mib", lambda: next(readings))
    row = measure_memory(lambda: (torch.zeros(4, 1) for _ in range(20)), num_clips=400, readings=5)
    assert row.clips == (80, 160, 240, 320, 400)
    assert row.resident_mib == (100, 150, 151, 152, 160)
    assert row.growth_mib == 10


def test_memory_is_that_of_this_process(videos):
    before = throughput._resident_mib()
    # Straight from the system: an allocator that keeps freed memory would hand out pages that are resident already.
    with mmap.mmap(-1, 256 << 20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert 200 < throughput._resident_mib() - before < 300
    row = measure_memory(kinema_loader(videos, Segments(4), TrainTransform(32)), num_clips=60, readings=3)
    assert len(row.resident_mib) == 3
    assert row.growth_mib < 10
