"""Where the frames of a stream come from: a file, a folder of pictures, a camera, or an address of the network.

All but files are read by PyAV as they come. Files go through the reader of data sets, so they are exact or an error, and what
may be opened at all is decided there. Of addresses, FFmpeg may open RTSP and HTTP alone, and on HTTP nothing but containers of
video and HLS: what a server sends can make it read no file of this machine.
"""

import errno
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, Self

import av
import numpy as np
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8
from numpy.typing import NDArray

from kinema.data.decoding import DecodeError, open_video
from kinema.data.decoding.colour import rgb_of
from kinema.data.decoding.containers import MAX_PIXELS
from kinema.data.decoding.frame_folder import PICTURE_SUFFIXES, read_picture
from kinema.data.decoding.orientation import orientation_of
from kinema.streaming.masking import masked_text, masked_url

Transport = Literal["tcp", "udp"]

_HTTP_FORMATS = "mov,matroska,mpegts,flv,mpjpeg,mjpeg,avi,ogg,asf,hls,aac,mp3,webvtt"
_ADDRESS_OPTIONS = {
    "http": {"protocol_whitelist": "http,https,httpproxy,tls,tcp,crypto", "format_whitelist": _HTTP_FORMATS},
    "rtsp": {"protocol_whitelist": "rtsp,rtsps,rtp,srtp,http,https,httpproxy,tls,tcp,udp"},
}
# Formats whose frames have no time of their own: FFmpeg counts them as if there were 25 a second.
_WITHOUT_TIMES = {"mpjpeg", "mjpeg"}
# Formats whose length is written down. In others it is guessed from the rate of bits, and no end can be too early.
_SAY_THEIR_LENGTH = {"mov", "matroska"}
_MOST_FPS = 1000  # what FFmpeg guesses above this is a time base, and no rate
_BLOCK_FRAMES = 4  # of a file, decoded at once
LONGEST_STALL_S = 86_400
"""A day: longer waits are a mistake, and overflow the clock of FFmpeg."""
_NUMBERS = re.compile(r"(\d+)")


class StreamError(Exception):
    """A source that cannot be opened, or from which no more frames come; it names no password."""


@dataclass(frozen=True)
class Picture:
    """One frame as a source gives it.

    Args:
        pixels: RGB, upright; None where they were not wanted.
        time_s: Seconds on the clock of the source; None where it has none, and the moment of arrival counts.
    """

    pixels: UInt8[NDArray, "H W 3"] | None
    time_s: Fraction | None


