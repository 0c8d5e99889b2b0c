"""Compressed packets of a video stream by their number in decoding order."""

from collections.abc import Iterator
from typing import IO

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from kinema.data.decoding.containers import open_container
from kinema.data.decoding.index import FrameIndex, read_index


class PacketCursor:
    """Reads packets on from a given number; each is compared with the index before it is handed out.

    Args:
        file: The open video file; it must allow seeking.
        name: What to call it in messages.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._position: int | None = None
        self._found: Packet | None = None
        self.open()

    def open(self) -> None:
        """Go to the first packet by opening the container, anew if it was open, with a new decoder."""
        self.close()
        self._file.seek(0)
        self.container, self.stream = open_container(self._file, self._name)
        context = self.stream.codec_context
        context.thread_type = "NONE"  # DataLoader workers fill the cores; more threads only cost
        context.thread_count = 1
        context.options = {"err_detect": "explode"}  # an error, where FFmpeg would conceal damage
        self._packets = self._demux()
        self._position = 0
        self._found = None

    def close(self) -> None:
        """Close the container; the file stays open."""
        if hasattr(self, "container"):
            self.container.close()

    def read_index(self) -> FrameIndex:
        """Read all packets to index the frames."""
        self._position = None
        return read_index(self.container, self.stream, self._name)

    def go_to(self, position: int, index: FrameIndex) -> None:
        """Make `position` the next packet, by seeking if that leads there and by reading from the start if not."""
        if position == self._position or (position > 0 and self._seek(position, index)):
            return
        self.open()
        while self._position is not None and self._position < position:
            self.take(index)

    def take(self, index: FrameIndex) -> Packet | None:
        """Return the next packet; None at the end, on a read error, and if it is not the one that the index expects."""
        position, packet = self._position, self._found
        self._found = None
        if position is None:
            return None
        packet = packet or self._next()
        self._position = position + 1 if packet is not None and _is_packet(packet, position, index) else None
        return packet if self._position is not None else None

    def _seek(self, position: int, index: FrameIndex) -> bool:
        """Seek to a keyframe packet and tell whether it was reached.

        Containers find a time at different precision and by different clocks (decoding time in MP4, display time in
        Matroska), so the seek may end before the packet, which costs reading a few more, or beyond it.
        """
        pts = index.packet_pts[position]
        time = pts if index.packet_dts[position] is None else index.packet_dts[position]
        self._position = None
        if time is None or pts is None:
            return False
        try:
            self.container.seek(time, stream=self.stream)
        except av.error.FFmpegError:
            return False
        self._packets = self._demux()
        while (packet := self._next()) is not None:
            if _is_packet(packet, position, index):
                self._position, self._found = position, packet
                return True
            if packet.is_keyframe and packet.pts is not None and packet.pts > pts:
                return False
        return False

    def _demux(self) -> Iterator[Packet]:
        return self.container.demux(self.stream)

    def _next(self) -> Packet | None:
        try:
            return next((packet for packet in self._packets if packet.size), None)
        except av.error.FFmpegError:
            return None


def _is_packet(packet: Packet, position: int, index: FrameIndex) -> bool:
    return (
        position < len(index.packet_pts)
        and packet.pts == index.packet_pts[position]
        and packet.size == index.packet_size[position]
    )
