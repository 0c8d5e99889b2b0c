"""A damaged video gives the frames that are whole, to the bit, and an error for the others; never something similar."""

from fractions import Fraction

import numpy as np
import pytest

from kinema.data.decoding import DecodeError, index_cache, open_video, packets

from painted import decode_everything, numbers_in, write_video

GOP = 12


@pytest.fixture(params=["kept", "sought"])
def access(request, monkeypatch):
    index_cache.forget_all()
    if request.param == "sought":
        monkeypatch.setattr(packets, "KEEP_BYTES", -1)


def write_long(path, **options):
    return write_video(
        path, 60, options={"g": str(GOP), "x264-params": "scenecut=0:keyint=12:min-keyint=12"}, **options
    )


def layout(path):
    """Where each packet lies in the file, in decoding order: (display number, position, bytes)."""
    import av

    with av.open(str(path)) as container:
        found = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    order = sorted(pts for pts, _, _ in found)
    return [(order.index(pts), position, size) for pts, position, size in found]


def destroy(path, position, size):
    """Overwrite a packet with zeros, as a lost disk block or a broken copy does."""
    content = bytearray(path.read_bytes())
    content[position : position + size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.parametrize("victim", [26, 24, 30, 0])
def test_damage_costs_what_refers_to_it_and_nothing_else(victim, access, tmp_path):
    """Frames decoded before the damage, and those of the other groups of pictures, come out as if nothing had happened."""
    path = write_long(tmp_path / "video.mp4")
    whole = list(decode_everything(path).values())
    packets_ = layout(path)
    hit = next(place for place, (number, _, _) in enumerate(packets_) if number == victim)
    destroy(path, *packets_[hit][1:])
    group_ends = next((place for place in range(hit + 1, 60) if packets_[place][0] % GOP == 0), 60)
    lost = {number for number, _, _ in packets_[hit:group_ends]}
    with open_video(path) as video:
        fine = [number for number in range(60) if number not in lost]
        for frame, number in zip(video.decode(fine), fine, strict=True):
            assert np.array_equal(frame.permute(1, 2, 0).numpy(), whole[number])
        assert video.report.missing == []
        with pytest.raises(DecodeError, match=f"frames {victim} of 60 cannot be decoded exactly .* copy it again"):
            video.decode([victim, *fine])
        assert video.report.missing == [victim]
        assert video.report.errors >= 1
        with pytest.raises(DecodeError):
            video.decode(range(60))
        assert victim in video.report.missing
        assert set(video.report.missing) <= lost


def count_spoilt(path, whole):
    """Flip bytes in several copies; count the frames whose damage was noticed, and those returned that are not right."""
    places = layout(path)
    noticed = unnoticed = 0
    for seed in range(4):
        content, draw = bytearray(path.read_bytes()), np.random.default_rng(seed)
        for _ in range(8):
            _, position, size = places[draw.integers(len(places))]
            content[position + int(draw.integers(size))] ^= int(draw.integers(1, 256))
        with open_video(bytes(content)) as video:
            for number in range(60):
                try:
                    frame = video.decode([number])[0]
                except DecodeError:
                    noticed += 1
                    assert number in video.report.missing
                else:
                    unnoticed += not np.array_equal(frame.permute(1, 2, 0).numpy(), whole[number])
    return noticed, unnoticed


def test_most_flipped_bytes_are_noticed_in_h264(tmp_path):
    """Codecs carry no checksum: damage is seen where decoding trips over it. About four in five; not all."""
    path = write_long(tmp_path / "video.mp4", size=(320, 240))
    noticed, unnoticed = count_spoilt(path, list(decode_everything(path).values()))
    assert noticed > 60
    assert unnoticed < 0.4 * noticed


def test_strict_decoding_notices_more(tmp_path, monkeypatch):
    """FFmpeg conceals errors by default; told not to, it reports some that it would have painted over."""
    options = {"x265-params": "log-level=none:keyint=12:scenecut=0"}
    path = write_video(tmp_path / "video.mp4", 60, codec="libx265", size=(320, 240), options=options)
    whole = list(decode_everything(path).values())
    strict = count_spoilt(path, whole)
    monkeypatch.setitem(packets._DECODER_OPTIONS, "err_detect", "0")
    lenient = count_spoilt(path, whole)
    assert strict[0] > lenient[0]
    assert strict[1] < lenient[1]


@pytest.mark.parametrize("part", [0.6, 0.9])
def test_a_cut_off_video_is_no_short_video(part, access, tmp_path):
    """An MP4 whose table comes first still says what it held: sampling from the rest would show another clip."""
    path = write_long(tmp_path / "video.mp4", container_options={"movflags": "faststart"})
    whole = list(decode_everything(path).values())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with open_video(path) as video:
        assert video.num_frames == 60
        assert video.fps == 25
        lost = video.report.missing
        assert lost[-1] == 59
        assert video.timestamps == [Fraction(number, 25) for number in range(60)]
        assert video.report.errors >= 1
        frames = video.decode(range(lost[0] - GOP))
        assert all(np.array_equal(f.permute(1, 2, 0).numpy(), whole[n]) for n, f in enumerate(frames))
        with pytest.raises(DecodeError, match=r"frames 59 of 60 cannot be decoded exactly"):
            video.decode([3, 59])


@pytest.mark.parametrize("name", ["video.mkv", "video.avi", "video.ts"])
def test_cut_off_streams_give_what_they_hold(name, access, tmp_path):
    """These formats do not say how long they are; the frames that are there are exact."""
    path = write_long(tmp_path / name, container="mpegts" if name.endswith("ts") else None)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with open_video(path) as video:
        assert 20 < video.num_frames < 60
        wanted = list(range(video.num_frames - GOP))
        assert numbers_in(video.decode(wanted)) == wanted


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libx265", "libvpx-vp9"])
def test_a_keyframe_that_is_none_is_not_started_from(codec, access, tmp_path, monkeypatch):
    """Muxers mark frames as keyframes that are none. What cannot be decoded from there is decoded from the beginning."""
    options = {"g": "40"} | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
    path = write_video(tmp_path / "video.mp4", 40, codec=codec, options=options)
    append = packets.PacketTable.append

    def claim(self, packet):
        append(self, packet)
        if len(self) in (10, 20, 30) and len(self) - 1 not in self.keyframes:
            self.keyframes.append(len(self) - 1)

    monkeypatch.setattr(packets.PacketTable, "append", claim)
    whole = list(decode_everything(path).values())
    with open_video(path) as video:
        assert len(video.index.packets.keyframes) > 3
        for number in (35, 12, 25, 39):
            assert np.array_equal(video.decode([number])[0].permute(1, 2, 0).numpy(), whole[number])


TS_PACKET = 188


def test_a_broadcast_recorded_from_the_middle_begins_with_its_first_keyframe(access, tmp_path):
    path = write_long(tmp_path / "video.ts", container="mpegts", size=(320, 240))
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 4 // TS_PACKET * TS_PACKET :])
    with open_video(path) as video:
        numbers = numbers_in(video.decode(range(video.num_frames)))
    assert numbers == list(range(numbers[0], 60))
    assert numbers[0] in (12, 24)


def test_what_the_container_calls_damaged_is_not_used(access, tmp_path, monkeypatch):
    """Even if the decoder would take it; nor is what refers to it."""
    path = write_long(tmp_path / "video.mp4")
    append = packets.PacketTable.append

    def mark(self, packet):
        append(self, packet)
        if len(self) == 13:
            self.broken.add(12)

    monkeypatch.setattr(packets.PacketTable, "append", mark)
    with open_video(path) as video:
        for number in range(60):
            if 12 <= number < 24:
                with pytest.raises(DecodeError):
                    video.decode([number])
            else:
                assert numbers_in(video.decode([number])) == [number]


def test_damage_to_what_nobody_asked_for_goes_unnoticed(tmp_path):
    path = write_long(tmp_path / "video.mp4")
    places = layout(path)
    destroy(path, *places[40][1:])
    with open_video(path) as video:
        video.decode([0, 5])
        assert video.report.errors == 0
