"""Decoding on through a video: the frames of `decode`, each decoded once, and damage told."""

from pathlib import Path

import pytest
import torch

from kinema.data.decoding import DecodeError, index_cache, open_video, packets, pyav_reader
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.decoding.pyav_reader import PyAVReader

from painted import WIDTH, numbers_in, write_video

KINDS = {
    "B-frames": ("video.mp4", {"options": {"g": "12", "bf": "3"}}),
    "open groups": ("video.mp4", {"options": {"g": "10", "bf": "3", "x264-params": "open-gop=1"}}),
    "one keyframe": ("video.mkv", {"options": {"g": "250"}}),
    "no display times": ("video.avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}),
    "transport stream": ("video.ts", {"options": {"g": "12"}}),
}


@pytest.fixture(autouse=True)
def empty_cache():
    index_cache.forget_all()


@pytest.fixture
def short_stretches(monkeypatch):
    """Many runs in a short video."""
    monkeypatch.setattr(pyav_reader, "_STRETCH", 8)


def joined(video, numbers, size=5):
    blocks = list(video.decode_on(numbers, block_frames=size))
    assert all(0 < len(block) <= size for block in blocks)
    return torch.cat(blocks)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_frames_of_decode(kind, kept, tmp_path, monkeypatch, short_stretches):
    if not kept:
        monkeypatch.setattr(packets, "KEEP_BYTES", -1)
    name, options = KINDS[kind]
    with open_video(write_video(tmp_path / name, 45, **options)) as video:
        for numbers in (range(video.num_frames), range(3, video.num_frames, 4), [0], [1, 2, 30, 31, 44]):
            found = joined(video, numbers)
            assert torch.equal(found, video.decode(numbers))
            assert numbers_in(found) == list(numbers)
        assert video.report.missing == [] and video.report.errors == 0


@pytest.mark.parametrize("size", [1, 7, 100])
def test_blocks_are_full_but_at_the_end_of_a_run(size, tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 20, options={"g": "250"})) as video:
        lengths = [len(block) for block in video.decode_on(range(20), block_frames=size)]
    assert sum(lengths) == 20 and set(lengths[:-1]) <= {size}


def test_they_lie_in_memory_as_those_of_decode(tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 6)) as video:
        (block,) = video.decode_on(range(6), block_frames=6)
        assert block.stride() == video.decode(range(6)).stride() and block.stride(1) == 1


def test_each_frame_is_decoded_once_and_only_what_is_asked_for_by_then(tmp_path, monkeypatch):
    counted = []
    decode_packets = pyav_reader.decode_packets

    def counting(cursor, index, run):
        for frame in decode_packets(cursor, index, run):
            counted.append(frame)
            yield frame

    monkeypatch.setattr(pyav_reader, "decode_packets", counting)
    monkeypatch.setattr(pyav_reader, "_STRETCH", 16)
    with open_video(write_video(tmp_path / "video.mp4", 80, options={"g": "20", "bf": "2"})) as video:
        blocks = video.decode_on(range(80), block_frames=4)
        next(blocks)
        assert len(counted) <= 5
        list(blocks)
    # Once each, but for a few at the ends of runs.
    assert 80 <= len(counted) <= 88


def test_a_long_run_is_left_at_a_keyframe(tmp_path, monkeypatch):
    """What is known of a run must not grow with the video."""
    runs = []
    once = PyAVReader._decode_run_on

    def noted(self, run, block_frames):
        runs.append(len(run.frames))
        return once(self, run, block_frames)

    monkeypatch.setattr(PyAVReader, "_decode_run_on", noted)
    monkeypatch.setattr(pyav_reader, "_STRETCH", 16)
    with open_video(write_video(tmp_path / "video.mp4", 90, options={"g": "10", "bf": "0"})) as video:
        joined(video, range(90))
    assert sum(runs) == 90 and max(runs) <= 20


def test_another_decode_in_between_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(packets, "KEEP_BYTES", -1)
    decode_packets, damage = pyav_reader.decode_packets, []

    def watched(cursor, index, run):
        for output in decode_packets(cursor, index, run):
            damage.extend([output] if isinstance(output, int) else [])
            yield output

    monkeypatch.setattr(pyav_reader, "decode_packets", watched)
    with open_video(write_video(tmp_path / "video.mp4", 60, options={"g": "250", "bf": "3"})) as video:
        found = []
        for place, block in enumerate(video.decode_on(range(60), block_frames=4)):
            found += numbers_in(block)
            if place in (2, 3, 8):
                assert numbers_in(video.decode([59, 5])) == [59, 5]
        assert found == list(range(60))
    assert damage == [], "a run that was interrupted is begun anew, not decoded on from where its decoder no longer is"


