"""Compressed packets of a video stream by their number in decoding order."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import IO

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from kinema.data.decoding.containers import MAX_PIXELS, open_container

NO_TIME = -(1 << 63)  # stands for an unknown time, as in FFmpeg
_NEAR = 16  # packets ahead to which reading on is quicker than seeking
KEEP_BYTES = 32 << 20  # packets of files up to this size are read once

# Where damage is noticed, decoding fails; left alone, FFmpeg would invent the missing part of the picture.
_DECODER_OPTIONS = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}


def _times() -> array:
    return array("q")


@dataclass(eq=False)
class PacketTable:
    """What is known of every packet of a stream, in decoding order.

    Args:
        pts: Display times in ticks, or `NO_TIME`.
        dts: Decoding times in ticks, or `NO_TIME`.
        size: Bytes.
        keyframes: Numbers of the packets that decoding may start from.
        hidden: Numbers of the packets to be decoded but not shown (before the start of an edit list).
        broken: Numbers of the packets that the container marks as damaged.
        cut_off: Decoding times of further frames that an MP4 lists and that lie beyond the end of the file.
        last_duration: Ticks for which the frame shown last stays, or 0 if that is unknown.
        errors: Errors met while reading the packets.
    """

    pts: array = field(default_factory=_times)
    dts: array = field(default_factory=_times)
    size: array = field(default_factory=_times)
    keyframes: list[int] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    cut_off: list[int] = field(default_factory=list)
    last_duration: int = 0
    errors: int = 0
    _last_pts: int = NO_TIME

    def __len__(self) -> int:
        return len(self.pts)

    def append(self, packet: Packet) -> None:
        """Note the next packet."""
        number = len(self.pts)
        pts, dts = packet.pts, packet.dts
        self.pts.append(NO_TIME if pts is None else pts)
        self.dts.append(NO_TIME if dts is None else dts)
        self.size.append(packet.size)
        if packet.is_keyframe:
            self.keyframes.append(number)
        if packet.is_discard:
            self.hidden.add(number)
        elif self.pts[number] >= self._last_pts:
            self._last_pts, self.last_duration = self.pts[number], packet.duration or 0
        if packet.is_corrupt:
            self.broken.add(number)
            self.errors += 1

    def matches(self, number: int, packet: Packet) -> bool:
        """Tell whether a packet is the one of this number; display time and size identify it."""
        pts = packet.pts
        return (
            number < len(self.pts)
            and self.pts[number] == (NO_TIME if pts is None else pts)
            and self.size[number] == packet.size
        )


class PacketCursor:
    """Reads the packets of a video, on from a given one.

    Args:
        file: The open video file; it must allow seeking.
        name: What to call it in messages.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self.open()

    def open(self) -> None:
        """Go to the first packet by opening the container, anew if it was open, with a new decoder."""
        self.close()
        self._file.seek(0)
        self.container, self.stream = open_container(self._file, self._name)
        context = self.stream.codec_context
        context.thread_type = "NONE"  # DataLoader workers fill the cores; more threads only cost
        context.thread_count = 1
        context.options = dict(_DECODER_OPTIONS)
        self._packets = self._demux()
        self._position: int | None = 0  # of the next packet, where that is known
        self._kept: list[Packet] | None = None

    def close(self) -> None:
        """Close the container; the file stays open."""
        if hasattr(self, "container"):
            self._packets, self._kept = iter(()), None
            self.container.close()

    def read_table(self) -> PacketTable:
        """Read every packet, and keep them for decoding if they are small enough together."""
        table, kept, kept_bytes = PacketTable(), [], 0
        try:
            for packet in self._packets:
                table.append(packet)
                kept_bytes += packet.size
                if kept_bytes <= KEEP_BYTES:
                    kept.append(packet)
        except av.error.FFmpegError:
            table.errors += 1
        self._position = None
        if kept_bytes <= KEEP_BYTES:
            self._kept = kept
        if self.container.format.name.startswith("mov"):
            table.cut_off = [
                entry.timestamp for entry in self.stream.index_entries[len(table) :] if not entry.is_discard
            ]
            table.errors += bool(table.cut_off)
        return table

    def packets_from(self, first: int, table: PacketTable) -> Iterator[Packet]:
        """Go to packet `first`, by seeking if that leads there and by reading from the start if not; yield from there on.

        Every packet is compared with the table; the first one that differs, or cannot be read, ends the packets.
        """
        if self._kept is not None:
            return iter(self._kept[first:])
        near = self._position is not None and 0 <= first - self._position < _NEAR
        if not near and not (first > 0 and self._seek(first, table)):
            self.open()
        return self._read_on(first, table)

    def _read_on(self, first: int, table: PacketTable) -> Iterator[Packet]:
        position = self._position
        assert position is not None, "reading on needs a known position"
        while True:
            self._position = None  # lost, should this generator be left or the packet be another one
            packet = self._next()
            if packet is None or not table.matches(position, packet):
                return
            self._position = position = position + 1
            if position > first:
                yield packet

    def _seek(self, number: int, table: PacketTable) -> bool:
        """Seek to a keyframe packet and tell whether it was reached.

        Containers find a time at different precision and by different clocks (decoding time in MP4, display time in
        Matroska), so the seek may end before the packet, which costs reading a few more, or beyond it.
        """
        time = table.pts[number] if table.dts[number] == NO_TIME else table.dts[number]
        if time == NO_TIME:
            return False
        try:
            self.container.seek(time, stream=self.stream)
        except av.error.FFmpegError:
            return False
        self._packets = self._demux()
        while (packet := self._next()) is not None:
            if table.matches(number, packet):
                self._position = number
                self._packets = chain([packet], self._packets)
                return True
            if packet.is_keyframe and packet.pts is not None and packet.pts > table.pts[number]:
                return False
        return False

    def _demux(self) -> Iterator[Packet]:
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:  # the last packet of all is an empty one
                    yield packet
        except IndexError:
            return  # PyAV, at the end of a file in which a further stream has turned up (damaged MPEG-TS)

    def _next(self) -> Packet | None:
        try:
            return next(self._packets, None)
        except av.error.FFmpegError:
            return None
