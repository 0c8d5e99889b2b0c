"""Where the frames of a stream come from: a file, a folder of pictures, a camera, or an address of the network.

Of addresses, FFmpeg may open RTSP and HTTP alone, and on HTTP nothing but containers of video and HLS: what a server sends
can make it read no file of this machine.
"""

import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from kinema.streaming.container import OpenedContainer
from kinema.streaming.masking import masked_url
from kinema.streaming.source import Opened, Source, StreamError
from kinema.streaming.stored import PictureFolder, VideoFile

Transport = Literal["tcp", "udp"]

_HTTP_FORMATS = "mov,matroska,mpegts,flv,mpjpeg,mjpeg,avi,ogg,asf,hls,aac,mp3,webvtt"
_ADDRESS_OPTIONS = {
    "http": {"protocol_whitelist": "http,https,httpproxy,tls,tcp,crypto", "format_whitelist": _HTTP_FORMATS},
    "rtsp": {"protocol_whitelist": "rtsp,rtsps,rtp,srtp,http,https,httpproxy,tls,tcp,udp"},
}
LONGEST_STALL_S = 86_400
"""A day: longer waits are a mistake, and overflow the clock of FFmpeg."""


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

    def open(self) -> Opened:
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

    def open(self) -> Opened:
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
        stall_s, live, transport: Of addresses; the first of cameras, too. Cameras are live, and what lies on a disk is not.

    Raises:
        ValueError: If nothing is meant, or an option is out of its range, or says that a file or folder is live or a camera
            is not.
    """
    if "://" in text:
        return Address(text, stall_s, live, transport)
    _need_time(stall_s)
    path = Path(text).expanduser()
    device = re.fullmatch(r"(/dev/video)?(\d+)", text)
    if device and (device[1] or not path.exists()):
        if live is False:
            raise ValueError(f"camera {device[2]} waits for nobody, so live={live} cannot be; leave it out")
        return Camera(int(device[2]), stall_s)
    if live and path.exists():
        raise ValueError(
            f"{masked_url(text)} lies on a disk, where every frame waits until it is read, so live={live} cannot be; leave it "
            "out, or take fewer frames with a lower rate"
        )
    if path.is_dir():
        return PictureFolder(path, picture_fps)
    if not path.exists():
        raise ValueError(
            f"there is no file or folder {masked_url(text)}; give one, the number of a camera, or an address such as rtsp://HOST/PATH"
        )
    return VideoFile(path)