def test_damage_that_frames_given_already_may_depend_on_is_an_error(tmp_path, monkeypatch):
    decode_packets = pyav_reader.decode_packets

    def stumbling(cursor, index, run):
        for order, output in enumerate(decode_packets(cursor, index, run)):
            yield output if order < 9 else 3

    with open_video(write_video(tmp_path / "video.mp4", 20, options={"g": "250"})) as video:
        monkeypatch.setattr(pyav_reader, "decode_packets", stumbling)
        blocks = video.decode_on(range(20), block_frames=8)
        assert len(next(blocks)) == 8
        with pytest.raises(DecodeError, match="packet 3 is damaged, and frames up to 7 that were given already"):
            next(blocks)


@pytest.mark.parametrize(
    ("numbers", "size", "error", "words"),
    [
        ([0, 20], 4, IndexError, "frames .20. were asked for"),
        ([-1, 3], 4, IndexError, "frames .-1. were asked for"),
        ([3, 3], 4, ValueError, "frame 3 was asked for behind 3"),
        ([3, 4, 2], 4, ValueError, "frame 2 was asked for behind 4"),
        ([3, 4], 0, ValueError, "block_frames=0"),
    ],
)
def test_wrong_requests_are_told_before_anything_is_decoded(numbers, size, error, words, tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 20)) as video, pytest.raises(error, match=words):
        video.decode_on(numbers, block_frames=size)  # not only when the first block is asked for


def test_nothing_and_a_closed_reader(tmp_path):
    with open_video(write_video(tmp_path / "video.mp4", 20)) as video:
        assert list(video.decode_on([])) == []
    with pytest.raises(DecodeError, match="closed"):
        next(video.decode_on([0]))


def flipped(path: Path, packet: int) -> Path:
    """A copy in which the bytes in the middle of a packet are others."""
    with open_video(path) as video:
        sizes = list(video.index.packets.size)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4 + sum(sizes[:packet])
    middle = start + sizes[packet] // 2
    for place in range(middle, min(middle + 24, start + sizes[packet])):
        content[place] ^= 0xFF
    damaged = path.with_name(f"damaged_{packet}.mp4")
    damaged.write_bytes(content)
    return damaged


def test_damage_is_an_error_wherever_decode_says_so_and_no_frame_before_it_is_wrong(tmp_path, short_stretches):
    path = write_video(tmp_path / "video.mp4", 40, options={"g": "10", "bf": "2"})
    with open_video(path) as video:
        whole = video.decode(range(40))
    refused = 0
    for packet in range(0, 40, 3):
        with open_video(flipped(path, packet)) as video:
            missing = video.find_missing()
            given = []
            try:
                for block in video.decode_on(range(40), block_frames=3):
                    given.append(block)
            except DecodeError as error:
                refused += 1
                assert "damaged" in str(error)
                found = torch.cat(given) if given else whole[:0]
                exact = [torch.equal(a, b) for a, b in zip(found, whole, strict=False)]
                assert "given already" in str(error) or all(exact[: min(missing)])
                assert "given already" in str(error) or len(found) <= min(missing)
            else:
                assert missing == []
                assert torch.equal(torch.cat(given), video.decode(range(40)))
    assert refused >= 8, "most of such damage is noticed in H.264"


def test_frames_that_are_cut_off_are_told_before_anything_is_decoded(tmp_path):
    path = write_video(
        tmp_path / "video.mp4", 40, options={"g": "10", "bf": "0"}, container_options={"movflags": "faststart"}
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with open_video(path) as video:
        assert video.report.missing
        blocks = video.decode_on(range(video.num_frames))
        with pytest.raises(DecodeError, match="cannot be decoded exactly"):
            next(blocks)
        good = range(video.report.missing[0] - 1)  # of the last frame there is, a part is cut off
        assert numbers_in(joined(video, good)) == list(good)


def test_a_reader_without_a_stream_of_its_own(tmp_path):
    """Pictures in a folder have no `decode_on`: they are read in blocks where clips slide."""
    folder = FrameFolders("{:05d}.jpg")
    assert not hasattr(folder, "decode_on")
    with open_video(write_video(tmp_path / "video.mp4", 9)) as video:
        blocks = list(super(PyAVReader, video)._decode_on(list(range(9)), 4))
        assert [len(block) for block in blocks] == [4, 4, 1] and blocks[0].shape[-1] == WIDTH
        assert numbers_in(torch.cat(blocks)) == list(range(9))
