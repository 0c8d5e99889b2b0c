"""Every reader gives exactly the frames asked for: from any container, in any order, to the bit."""

import random
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from kinema.data.decoding import DecodeError, index_cache, open_video, packets

from painted import decode_everything, numbers_in, write_video

UNEVEN_STEPS = np.random.default_rng(1).integers(1, 40, 40)
UNEVEN = np.cumsum(UNEVEN_STEPS).tolist()
LONG = {"num_frames": 80}
GOP = {"options": {"g": "12"}}
GOP_B = {"options": {"g": "12", "bf": "2"}}
OPEN_GOP = LONG | {"options": {"g": "10", "x264-params": "open-gop=1:scenecut=0"}}
X265 = {"codec": "libx265"} | LONG

# What the file is called: how it is written. Each line once broke some reader, ours or another one.
VIDEOS = {
    "one_keyframe.mp4": {},
    "gop_12.mp4": GOP,
    "gop_2.mp4": {"options": {"g": "2"}},
    "intra.mp4": {"options": {"g": "1"}},
    "no_b_frames.mp4": {"options": {"g": "12", "bf": "0"}},
    "open_gop.mp4": OPEN_GOP,
    "open_gop.mkv": OPEN_GOP,
    "open_gop.ts": OPEN_GOP | {"container": "mpegts"},
    "intra_refresh.mp4": LONG | {"options": {"g": "20", "x264-params": "intra-refresh=1"}},
    "b_pyramid.mp4": LONG | {"options": {"g": "25", "bf": "8", "x264-params": "b-pyramid=2:b-adapt=0"}},
    "strict_pyramid.mp4": LONG | {"options": {"g": "25", "bf": "5", "x264-params": "b-pyramid=1:b-adapt=0"}},
    "interlaced.mp4": {"options": {"g": "12", "x264-params": "interlaced=1:tff=1"}},
    "slices.mp4": {"options": {"g": "12", "x264-params": "slices=4"}},
    "fragmented.mp4": GOP | {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "faststart.mp4": {"container_options": {"movflags": "faststart"}},
    "h264.mov": GOP,
    "h264.mkv": GOP,
    "h264.flv": GOP,
    "h264.ts": GOP | {"container": "mpegts"},
    "h264.avi": GOP,
    "h264_no_b_frames.avi": {"options": {"g": "12", "bf": "0"}},
    "ten_bits.mp4": {"pixel_format": "yuv420p10le"},
    "yuv422.mp4": {"pixel_format": "yuv422p"},
    "mpeg4.mp4": {"codec": "mpeg4"} | GOP,
    "mpeg4_b_frames.mp4": {"codec": "mpeg4"} | GOP_B,
    "mpeg4.avi": {"codec": "mpeg4"} | GOP,
    "mpeg4_b_frames.avi": {"codec": "mpeg4"} | GOP_B,
    "mpeg2.mpg": {"codec": "mpeg2video"} | GOP_B,
    "mpeg2.ts": {"codec": "mpeg2video", "container": "mpegts"} | GOP_B,
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {"strict": "-1"}},
    "hevc.mp4": X265 | {"options": {"g": "20", "x265-params": "log-level=none"}},
    "hevc_layers.mp4": X265 | {"options": {"g": "20", "x265-params": "log-level=none:temporal-layers=3:bframes=8"}},
    "hevc_leading.mp4": X265 | {"options": {"g": "20", "x265-params": "log-level=none:radl=2:open-gop=0:bframes=4"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "20", "auto-alt-ref": "1", "lag-in-frames": "16"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"g": "20", "preset": "12", "svtav1-params": "lp=1"}},
    "prores.mov": {"codec": "prores", "pixel_format": "yuv422p10le"},
    "uneven_times.mp4": {"times": [512 * time for time in UNEVEN], "time_base": Fraction(1, 12_800)},
    "uneven_times.mkv": {"times": [40 * time for time in UNEVEN], "time_base": Fraction(1, 1000)},
    "starts_at_3_s.mp4": {"times": [38_400 + 512 * n for n in range(40)], "time_base": Fraction(1, 12_800)},
    "starts_at_3_s.mkv": {"times": [3000 + 40 * n for n in range(40)], "time_base": Fraction(1, 1000)},
    "odd_size.webm": {"codec": "libvpx-vp9", "size": (97, 65)},
    "odd_size.mp4": {"pixel_format": "yuv444p", "size": (97, 65)},
    "one_frame.mp4": {"num_frames": 1},
    "one_frame.mkv": {"num_frames": 1},
    "one_frame.avi": {"num_frames": 1, "codec": "mpeg4"},
    "sound.mp4": {"audio": True},
    "sound.mkv": {"audio": True},
}


@pytest.fixture(scope="session")
def video_of(tmp_path_factory):
    """Write each video once."""
    folder = tmp_path_factory.mktemp("videos")

    def write(name):
        return folder / name if (folder / name).exists() else write_video(folder / name, **VIDEOS[name])

    return write


