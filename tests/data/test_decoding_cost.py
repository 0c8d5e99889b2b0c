"""What a reader must not do: decode or read more than needed, remember the wrong thing, keep memory, break in workers."""

import gc
import os
import resource
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from kinema.data.decoding import DecodeError, index_cache, open_video, packets, pyav_reader
from kinema.data.decoding.pyav_reader import PyAVReader

from painted import numbers_in, write_video


@pytest.fixture(autouse=True)
def empty_cache():
    index_cache.forget_all()


@pytest.fixture
def sought(monkeypatch):
    """Packets are sought, not kept."""
    monkeypatch.setattr(packets, "KEEP_BYTES", -1)


@pytest.fixture
def seen(monkeypatch):
    """Count what readers do: packets read, seeks, openings of the container, runs, frames out of the decoder."""
    counts = dict.fromkeys(("read", "seeks", "opened", "runs", "frames"), 0)

    def count(owner, name, what):
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[what] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count(packets.PacketTable, "matches", "read")
    count(packets.PacketCursor, "_seek", "seeks")
    count(packets.PacketCursor, "open", "opened")
    count(PyAVReader, "_decode_run", "runs")
    decode_packets = pyav_reader.decode_packets

    def counted_frames(cursor, index, run):
        for frame in decode_packets(cursor, index, run):
            counts["frames"] += 1
            yield frame

    monkeypatch.setattr(pyav_reader, "decode_packets", counted_frames)
    return counts


def reset(counts):
    counts.update(dict.fromkeys(counts, 0))


def test_nothing_after_the_last_wanted_frame_is_read(sought, seen, tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 80, options={"g": "250", "bf": "3"})) as video:
        for number in (0, 7, 40):
            reset(seen)
            video.decode([number])
            assert number - 6 < seen["read"] < number + 6, (
                "a frame is stored a few packets before or after others shown near it"
            )


def test_unreferenced_frames_are_decoded_only_if_wanted(seen, tmp_path):
    path = write_video(
        tmp_path / "video.mp4", 80, options={"g": "250", "bf": "3", "x264-params": "b-pyramid=0:b-adapt=0"}
    )
    with open_video(path) as video:
        video.decode([76])
        assert seen["frames"] < 80 / 4 + 4, "one frame in four is referred to"
        reset(seen)
        video.decode(range(80))
        assert seen["frames"] == 80


@pytest.mark.parametrize("codec", ["libx265", "libvpx-vp9"])
def test_other_codecs_decode_all_they_pass(codec, seen, tmp_path):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with open_video(write_video(tmp_path / "video.mp4", 30, codec=codec, options=options)) as video:
        video.decode([29])
    assert seen["frames"] >= 28


def test_a_seek_happens_only_across_keyframes(sought, seen, tmp_path):
    with open_video(
        write_video(tmp_path / "video.mp4", 120, options={"g": "30", "x264-params": "scenecut=0"})
    ) as video:
        video.decode([3, 8, 29])
        assert (seen["runs"], seen["opened"]) == (1, 2), "the index took the first opening"
        reset(seen)
        video.decode([95, 3, 100, 119])
        assert (seen["runs"], seen["opened"], seen["seeks"]) == (2, 1, 1)
        reset(seen)
        video.decode([25, 35, 59])
        assert (seen["runs"], seen["opened"], seen["seeks"]) == (2, 1, 0), "four packets lie between, not worth a seek"
        reset(seen)
        video.decode([60])
        assert (seen["seeks"], seen["opened"]) == (0, 0), "reading had stopped right there"


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.flv", "no_b_frames.avi"])
@pytest.mark.parametrize("open_gop", [0, 1])
def test_seeks_arrive_where_they_should(name, open_gop, sought, seen, tmp_path):
    options = {"g": "10", "bf": "0" if "no_b" in name else "3", "x264-params": f"open-gop={open_gop}:scenecut=0"}
    with open_video(write_video(tmp_path / name, 80, options=options)) as video:
        reset(seen)
        for number in (75, 22, 49, 31):
            assert numbers_in(video.decode([number])) == [number]
        assert seen["opened"] == 0
        assert seen["runs"] <= (8 if open_gop else 4), "an open group may need the keyframe before"


