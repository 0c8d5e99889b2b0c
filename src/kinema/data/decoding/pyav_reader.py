"""The default reader: PyAV, one thread, nothing decoded that is not needed, every frame verified by its timestamp.

The plan of a decode: look the wanted frames up in the timestamp index, group them into runs, and for every run go to its
keyframe and decode forward to its last frame. Three things make this exact and fast.

* A packet is identified by its display time and size after a seek, and every further one is compared with the index;
  where a container seeks to the wrong place (MPEG-TS), the file is read again from its beginning.
* A frame is taken for what it is by `frame.pts`, never by counting what comes out of the decoder.
* Frames that no other frame refers to (most B-frames) are skipped unless they are wanted, and the decoder is drained
  after the last wanted packet, so that reordering costs no further frame.

Colour: swscale's default conversion to full-range 8-bit RGB, with the matrix and range that the stream names, and ITU-R
BT.601, limited range, where it names none.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from kinema.data.decoding.containers import describe, open_source
from kinema.data.decoding.index import NOT_STORED, FrameIndex, Picture, Run
from kinema.data.decoding.index_cache import recall, remember
from kinema.data.decoding.interface import VideoReader
from kinema.data.decoding.orientation import orientation_of
from kinema.data.decoding.packets import PacketCursor
from kinema.data.decoding.report import DecodeError, DecodeReport

# Codecs whose syntax says of each frame whether any other refers to it, and whose decoder heeds that before decoding:
# `nal_ref_idc` of H.264, picture type B of MPEG-4 part 2 and MPEG-2. HEVC only says so within a temporal layer.
_SKIPS_UNREFERENCED = {"h264", "mpeg4", "mpeg2video"}


class Canvas:
    """The result of one decode, filled frame by frame.

    Args:
        slots: For each wanted frame the places of the result that show it.
        num_slots: Size of T.
    """

    def __init__(self, slots: dict[int, list[int]], num_slots: int) -> None:
        self.slots = slots
        self.num_slots = num_slots
        self.pixels: Tensor | None = None
        self.done: set[int] = set()

    def draw(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Copy an (H, W, C) picture to every place where the frame is wanted."""
        if self.pixels is None:
            self.pixels = torch.empty((self.num_slots, *picture.shape), dtype=torch.uint8)
            self._array = self.pixels.numpy()
        for slot in self.slots[number]:
            self._array[slot] = picture