@pytest.fixture(params=["kept", "sought", "remembered"])
def access(request, monkeypatch):
    """The three ways to the packets: kept from reading the index; by seeking; by seeking with the index of a visit before."""
    index_cache.forget_all()
    if request.param != "kept":
        monkeypatch.setattr(packets, "KEEP_BYTES", -1)
    return request.param


def random_requests(num_frames, count=10):
    draw = random.Random(0)
    return [[draw.randrange(num_frames) for _ in range(draw.choice([1, 3, 8]))] for _ in range(count)]


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_asked_for_are_the_frames_given(name, access, video_of):
    path = video_of(name)
    num_frames = VIDEOS[name].get("num_frames", 40)
    if access == "remembered":
        open_video(path).close()
    everything = list(decode_everything(path).values())
    with open_video(path) as video:
        assert video.num_frames == len(everything) == num_frames
        for request in random_requests(num_frames):
            frames = video.decode(request)
            assert numbers_in(frames) == request
            for frame, number in zip(frames, request, strict=True):
                assert np.array_equal(frame.permute(1, 2, 0).numpy(), everything[number])
        assert video.report.errors == 0
        assert video.report.missing == []


@pytest.mark.parametrize("name", [name for name in VIDEOS if "uneven" not in name])
def test_times_of_even_videos(name, video_of):
    num_frames = VIDEOS[name].get("num_frames", 40)
    with open_video(video_of(name)) as video:
        assert video.timestamps == [Fraction(number, 25) for number in range(num_frames)]
        assert video.duration == Fraction(num_frames, 25)
        assert video.fps == 25


@pytest.mark.parametrize("name", ["uneven_times.mp4", "uneven_times.mkv"])
def test_times_of_uneven_videos_are_exact(name, video_of):
    with open_video(video_of(name)) as video:
        assert video.timestamps == [Fraction(time - UNEVEN[0], 25) for time in UNEVEN]
        assert video.duration > video.timestamps[-1]
        assert video.fps == 40 / video.duration


def test_frames_hidden_by_an_edit_list_do_not_count(access, tmp_path):
    times = {"times": [512 * n for n in range(40)], "time_base": Fraction(1, 12_800), "shift": -10 * 512}
    options = {"container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"}, "options": {"g": "8"}}
    with open_video(write_video(tmp_path / "trimmed.mp4", **times, **options)) as video:
        assert video.num_frames == 30
        assert video.timestamps[:2] == [0, Fraction(1, 25)]
        assert numbers_in(video.decode([0, 29, 7])) == [10, 39, 17]


def trim(source, path, keyframe):
    """Copy packets from a keyframe on, as cutting tools do that do not encode again."""
    with av.open(str(source)) as video, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(video.streams.video[0])
        keyframes = 0
        for packet in video.demux(video=0):
            keyframes += packet.is_keyframe
            if packet.size and keyframes > keyframe:
                packet.stream = stream
                output.mux(packet)
    return path


def test_a_trimmed_open_gop_begins_with_its_first_whole_frame(access, tmp_path, video_of):
    """Cut at a keyframe in the middle, frames shown before it refer to what was cut off; no viewer shows them."""
    everything = list(decode_everything(video_of("open_gop.mkv")).values())
    with open_video(trim(video_of("open_gop.mkv"), tmp_path / "trimmed.mkv", 2)) as video:
        frames = video.decode(range(video.num_frames))
    numbers = numbers_in(frames)
    assert numbers == list(range(numbers[0], 80))
    assert 0 < numbers[0] <= 20
    for frame, number in zip(frames, numbers, strict=True):
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), everything[number])


def test_a_trimmed_closed_gop_keeps_frames_shown_before_its_keyframe(access, tmp_path):
    """HEVC may store a keyframe before frames that are shown earlier and refer to nothing before it."""
    params = "log-level=none:radl=3:open-gop=0:bframes=4:scenecut=0:keyint=20:min-keyint=20"
    source = write_video(tmp_path / "whole.mkv", 80, codec="libx265", options={"x265-params": params})
    with av.open(str(source)) as container:
        packets_ = [packet for packet in container.demux(video=0) if packet.size]
    key = [place for place, packet in enumerate(packets_) if packet.is_keyframe][2]
    assert sum(packet.pts < packets_[key].pts for packet in packets_[key:]) == 3
    with open_video(trim(source, tmp_path / "trimmed.mkv", 2)) as video:
        assert numbers_in(video.decode(range(video.num_frames))) == list(range(37, 80))


def test_times_are_exact_at_a_rate_that_no_float_holds(tmp_path):
    path = write_video(tmp_path / "ntsc.mp4", 40, times=[1001 * n for n in range(40)], time_base=Fraction(1, 30_000))
    with open_video(path) as video:
        assert video.fps == Fraction(30_000, 1001)
        assert video.timestamps == [Fraction(1001 * number, 30_000) for number in range(40)]
        assert all(isinstance(time, Fraction) for time in (*video.timestamps, video.duration, video.fps))