class Opened(ABC):
    """A source that gives frames."""

    live = False
    """Whether frames come at the pace of what they show, so that a frame that is not taken is late, and not early."""
    fps: Fraction | None = None
    """Frames per second that the source announces."""
    duration_s: Fraction | None = None
    """Length that the source announces."""
    damaged = 0
    """Frames that could not be decoded, and were left out."""
    note = ""
    """What to tell of it when it has come to its end."""
    waited_s = 0.0
    """Seconds in all for which the next frame was not there yet; 0 where that cannot be told from the time of decoding."""
    wanted: Callable[[Fraction | None], bool] = staticmethod(lambda time_s: True)
    """Asked with the time of each frame of a live source, behind decoding: for False its pixels are None, which is cheaper."""

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """The frames in order.

        Raises:
            StreamError: If the source fails, nothing comes for too long, or it ends before its announced length.
            DecodeError: If a file is damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the source."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Source(Protocol):
    """What can be opened, and opened again where it was lost."""

    @property
    def name(self) -> str:
        """For messages; without passwords."""
        ...

    @property
    def reconnects(self) -> bool:
        """Whether it makes sense to open it anew when it is lost."""
        ...

    @property
    def stall_s(self) -> float | None:
        """Seconds without a frame after which it counts as lost; None for sources that cannot stall."""
        ...

    def open(self) -> Opened:
        """Open it.

        Raises:
            StreamError: If it cannot be opened.
            DecodeError: If a file is no video.
        """
        ...


@dataclass(frozen=True)
class VideoFile:
    """A video file, every frame of it."""

    path: Path
    reconnects = False
    stall_s = None

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> "Opened":
        return _OpenedFile(self.path)


class _OpenedFile(Opened):
    def __init__(self, path: Path) -> None:
        self._video = open_video(path)
        self.fps, self.duration_s = self._video.fps, self._video.duration

    def pictures(self) -> Iterator[Picture]:
        index = self._video.index
        first, number = int(index.pts[0]), 0
        for block in self._video.decode_on(range(self._video.num_frames), block_frames=_BLOCK_FRAMES):
            for pixels in block.permute(0, 2, 3, 1).numpy():
                yield Picture(pixels, (int(index.pts[number]) - first) * index.time_base)
                number += 1

    def close(self) -> None:
        self._video.close()


@dataclass(frozen=True)
class PictureFolder:
    """JPEG and PNG files as frames, in the order of the numbers in their names; they may change their size.

    One that cannot be decoded is left out and counted, as of an address; only if none can, that is an error.

    Args:
        path: The folder.
        fps: Pictures per second: a folder does not say it.
    """

    path: Path
    fps: Fraction = Fraction(25)
    reconnects = False
    stall_s = None

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"{float(self.fps):g} pictures a second were given; give a number above 0")

    @property
    def name(self) -> str:
        return str(self.path)

    def files(self) -> list[Path]:
        """The pictures in their order."""
        files = [file for file in self.path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
        return sorted(files, key=_by_number)

    def open(self) -> "Opened":
        files = self.files()
        if not files:
            raise StreamError(
                f"{self.path} holds no picture; give a folder of {', '.join(sorted(PICTURE_SUFFIXES))} files"
            )
        return _OpenedFolder(files, self.fps)


class _OpenedFolder(Opened):
    def __init__(self, files: list[Path], fps: Fraction) -> None:
        self._files, self.fps = files, fps

    def pictures(self) -> Iterator[Picture]:
        assert self.fps is not None
        first_error: DecodeError | None = None
        for number, file in enumerate(self._files):
            try:
                pixels = read_picture(file)
            except DecodeError as error:
                self.damaged += 1
                first_error = first_error or error
                continue
            yield Picture(pixels, number / self.fps)
        if first_error is not None and self.damaged == len(self._files):
            raise first_error
        if first_error is not None:
            self.note = f"{self.damaged} of {len(self._files)} pictures were left out, the first because {first_error}"

    def close(self) -> None:
        pass


def _by_number(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """A key by which frame_9 comes before frame_10."""
    parts = [part for part in _NUMBERS.split(file.stem) if part]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts], file.name


@dataclass(frozen=True)
class Address:
    """A url of RTSP or HTTP.

    Args:
        url: Its user, password and values are shown nowhere.
        stall_s: Seconds without a frame after which it is lost.
        live: Whether it is; None: it is unless it says how long it is, in seconds or in bytes.
        transport: Of RTSP. Over UDP lost packets are damage, over TCP they are sent again.

    Raises:
        ValueError: If it is of another protocol.
    """

    url: str
    stall_s: float = 10.0
    live: bool | None = None
    transport: Transport = "tcp"
    reconnects = True

    def __post_init__(self) -> None:
        if self._scheme not in _ADDRESS_OPTIONS:
            raise ValueError(f"{self.name} is of no known protocol; give rtsp://, rtsps://, http:// or https://")
        _need_time(self.stall_s)

    def __repr__(self) -> str:
        return f"Address({self.name!r})"

    @property
    def _scheme(self) -> str:
        return self.url.partition("://")[0].lower().removesuffix("s")

    @property
    def name(self) -> str:
        return masked_url(self.url)

    def open(self) -> "Opened":
        options = _ADDRESS_OPTIONS[self._scheme] | (
            {"rtsp_transport": self.transport} if self._scheme == "rtsp" else {}
        )
        format = "rtsp" if self._scheme == "rtsp" else None
        return OpenedContainer(self.url, self.name, format, options, self.stall_s, self.live)


@dataclass(frozen=True)
class Camera:
    """A camera at this machine.

    Args:
        number: Counted from 0.
        stall_s: Seconds without a frame after which it is lost.
    """

    number: int
    stall_s: float = 10.0
    reconnects = False

    @property
    def name(self) -> str:
        return f"camera {self.number}"

    def open(self) -> "Opened":
        format, device = _device(self.number)
        return OpenedContainer(device, self.name, format, {}, self.stall_s, True)


def _need_time(stall_s: float) -> None:
    if not 0 < stall_s <= LONGEST_STALL_S:
        raise ValueError(
            f"stall_s={stall_s} is no time to wait for a frame; give seconds above 0, at most {LONGEST_STALL_S}"
        )


def _device(number: int) -> tuple[str, str]:
    """FFmpeg's name of what cameras are attached to, and of the camera there."""
    if sys.platform == "darwin":
        return "avfoundation", str(number)
    if sys.platform != "win32":
        return "v4l2", f"/dev/video{number}"
    from av.device import enumerate_input_devices

    cameras = [device.description for device in enumerate_input_devices("dshow") if "video" in device.media_types]
    if number >= len(cameras):
        raise StreamError(f"there is no camera {number}; this machine has {len(cameras)}, counted from 0")
    return "dshow", f"video={cameras[number]}"


