"""The default reader: PyAV, one thread, nothing decoded that is not needed, every frame verified by its timestamp.

The plan of a decode: look the wanted frames up in the timestamp index, group them into runs of packets that begin with a
keyframe, and decode each run (`packet_decoding`). A frame is taken for what it is by its timestamp, never by counting
what comes out of the decoder. An error ends a run; what does not depend on it is decoded around it. `decode_on` gives
the frames of a run while it goes on, for videos of which no clip could hold all frames.

Colour: to full-range 8-bit RGB by swscale, as FFmpeg's command line and torchcodec do it (chroma upsampled with their
bicubic default where a size is odd), with the matrix and range that the stream names, and ITU-R BT.601, limited range,
where it names none. Equal to both to the bit for 8-bit video, FFmpeg 8.1 against 5.1; deeper video differs by version.

Damage is noticed where the container or the decoder trips over it. Of the frames that a flipped byte spoils these are
about four in five in H.264, one in three in HEVC and few in VP9 (measured), because codecs carry no checksum. Hashes of
the files are the remedy, see `kinema.data.inspection`.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from kinema.data.decoding.canvas import Canvas, Checklist
from kinema.data.decoding.colour import rgb_of
from kinema.data.decoding.containers import describe, open_source
from kinema.data.decoding.file_part import FilePart
from kinema.data.decoding.index import NOT_STORED, FrameIndex, Picture, Run, clock_restart, index_frames
from kinema.data.decoding.index_cache import recall, remember
from kinema.data.decoding.interface import VideoReader
from kinema.data.decoding.orientation import orientation_of
from kinema.data.decoding.packet_decoding import decode_packets
from kinema.data.decoding.packets import NO_TIME, PacketCursor
from kinema.data.decoding.report import DecodeError, DecodeReport

# Containers that store no display times, only an order of decoding. If frames are reordered, the times that FFmpeg
# derives for them are wrong.
_STORE_NO_DISPLAY_TIMES = {"avi", "asf"}
# Containers of broadcasts, which are recorded from any moment on. In others, a beginning without keyframe is damage.
_BEGIN_ANYWHERE = {"mpegts", "mpeg"}
_STRETCH = (
    256  # frames decoded on from, before the next keyframe begins a new run and what is known of this one is dropped
)


class PyAVReader(VideoReader):
    """Read a video with PyAV.

    Args:
        source: Path of a video file, its content, or a part of a file.

    Raises:
        DecodeError: If the source is no video that may be opened, or holds no frame.
    """

    def __init__(self, source: str | Path | bytes | FilePart) -> None:
        self.name = describe(source)
        self._reformatter = VideoReformatter()
        self._damaged: set[int] = set()
        self._turn = 0  # counts runs, so that one that is interrupted by another notices
        self._file, key = open_source(source)
        try:
            self._cursor = PacketCursor(self._file, self.name)
            known = recall(key)
            self.index = known or self._read_index()
            if known is None:
                remember(key, self.index)
        except BaseException:
            self.close()
            raise
        cut_off = np.flatnonzero(self.index.packet == NOT_STORED)
        self.report = DecodeReport(self.index.packets.errors, cut_off.tolist())

    @property
    def codec(self) -> str:
        """FFmpeg's name of the video codec."""
        return self._cursor.stream.codec_context.name

    @property
    def demuxer(self) -> str:
        """FFmpeg's name of the container."""
        return self._cursor.container.format.name.partition(",")[0]

    @property
    def header_duration(self) -> Fraction | None:
        """Seconds of video that the container announces; None if it does not, or only for several streams together."""
        stream, container = self._cursor.stream, self._cursor.container
        if stream.duration is not None and stream.time_base is not None:
            return stream.duration * stream.time_base
        if container.duration is not None and len(container.streams) == 1:
            return Fraction(container.duration, av.time_base)
        return None

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

    def _read_index(self) -> FrameIndex:
        packets = self._cursor.read_table()
        stream = self._cursor.stream
        time_base = stream.time_base or Fraction(1, 90_000)
        if (restart := clock_restart(packets, time_base)) is not None:
            raise DecodeError(
                f"{self.name}: its clock starts again at packet {restart} of {len(packets)}, as where recordings were joined "
                "end to end; one clock was needed, so split it there, or re-encode it"
            )
        index = index_frames(
            packets,
            time_base,
            stream.average_rate,
            stores_display_times=self.demuxer not in _STORE_NO_DISPLAY_TIMES or stream.codec_context.reorder_depth == 0,
            begins_anywhere=self.demuxer in _BEGIN_ANYWHERE,
        )
        leading = index.leading()
        if leading:
            self.index, canvas = index, Checklist(leading)
            self._decode_runs(leading, canvas)
            index.drop([number for number in leading if number not in canvas.done])
        if not len(index.pts):
            raise DecodeError(
                f"{self.name}: its video stream holds {len(packets)} packets and no frame to be shown, at least one frame "
                "was needed; re-encode it from its source, or take it out of the data set"
            )
        return index

    def _picture(self) -> Picture:
        if self.index.picture is None:
            PyAVReader._decode(self, {0: [0]}, 1)
        return self._known_picture

    @property
    def _known_picture(self) -> Picture:
        assert self.index.picture is not None, "decoding a frame makes it known"
        return self.index.picture

    def find_missing(self) -> list[int]:
        """Decode the whole video and keep nothing; name the frames that cannot be decoded exactly.

        Raises:
            DecodeError: If the pictures change size or are turned by an odd angle, so that no clip could be made of them.
        """
        checklist = Checklist(range(self.num_frames))
        self._decode_into(checklist)
        return self.report.missing

    def _decode_on(self, numbers: list[int], block_frames: int) -> Iterator[UInt8[Tensor, "T C H W"]]:
        self._refuse_closed()
        lost = [number for number in numbers if self.index.packet[number] == NOT_STORED]
        if lost:
            self.decode(lost)  # an error that names them, before anything is decoded in vain
        for stretch in self._stretches(numbers):
            runs = self.index.runs(stretch)
            while runs:
                run, given = runs.pop(0), 0
                for block in self._decode_run_on(run, block_frames):
                    given += len(block)
                    yield block
                left = run.frames[given:]
                if left:
                    # What damage, or another decode between two blocks, has left out: decoded around it, or an error.
                    yield self.decode(left[:block_frames])
                    runs[:0] = self.index.runs(left[block_frames:])

    def _stretches(self, numbers: list[int]) -> Iterator[list[int]]:
        """Cut rising numbers where a keyframe allows to start anew, at every `_STRETCH` frames or behind it."""
        first = 0
        for place in range(1, len(numbers)):
            before, here = numbers[place - 1], numbers[place]
            if place - first >= _STRETCH and self.index.start[before] != self.index.start[here]:
                yield numbers[first:place]
                first = place
        yield numbers[first:]

    def _decode_run_on(self, run: Run, block_frames: int) -> Iterator[UInt8[Tensor, "T C H W"]]:
        """Decode the packets of a run and give its frames in order, up to damage or to one that does not come out.

        Raises:
            DecodeError: If damage turns up in a packet on which frames may depend that were given already.
        """
        index = self.index
        self._turn += 1
        turn, place, latest = self._turn, 0, -1
        frame_of_pts = {int(index.pts[number]): number for number in run.frames}
        block: NDArray[np.uint8] | None = None
        filled = 0
        for order, output in enumerate(decode_packets(self._cursor, index, run)):
            if isinstance(output, int) or output.is_corrupt:
                damage = output if isinstance(output, int) else self._packet_of(output)
                if damage <= latest:
                    raise DecodeError(
                        f"{self.name}: packet {damage} is damaged, and frames up to {run.frames[place - filled - 1]} that were "
                        "given already may depend on it; copy the file again from its source, or take it out of the data set"
                    )
                return
            number = order if index.by_order else frame_of_pts.get(NO_TIME if output.pts is None else output.pts)
            if number is None or number < run.frames[place]:
                continue
            if number > run.frames[place]:
                return
            self._note_picture(output)
            picture = self._to_rgb(output)
            if block is None:
                block = np.empty((min(block_frames, len(run.frames) - place), *picture.shape), np.uint8)
            block[filled] = picture
            place, filled = place + 1, filled + 1
            if filled == len(block):
                latest = max(latest, int(index.packet[run.frames[place - filled : place]].max()))
                yield torch.from_numpy(block).permute(0, 3, 1, 2)
                block, filled = None, 0
                if place == len(run.frames) or self._turn != turn:
                    return

    def _refuse_closed(self) -> None:
        if self._file.closed:
            raise DecodeError(f"{self.name}: its reader was closed; open the video again")

    def _decode(self, slots: dict[int, list[int]], num_slots: int) -> UInt8[Tensor, "T C H W"]:
        self._refuse_closed()
        canvas = Canvas(slots, num_slots, self._to_rgb)
        missing = self._decode_into(canvas)
        if missing:
            raise DecodeError(
                f"{self.name}: frames {_shorten(missing)} of {self.num_frames} cannot be decoded exactly "
                f"({len(missing)} of the {len(slots)} wanted, {self.report.errors} errors so far); the file is damaged or "
                "cut off: copy it again from its source, or take it out of the data set"
            )
        return canvas.pixels.permute(0, 3, 1, 2)

    def _decode_into(self, canvas: Checklist) -> list[int]:
        """Decode what a canvas wants; report and return the frames that are missing from it."""
        index = self.index
        wanted = [number for number in sorted(canvas.wanted) if index.packet[number] != NOT_STORED]
        damaged: set[int] = set()
        # A packet marked as a keyframe need not be a place to start from: if decoding stumbles, start one keyframe
        # earlier, and at last from the beginning.
        for keyframes_back in (0, 1, None):
            left = [number for number in wanted if number not in canvas.done]
            if keyframes_back != 0:
                left = [number for number in left if index.start[number] > 0]
            damaged |= self._decode_runs(left, canvas, keyframes_back)
        missing = sorted(canvas.wanted - canvas.done)
        if missing:
            self._damaged |= damaged
            self.report.errors = index.packets.errors + len(self._damaged - index.packets.broken)
            self.report.add_missing(missing)
        return missing

    def _decode_runs(self, wanted: list[int], canvas: Checklist, keyframes_back: int | None = 0) -> set[int]:
        """Decode frames run by run, around damaged packets; return the numbers of those."""
        index = self.index
        damaged: set[int] = set()
        runs = index.runs(wanted, keyframes_back)
        while runs:
            run = runs.pop(0)
            damage = self._decode_run(run, canvas)
            if damage is None:
                continue
            damaged.add(damage)
            if not index.by_order:
                # What was decoded before the damage but had not left the decoder, and what begins after it.
                left = [number for number in run.frames if number not in canvas.done]
                starts = index.starts(left, keyframes_back)
                earlier = [number for number in left if index.packet[number] < damage]
                later = [number for number, start in zip(left, starts, strict=True) if start > damage]
                runs[:0] = index.runs(earlier, keyframes_back) + index.runs(later, keyframes_back)
        return damaged

    def _decode_run(self, run: Run, canvas: Checklist) -> int | None:
        """Decode the packets of a run and draw the frames that come out exact.

        Returns:
            The number of the first damaged packet. It ends the run, for what is decoded after it may refer to it.
        """
        index = self.index
        self._turn += 1
        frame_of_pts = {int(index.pts[number]): number for number in run.frames}
        drawn: set[int] = set()
        damage = None
        for order, output in enumerate(decode_packets(self._cursor, index, run)):
            if isinstance(output, int) or output.is_corrupt:
                damage = output if isinstance(output, int) else self._packet_of(output)
                break
            number = order if index.by_order else frame_of_pts.get(NO_TIME if output.pts is None else output.pts)
            if number in canvas.wanted and number not in drawn:
                self._note_picture(output)
                canvas.draw(number, output)
                drawn.add(number)
            if index.by_order and len(drawn) == len(run.frames):
                break
        canvas.done.update(number for number in drawn if damage is None or index.packet[number] < damage)
        return damage

    def _packet_of(self, frame: VideoFrame) -> int:
        """Number the packet of a decoded frame; 0 if that is unknown, so that no frame of the run passes for exact."""
        times = self.index.packets.pts
        return times.index(frame.pts) if frame.pts in times and not self.index.by_order else 0

    def _note_picture(self, frame: VideoFrame) -> None:
        """Learn size and orientation from the first frame decoded; refuse a later one of another size."""
        picture = self.index.picture
        if picture is None:
            self.index.picture = Picture(frame.width, frame.height, orientation_of(frame, self.name))
        elif (frame.width, frame.height) != (picture.width, picture.height):
            raise DecodeError(
                f"{self.name}: its picture changes from {picture.width} x {picture.height} to {frame.width} x "
                f"{frame.height} on the way, one size was needed; re-encode it at one size"
            )

    def _to_rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert to RGB and turn upright; a view of the converted frame."""
        return self._known_picture.orientation.apply(rgb_of(frame, self._reformatter))


def _shorten(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