def test_frames_of_one_time_are_one_frame(access, tmp_path):
    """Matroska counts milliseconds: of 2000 frames a second it shows every other one. VP8 hides references that way."""
    path = write_video(tmp_path / "fast.mkv", 40, times=list(range(40)), time_base=Fraction(1, 2000))
    whole = decode_everything(path)
    with open_video(path) as video:
        assert video.num_frames == len(whole) < 40
        one_by_one = [numbers_in(video.decode([number]))[0] for number in range(video.num_frames)]
        assert numbers_in(video.decode(range(video.num_frames))) == one_by_one
        assert one_by_one == sorted(set(one_by_one))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [None, 0, 90, 180, 270])
def test_turned_pictures_are_turned_upright(rotation, mirrored, tmp_path):
    """np.rot90 turns counter-clockwise, as the display matrix does; mirroring comes after."""
    path = write_video(tmp_path / "turned.mp4", 3, rotation=rotation, mirrored=mirrored)
    stored = decode_everything(path).values()
    expected = [np.rot90(frame, (rotation or 0) // 90)[:, :: -1 if mirrored else 1] for frame in stored]
    with open_video(path) as video:
        sideways = rotation in (90, 270)
        assert (video.width, video.height) == ((64, 96) if sideways else (96, 64))
        frames = video.decode([2, 0, 1])
    for frame, number in zip(frames, [2, 0, 1], strict=True):
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), expected[number])


def test_a_turn_that_would_mix_pixels_is_refused(tmp_path):
    path = write_video(tmp_path / "tilted.mp4", 2, rotation=30)
    with open_video(path) as video, pytest.raises(DecodeError, match="no multiple of a quarter turn"):
        video.decode([0])


def test_bytes_are_read_like_the_file(video_of):
    path = video_of("gop_12.mp4")
    with (
        open_video(path) as from_file,
        open_video(path.read_bytes()) as from_memory,
        open_video(str(path)) as from_name,
    ):
        expected = from_file.decode([3, 30])
        assert torch.equal(from_memory.decode([3, 30]), expected)
        assert torch.equal(from_name.decode([3, 30]), expected)
        assert from_memory.timestamps == from_file.timestamps


def test_layout_of_the_result(video_of):
    with open_video(video_of("gop_12.mp4")) as video:
        frames = video.decode(np.array([5, 5, 1]))
        assert frames.shape == (3, 3, 64, 96)
        assert frames.dtype == torch.uint8
        assert frames.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(frames[0], frames[1])
        assert video.decode([]).shape == (0, 3, 64, 96)
        assert video.decode(torch.tensor([4])).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("wrong", [[40], [-1], [3, 99]])
def test_numbers_outside_the_video_are_named(wrong, video_of):
    with (
        open_video(video_of("gop_12.mp4")) as video,
        pytest.raises(IndexError, match=r"has 40; ask for numbers from 0 to 39"),
    ):
        video.decode(wrong)


def test_numbers_must_be_whole(video_of):
    with open_video(video_of("gop_12.mp4")) as video, pytest.raises(TypeError):
        video.decode([1.5])


def test_a_closed_reader_says_so(video_of):
    video = open_video(video_of("gop_12.mp4"))
    video.close()
    video.close()
    with pytest.raises(DecodeError, match="reader was closed"):
        video.decode([0])


def test_unknown_decoders_are_named(video_of):
    with pytest.raises(ValueError, match="decoder='decord' was given; choose 'auto', 'pyav' or 'torchcodec'"):
        open_video(video_of("gop_12.mp4"), decoder="decord")


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_matrix_and_range_of_the_stream(matrix, full_range, tmp_path):
    """ITU-R BT.601 and BT.709: Y = kr R + kg G + kb B, with Cb and Cr in proportion to B - Y and R - Y."""
    kr, kb = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114)}[matrix]
    rgb = np.array([200.0, 60.0, 30.0])
    luma = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2]
    chroma = (rgb[2] - luma) / (2 * (1 - kb)), (rgb[0] - luma) / (2 * (1 - kr))
    scale, offset, chroma_scale = (1, 0, 1) if full_range else (219 / 255, 16, 224 / 255)
    planes = [luma * scale + offset, *(value * chroma_scale + 128 for value in chroma)]
    options = {"qp": "0", "color_primaries": "bt709", "colorspace": matrix, "color_range": "pc" if full_range else "tv"}
    path = tmp_path / "patch.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame(32, 32, "yuv420p")
        for plane, value in zip(frame.planes, planes, strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with open_video(path) as video:
        assert video.decode([0])[0, :, 16, 16].numpy() == pytest.approx(rgb, abs=2)
