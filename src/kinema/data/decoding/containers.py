"""Which files may be opened at all, and opening them so that they can name no other file.

FFmpeg guesses a file's format from its content, and some formats are lists of further files or network addresses
(HLS and DASH playlists, concat scripts, SDP). A data set must not be able to make its reader fetch those. So the
container is recognised here from its first bytes, FFmpeg is told which demuxer to use, every source reaches it as an
open file rather than a name, and no protocol is left to open another one with.
"""

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import av
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from kinema.data.decoding.file_part import FilePart, PartReader
from kinema.data.decoding.report import DecodeError

# 8192 x 8192: twice the pixels of 8K video. One frame of this size takes 200 MB as RGB.
MAX_PIXELS = 1 << 26

_MOV_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx"}
_HEAD_BYTES = 1024
_REENCODE = "copy the file again from its source, or re-encode it, for example to H.264 in MP4"

# What people find in their folders under the name of a video, recognised to say so.
_LOOKALIKES = (
    (b"#EXTM3U", "an HLS playlist, which names other files"),
    (b"ffconcat", "an FFmpeg concat script, which names other files"),
    (b"v=0", "an SDP session description, which names network addresses"),
    (b"<MPD", "a DASH manifest, which names other files"),
    (b"[playlist]", "a playlist, which names other files"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
)


@dataclass(frozen=True)
class FileKey:
    """Names one state of one video: another size or time of change of its file is another key."""

    path: str
    inode: int
    size: int
    changed_ns: int
    begin: int = 0


def describe(source: str | Path | bytes | FilePart) -> str:
    """Name a source in a message."""
    if isinstance(source, FilePart):
        return source.name
    return f"a video of {len(source)} bytes in memory" if isinstance(source, bytes) else str(source)


def open_source(source: str | Path | bytes | FilePart) -> tuple[IO[bytes], FileKey | None]:
    """Open a regular file, or bytes or a part of a file as if they were one.

    Returns:
        The open file, and the key of its present state; None for bytes.

    Raises:
        DecodeError: If there is no such file, it cannot be read, is empty, or is no regular file (a folder, a pipe).
    """
    name = describe(source)
    if isinstance(source, bytes):
        if not source:
            raise DecodeError(f"{name}: 0 bytes were given, a video was needed; check what was read")
        return io.BytesIO(source), None
    part, path = (source, source.path) if isinstance(source, FilePart) else (None, source)
    try:
        facts = Path(path).stat()
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "a pipe, socket or device"
            raise DecodeError(f"{name} is {kind}, a video file was needed; give the path of a regular file")
        if (facts.st_size if part is None else part.size) == 0:
            raise DecodeError(f"{name} is empty (0 bytes), a video was needed; {_REENCODE}")
        file = open(path, "rb", buffering=0) if part is None else PartReader(part)  # noqa: PTH123, SIM115 - the reader closes it
    except (OSError, ValueError) as error:  # a ValueError for a path with a zero byte
        if isinstance(error, DecodeError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DecodeError(f"{name} cannot be read ({reason}); check the path and its permissions") from error
    begin = 0 if part is None else part.begin
    return cast(IO[bytes], file), FileKey(os.fspath(path), facts.st_ino, facts.st_size, facts.st_mtime_ns, begin)


def recognise(head: bytes) -> str | None:
    """Name FFmpeg's demuxer for a file that begins with `head`; None if it is no container we read."""
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "avi"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "mpeg"
    if head.startswith(b"FLV\x01"):
        return "flv"
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        return "asf"
    if head.startswith(b"OggS"):
        return "ogg"
    # A transport stream has no header, only a sync byte every 188 bytes, or 192 with the time codes of Blu-ray.
    if any(
        len(head) > 2 * step and {head[start + k * step] for k in range(3)} == {0x47}
        for start, step in ((0, 188), (4, 192))
    ):
        return "mpegts"
    return None


def open_container(file: IO[bytes], name: str) -> tuple[InputContainer, VideoStream]:
    """Open a recognised container and its main video stream; all other streams are left unread.

    Raises:
        DecodeError: If the content is no container we read, is damaged beyond opening, holds no video stream, no
            decoder knows its codec, or its frames have no pixels or more than `MAX_PIXELS`.
    """
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    demuxer = recognise(head)
    if demuxer is None:
        raise DecodeError(
            f"{name}: {_what_it_is(head)} was given, a video was needed (MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, "
            f"FLV, ASF or Ogg, recognised from its first bytes whatever its name); {_REENCODE}"
        )
    try:
        container = _open_demuxer(file, demuxer)
    except (av.error.FFmpegError, ValueError, RuntimeError) as error:
        raise DecodeError(
            f"{name}: FFmpeg's {demuxer} demuxer cannot open it ({_reason(error)}); it was probably cut off before its "
            f"index was written, or damaged; {_REENCODE}"
        ) from error
    try:
        return container, _main_video_stream(container, name)
    except BaseException:
        container.close()
        raise


def _open_demuxer(file: IO[bytes], demuxer: str) -> InputContainer:
    """Open a container; of H.264 in MP4 without decoding the first frames of it.

    FFmpeg decodes a few frames to learn what a container does not say, and takes longer for that than for everything
    else that opening needs (measured: 0.8 of 1.0 ms for 320 x 240). MP4 says all that we use, and the decoder learns the
    rest from the stream.
    """
    # Any other file would be opened by some protocol, in some format; none is allowed.
    options = {"protocol_whitelist": "none", "format_whitelist": demuxer, "max_pixels": str(MAX_PIXELS)}
    if demuxer == "mov":
        container = _av_open(file, demuxer, options | {"codec_whitelist": "none", "probesize": "32"})
        stream = container.streams.best("video")
        if stream is not None and stream.codec_context is not None and stream.codec_context.name == "h264":
            return container
        container.close()
        file.seek(0)
    return _av_open(file, demuxer, options)


def _av_open(file: IO[bytes], demuxer: str, options: dict[str, str]) -> InputContainer:
    return av.open(file, "r", format=demuxer, options=options, metadata_errors="replace", buffer_size=1 << 16)


def _main_video_stream(container: InputContainer, name: str) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & stream.disposition.attached_pic:
        held = ", ".join(sorted({other.type for other in container.streams})) or "nothing"
        raise DecodeError(
            f"{name}: it holds {held}, a video stream was needed (cover pictures do not count); take it out of the "
            "data set"
        )
    context = stream.codec_context
    if context is None:
        raise DecodeError(f"{name}: its video codec is unknown, one that FFmpeg decodes was needed; {_REENCODE}")
    if context.width < 1 or context.height < 1:
        raise DecodeError(f"{name}: its header gives no picture size; {_REENCODE}")
    if context.width * context.height > MAX_PIXELS:
        raise DecodeError(
            f"{name}: frames of {context.width} x {context.height} were given, at most {MAX_PIXELS} pixels are "
            "decoded; scale the video down"
        )
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _what_it_is(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, what in _LOOKALIKES:
        if text.startswith(magic.lower()) or head.startswith(magic) or (magic == b"<MPD" and b"<mpd" in text):
            return what
    if not head.strip(b"\x00"):
        return "a file that begins with zeros"
    printable = sum(byte in b"\t\n\r\f" or 32 <= byte < 127 or byte >= 128 for byte in head)
    if printable == len(head):
        return "text"
    return f"data that begins with {head[:8].hex(' ')}"


def _reason(error: BaseException) -> str:
    log = getattr(error, "log", None)
    detail = getattr(error, "strerror", None) or str(error)
    return f"{detail}: {log[2].strip()}" if log else str(detail)