class PyAVReader(VideoReader):
    """Read a video with PyAV.

    Args:
        source: Path of a video file, or its content.

    Raises:
        DecodeError: If the source is no video that may be opened, or holds no frame.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        self.name = describe(source)
        self._reformatter = VideoReformatter()
        self._file, key = open_source(source)
        try:
            self._cursor = PacketCursor(self._file, self.name)
            self._index = recall(key) or self._cursor.read_index()
            remember(key, self._index)
        except BaseException:
            self.close()
            raise
        cut_off = np.flatnonzero(self._index.position == NOT_STORED)
        self.report = DecodeReport(self._index.errors, cut_off.tolist())

    @property
    def codec(self) -> str:
        """FFmpeg's name of the video codec."""
        return self._cursor.stream.codec_context.name

    @property
    def width(self) -> int:
        picture = self._picture()
        return picture.height if picture.orientation.transpose else picture.width

    @property
    def height(self) -> int:
        picture = self._picture()
        return picture.width if picture.orientation.transpose else picture.height

    def close(self) -> None:
        if hasattr(self, "_cursor"):
            self._cursor.close()
        self._file.close()

    def _picture(self) -> Picture:
        if self._index.picture is None:
            self.decode([0])
        assert self._index.picture is not None, "decoding a frame sets it"
        return self._index.picture

    def _decode(self, slots: dict[int, list[int]], num_slots: int) -> UInt8[Tensor, "T C H W"]:
        if self._file.closed:
            raise DecodeError(f"{self.name}: its reader was closed; open the video again")
        index = self._index
        canvas = Canvas(slots, num_slots)
        wanted = sorted(frame for frame in slots if index.position[frame] != NOT_STORED)
        errors = 0
        for run in index.runs(wanted):
            errors += self._decode_run(run, canvas)
        again = [frame for frame in wanted if frame not in canvas.done and index.start[frame] > 0]
        if again:
            # A packet marked as a keyframe need not be a place to start from, so decode from the very beginning.
            errors += self._decode_run(Run(0, max(int(index.position[frame]) for frame in again), again), canvas)
        missing = sorted(set(slots) - canvas.done)
        if missing:
            self.report.errors += errors
            self.report.add_missing(missing)
            raise DecodeError(
                f"{self.name}: frames {_shorten(missing)} of {self.num_frames} cannot be decoded exactly ({len(missing)} of "
                f"the {len(slots)} wanted, {self.report.errors} errors so far); the file is damaged or cut off: copy it "
                "again from its source, or take it out of the data set"
            )
        assert canvas.pixels is not None, "no frame is missing"
        return canvas.pixels.permute(0, 3, 1, 2)

    def _decode_run(self, run: Run, canvas: Canvas) -> int:
        """Decode the packets of a run, draw the frames that came out exact, and count the errors."""
        index = self._index
        frame_of_pts = {int(index.pts[number]): number for number in run.frames}
        damaged_from, errors = run.last + 1, 0
        drawn: set[int] = set()
        for order, output in enumerate(self._output(run)):
            if isinstance(output, int):
                damaged_from, errors = min(damaged_from, output), errors + 1
                continue
            if output.is_corrupt:
                damaged_from, errors = min(damaged_from, self._packet_of(output)), errors + 1
                continue
            number = order if index.by_order else frame_of_pts.get(output.pts)
            if number in canvas.slots and number not in drawn:
                canvas.draw(number, self._to_rgb(output))
                drawn.add(number)
            if index.by_order and len(drawn) == len(run.frames):
                break
        canvas.done.update(number for number in drawn if index.position[number] < damaged_from)
        return errors

    def _output(self, run: Run) -> Iterator[VideoFrame | int]:
        """Feed the packets of a run to the decoder and yield the frames that come out, in display order.

        An error ends the run, because whatever is decoded after it may refer to what was damaged; then the number of the
        packet is yielded. Frames whose packet came before it still count, though they may leave the decoder later.
        """
        index = self._index
        self._cursor.go_to(run.first, index)
        context = self._cursor.stream.codec_context
        needed = {int(index.position[number]) for number in run.frames}
        can_skip = context.name in _SKIPS_UNREFERENCED and not index.by_order
        context.flush_buffers()
        skipping, context.skip_frame = False, "DEFAULT"
        damaged = None
        # Where frames are only counted, those shown before the last wanted one may be stored after it.
        last = len(index.packet_pts) - 1 if index.by_order else run.last
        for position in range(run.first, last + 1):
            packet = self._cursor.take(index)
            if packet is None or position in index.broken:
                damaged = position
                break
            if can_skip and skipping == (position in needed):
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            try:
                yield from context.decode(packet)
            except av.error.FFmpegError:
                damaged = position
                break
        if damaged is not None:
            yield damaged
        if damaged is None or not index.by_order:  # what is counted must not be counted past a gap
            try:
                yield from context.decode(None)
            except av.error.FFmpegError:
                yield run.first

    def _packet_of(self, frame: VideoFrame) -> int:
        """Number the packet of a decoded frame; 0 if it cannot be known, so that no frame of the run passes for exact."""
        packets = self._index.packet_pts
        return packets.index(frame.pts) if frame.pts in packets and not self._index.by_order else 0

    def _to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert to RGB and turn upright; a view of the converted frame."""
        picture = self._index.picture
        if picture is None:
            picture = Picture(frame.width, frame.height, orientation_of(frame, self.name))
            self._index.picture = picture
        if (frame.width, frame.height) != (picture.width, picture.height):
            raise DecodeError(
                f"{self.name}: its picture changes from {picture.width} x {picture.height} to {frame.width} x "
                f"{frame.height} on the way, one size was needed; re-encode it at one size"
            )
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)
        pixels = rows[: picture.height, : picture.width * 3].reshape(picture.height, picture.width, 3)
        return picture.orientation.apply(pixels)


def _shorten(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
