"""What a word means, and that files and folders give every frame in order, or say what is wrong."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kinema.data.decoding import DecodeError, open_video
from kinema.streaming import container, sources
from kinema.streaming.reader import FrameReader
from kinema.streaming.source import StreamError
from kinema.streaming.sources import Address, Camera, source_of
from kinema.streaming.stored import PictureFolder, VideoFile

from cameras import encoded, grey, number_in, texture


def read(source, **options):
    with FrameReader(source, **options) as reader:
        return list(reader), reader


def test_what_a_word_means(tmp_path):
    file = tmp_path / "it.mp4"
    file.touch()
    assert source_of(str(file)) == VideoFile(file)
    assert source_of(str(tmp_path), picture_fps=Fraction(12)) == PictureFolder(tmp_path, Fraction(12))
    assert source_of("2", stall_s=3) == source_of("/dev/video2", stall_s=3) == Camera(2, 3)
    address = source_of("RTSPS://h/x", stall_s=2, live=True, transport="udp")
    assert address == Address("RTSPS://h/x", 2, True, "udp") and address.reconnects
    with pytest.raises(ValueError, match="there is no file or folder none"):
        source_of("none.mp4")
    for wrong in ("file:///etc/passwd", "concat://a", "udp://h:1"):
        with pytest.raises(ValueError, match="is of no known protocol; give rtsp://"):
            source_of(wrong)
    for word in ("http://h/x", "0"):
        for wrong in (0, float("inf"), float("nan"), 1e300):
            with pytest.raises(ValueError, match="is no time to wait for a frame"):
                source_of(word, stall_s=wrong)
    with pytest.raises(ValueError, match="0 pictures a second"):
        source_of(str(tmp_path), picture_fps=Fraction(0))


def test_what_lies_on_a_disk_is_not_live_and_a_camera_is(tmp_path):
    (tmp_path / "it.mp4").touch()
    for word in (tmp_path, tmp_path / "it.mp4"):
        with pytest.raises(ValueError, match="lies on a disk, where every frame waits until it is read"):
            source_of(str(word), live=True)
        source_of(str(word), live=False)
    with pytest.raises(ValueError, match="camera 2 waits for nobody, so live=False cannot be; leave it out"):
        source_of("2", live=False)
    assert source_of("2", live=True) == Camera(2)
    with pytest.raises(ValueError, match="there is no file or folder"):
        source_of("none.mp4", live=True)


def test_what_a_server_may_make_ffmpeg_open(monkeypatch):
    """No protocol of this machine, and no format that names other files but HLS."""
    asked = {}
    monkeypatch.setattr(container.av, "open", lambda *arguments, **options: asked.update(options["options"]) or 1 / 0)
    for url in ("https://h/x", "rtsps://h/x"):
        asked.clear()
        with pytest.raises(ZeroDivisionError):
            Address(url).open()
        assert not {"file", "concat", "subfile", "data", "pipe", "fd"} & set(asked["protocol_whitelist"].split(","))
        assert "max_pixels" in asked and ("concat" not in asked.get("format_whitelist", "none"))
    assert asked["rtsp_transport"] == "tcp"


def test_a_file_gives_every_frame_exactly_however_slow_it_is_taken(tmp_path):
    path = tmp_path / "it.mp4"
    path.write_bytes(encoded([texture(number) for number in range(11)], gop=5, fps=30))
    found, reader = read(VideoFile(path), queue=1)
    with open_video(path) as video:
        wanted = video.decode(range(11)).permute(0, 2, 3, 1).numpy()
        assert [frame.time_s for frame in found] == video.timestamps
    assert np.array_equal(np.stack([frame.pixels for frame in found]), wanted)
    assert [frame.number for frame in found] == list(range(11)) and not any(frame.cut for frame in found)
    assert reader.fps == 30 and not reader.live and reader.dropped == reader.damaged == reader.reconnected == 0


def test_a_damaged_file_gives_what_comes_before_and_an_error(tmp_path):
    path = tmp_path / "it.mp4"
    content = encoded([texture(number) for number in range(40)])
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DecodeError, match=r"it\.mp4"):
        read(VideoFile(path))
    path.write_text("no video")
    with pytest.raises(DecodeError, match="text was given"):
        read(VideoFile(path))


def test_a_folder_of_pictures_in_the_order_of_their_numbers(tmp_path):
    for number in (1, 2, 10, 9):
        size = (48, 64) if number < 10 else (32, 32)
        Image.fromarray(grey(number, *size)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").touch()
    found, reader = read(PictureFolder(tmp_path, Fraction(10)))
    assert [number_in(frame.pixels) for frame in found] == [1, 2, 9, 10]
    assert [frame.time_s for frame in found] == [Fraction(number, 10) for number in range(4)]
    assert [frame.pixels.shape for frame in found] == [(48, 64, 3)] * 3 + [(32, 32, 3)] and reader.fps == 10
    (tmp_path / "frame_3.png").write_bytes(b"\x89PNG no")
    found, reader = read(PictureFolder(tmp_path))
    assert [number_in(frame.pixels) for frame in found] == [1, 2, 9, 10] and reader.damaged == 1
    assert [25 * frame.time_s for frame in found] == [0, 1, 3, 4], "the one that is left out keeps its time"
    assert "1 of 5 pictures were left out, the first because" in reader.notes[0] and "frame_3.png" in reader.notes[0]
    for file in tmp_path.glob("*.png"):
        file.write_bytes(b"\x89PNG no")
    with pytest.raises(DecodeError, match=r"frame_1\.png"):
        read(PictureFolder(tmp_path))
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(StreamError, match="holds no picture"):
        read(PictureFolder(tmp_path))


def test_a_camera_that_is_not_there():
    with pytest.raises(StreamError, match="camera 93 cannot be opened"):
        read(Camera(93, 1.0))


def test_cameras_by_system(monkeypatch):
    for system, wanted in (("linux", ("v4l2", "/dev/video1")), ("darwin", ("avfoundation", "1"))):
        monkeypatch.setattr(sources.sys, "platform", system)
        assert sources._device(1) == wanted