class OpenedContainer(Opened):
    """What PyAV reads as it comes.

    Frames that cannot be decoded, or that the decoder marks as damaged, are left out and counted: a stream that is joined in
    the middle begins with such, and one lost packet must not end it.

    Args:
        address: For FFmpeg.
        name: For messages.
        format: FFmpeg's name of the format; what it finds when None.
        options: For FFmpeg.
        stall_s: Seconds without a frame after which the source is lost; likewise for opening it.
        live: Whether it is live; None: it is unless it says how long it is, in seconds or in bytes.

    Raises:
        StreamError: If it cannot be opened, or holds no video.
    """

    def __init__(
        self, address: str, name: str, format: str | None, options: dict[str, str], stall_s: float, live: bool | None
    ) -> None:
        self._address, self._name, self._stall_s = address, name, stall_s
        self._reformatter = VideoReformatter()
        failure: str | None = None
        options = options | {"max_pixels": str(MAX_PIXELS)}
        try:
            self._container = av.open(
                address, "r", format=format, options=options, metadata_errors="replace", timeout=(stall_s, stall_s)
            )
        except (av.error.FFmpegError, ValueError, RuntimeError) as error:
            failure = self._reason(error)
        # Raised outside, for an error of PyAV names the address, and would be shown as the cause of this one.
        if failure is not None:
            raise StreamError(f"{name} cannot be opened ({failure}); check the address and that it sends video")
        self._stream = self._video_stream()
        container = self._container
        rate = self._stream.average_rate or self._stream.base_rate
        self._without_times = container.format.name in _WITHOUT_TIMES
        if rate and 0 < rate <= _MOST_FPS and not self._without_times:
            self.fps = rate
        announced = container.duration is not None and container.duration > 0
        # A playlist has a size however long it goes on.
        self._sized = container.format.name != "hls" and container.size > 0
        self.live = not announced and not self._sized if live is None else live
        if not self.live and container.format.name.partition(",")[0] in _SAY_THEIR_LENGTH:
            self.duration_s = self._length()

    def _length(self) -> Fraction | None:
        """Seconds of video that the container announces; None where that may be those of its sound."""
        stream, container = self._stream, self._container
        if stream.duration is not None and stream.time_base is not None:
            return stream.duration * stream.time_base
        return (
            Fraction(container.duration, av.time_base) if len(container.streams) == 1 and container.duration else None
        )

    def _video_stream(self) -> VideoStream:
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            held = ", ".join(sorted({other.type for other in self._container.streams})) or "nothing"
            self.close()
            raise StreamError(f"{self._name} sends {held}, a video that FFmpeg decodes was needed")
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        stream.thread_type = "SLICE"  # threads over frames would hold as many frames back
        return stream

    def pictures(self) -> Iterator[Picture]:
        failure: str | None = None
        last = time.monotonic()
        end_s = Fraction(0)
        first: Fraction | None = None
        try:
            for packet in self._packets():
                for frame in self._decode(packet):
                    picture = self._picture(frame)
                    if picture.time_s is not None:
                        first = picture.time_s if first is None else first
                        end_s = picture.time_s - first
                    yield picture
                    last = time.monotonic()  # who takes frames may take as long as they like
                if time.monotonic() - last > self._stall_s:
                    failure = f"no new frame that can be decoded came for {self._stall_s:g} s; --stall waits longer"
                    break
        except (av.error.FFmpegError, ValueError, RuntimeError) as error:
            # A server that did not announce a length ends by closing the connection, which FFmpeg calls an error.
            if getattr(error, "errno", None) != errno.EIO or self._sized:
                failure = self._reason(error)
        if failure is None and time.monotonic() - last >= self._stall_s:
            failure = self._stalled  # some formats take an interrupted read for the end
        if failure is None and self.duration_s is not None and end_s < self.duration_s - max(2 / (self.fps or 1), 1):
            failure = f"it ended behind {float(end_s):.1f} of {float(self.duration_s):.1f} s"
        if failure is not None:
            raise StreamError(f"{self._name} was lost ({failure})")

    def _packets(self) -> Iterator[av.Packet]:
        """Packets as they come; how long they were waited for is counted."""
        packets = self._container.demux(self._stream)
        while True:
            begun = time.monotonic()
            packet = next(packets, None)
            self.waited_s += time.monotonic() - begun
            if packet is None:
                return
            yield packet

    def _decode(self, packet: av.Packet) -> list[VideoFrame]:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.damaged += 1
            return []
        good = [frame for frame in frames if isinstance(frame, VideoFrame) and not frame.is_corrupt]
        self.damaged += len(frames) - len(good)
        return good

    def _picture(self, frame: VideoFrame) -> Picture:
        time_s = None
        if frame.pts is not None and frame.time_base is not None and not self._without_times:
            time_s = frame.pts * frame.time_base
        if not self.wanted(time_s):
            return Picture(None, time_s)
        pixels = orientation_of(frame, self._name).apply(rgb_of(frame, self._reformatter))
        return Picture(np.array(pixels, order="C"), time_s)

    @property
    def _stalled(self) -> str:
        return f"no new frame came for {self._stall_s:g} s; --stall waits longer"

    def _reason(self, error: BaseException) -> str:
        """What went wrong, in FFmpeg's words, without the address."""
        if isinstance(error, av.error.ExitError):
            return self._stalled
        return masked_text(getattr(error, "strerror", None) or type(error).__name__, self._address)

    def close(self) -> None:
        self._container.close()


def source_of(
    text: str,
    *,
    picture_fps: Fraction = Fraction(25),
    stall_s: float = 10.0,
    live: bool | None = None,
    transport: Transport = "tcp",
) -> Source:
    """What is meant by a word of the command line: what has `://` is an address, and a number that names no file a camera.

    Args:
        text: The word.
        picture_fps: Pictures per second of a folder.
        stall_s, live, transport: Of addresses; the first of cameras, too.

    Raises:
        ValueError: If nothing is meant, or an option is out of its range.
    """
    if "://" in text:
        return Address(text, stall_s, live, transport)
    _need_time(stall_s)
    path = Path(text).expanduser()
    device = re.fullmatch(r"(/dev/video)?(\d+)", text)
    if device and (device[1] or not path.exists()):
        return Camera(int(device[2]), stall_s)
    if path.is_dir():
        return PictureFolder(path, picture_fps)
    if not path.exists():
        raise ValueError(
            f"there is no file or folder {masked_url(text)}; give one, the number of a camera, or an address such as rtsp://HOST/PATH"
        )
    return VideoFile(path)