def test_a_seek_to_the_wrong_place_is_noticed(sought, seen, tmp_path, monkeypatch):
    """As MPEG-TS does, and worse: wherever the container goes, the frames are right."""

    class Astray:
        def __init__(self, container, offset):
            self._container, self._offset = container, offset

        def seek(self, time, **options):
            self._container.seek(max(0, time + self._offset), **options)

        def __getattr__(self, name):
            return getattr(self._container, name)

    path = write_video(tmp_path / "video.mp4", 80, options={"g": "10", "x264-params": "scenecut=0"})
    ten_frames = 10 * 512
    for offset in (-(10**9), -ten_frames, ten_frames, 10**9):
        with open_video(path) as video:
            monkeypatch.setattr(video._cursor, "container", Astray(video._cursor.container, offset))
            for number in (75, 12, 49, 31):
                assert numbers_in(video.decode([number])) == [number]


def test_the_second_visit_reads_no_index(tmp_path, monkeypatch):
    path = write_video(tmp_path / "video.mp4", 40)
    readings = []
    read_table = packets.PacketCursor.read_table
    monkeypatch.setattr(packets.PacketCursor, "read_table", lambda self: readings.append(1) or read_table(self))
    for _ in range(3):
        with open_video(path) as video:
            assert numbers_in(video.decode([33])) == [33]
    assert len(readings) == 1
    open_video(path.read_bytes()).close()
    open_video(path.read_bytes()).close()
    assert len(readings) == 3, "bytes have no name to be remembered by"


def test_a_file_that_changed_is_another_file(tmp_path):
    path = write_video(tmp_path / "video.mp4", 40)
    with open_video(path) as video:
        assert video.num_frames == 40
    write_video(path, 25, size=(128, 64))
    os.utime(path, ns=(time.time_ns() + 10**9,) * 2)
    with open_video(path) as video:
        assert (video.num_frames, video.width) == (25, 128)
        assert numbers_in(video.decode([24])) == [24]


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(index_cache, "MAX_PACKETS", 100)
    paths = [write_video(tmp_path / f"{n}.mp4", 40, codec="mpeg4") for n in range(4)]
    for path in paths:
        open_video(path).close()
    assert [key.path for key in index_cache._indices] == [str(path) for path in paths[-2:]]
    open_video(paths[2]).close()
    open_video(paths[0]).close()
    assert [key.path for key in index_cache._indices] == [str(paths[2]), str(paths[0])]


class Frames(Dataset):
    """Three frames of each of a few videos, one of them damaged; module level, so that spawned workers find it."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, item):
        try:
            with open_video(self.paths[item]) as video:
                return numbers_in(video.decode([item, 39, 17]))
        except DecodeError:
            return "damaged"


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_see_what_the_parent_sees(start, tmp_path):
    paths = [str(write_video(tmp_path / f"{n}.mp4", 40, options={"g": "12"})) for n in range(6)]
    (tmp_path / "3.mp4").write_bytes((tmp_path / "3.mp4").read_bytes()[:2000])
    frames = Frames(paths)
    expected = [frames[n] for n in range(6)]  # fills the cache that forked workers inherit
    assert expected == [[n, 39, 17] if n != 3 else "damaged" for n in range(6)]
    with open_video(paths[0]) as in_use:  # an open reader in the parent does not disturb the workers
        loader = DataLoader(
            frames,
            batch_size=None,
            num_workers=2,
            multiprocessing_context=start,
            persistent_workers=True,
            prefetch_factor=1,
        )
        for _ in range(2):
            assert list(loader) == expected
        assert numbers_in(in_use.decode([5])) == [5]
        del loader
        gc.collect()


def resident_bytes():
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")  # noqa: PTH110
def test_memory_stays_flat(tmp_path):
    """Opening, decoding, failing and closing, over and over; a leaked frame buffer or container would show."""
    good = write_video(tmp_path / "good.mp4", 20, size=(320, 240))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:3000])
    content = good.read_bytes()

    def work(times):
        for number in range(times):
            with open_video(good if number % 2 else content) as video:
                video.decode([number % 20, 19])
            with pytest.raises(DecodeError):
                open_video(cut)

    work(50)
    gc.collect()
    before = resident_bytes()
    work(250)
    gc.collect()
    assert resident_bytes() - before < 8 << 20, "one leaked frame a round would be 86 MB"


def test_readers_close_their_files(tmp_path):
    path = write_video(tmp_path / "video.mp4", 5)

    def num_open():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208

    before = num_open()
    for _ in range(20):
        with open_video(path) as video:
            video.decode([3])
        with pytest.raises(DecodeError):
            open_video(path.read_bytes()[:50])
        (path.parent / "text.mp4").write_text("no video")
        with pytest.raises(DecodeError):
            open_video(path.parent / "text.mp4")
    assert num_open() <= before  # fewer, where what an earlier test left open was collected meanwhile


def test_threads_are_not_used(tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 5)) as video:
        video.decode([4])
        context = video._cursor.stream.codec_context
        assert context.thread_count == 1
        assert torch.get_num_threads() >= 1
