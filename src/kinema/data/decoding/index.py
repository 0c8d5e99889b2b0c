"""When is each frame shown, and from which keyframe is it decoded? Read from the packets, without decoding any.

A container stores packets in decoding order; frames are shown in the order of their timestamps. The index holds both
orders, so a frame number becomes a timestamp to look for and a packet to start from. Header fields (frame count, rate,
duration) are not trusted: they are wrong or absent in variable-rate, streamed and trimmed files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.data.decoding.orientation import Orientation
from kinema.data.decoding.report import DecodeError

NOT_STORED = -1  # the packet position of a frame that the container promises and the file lacks

# These store no display times, only an order of decoding: with reordered frames the times FFmpeg derives are wrong.
_STORE_NO_DISPLAY_TIMES = {"avi", "asf"}


class Packet(NamedTuple):
    """What the index keeps of a packet while it is built."""

    pts: int | None
    dts: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool
    duration: int


class Run(NamedTuple):
    """Packets to decode in one go, from a keyframe to the last one needed, and the frames wanted from them."""

    first: int
    last: int
    frames: list[int]


class Picture(NamedTuple):
    """The stored size of a picture and how it is turned for display."""

    width: int
    height: int
    orientation: Orientation


@dataclass(eq=False)
class FrameIndex:
    """The frames of a video in display order, and its packets in decoding order.

    Args:
        time_base: Seconds per tick of every time below.
        pts: Display time of each frame, ascending.
        position: Which packet holds each frame, or `NOT_STORED`.
        start: The keyframe packet from which each frame is decodable.
        last_duration: Ticks for which the last frame is shown.
        packet_pts: Display time of each packet.
        packet_dts: Decoding time of each packet, for seeking.
        packet_size: Bytes of each packet; with the display time, what tells a packet after a seek.
        broken: Packets that the container itself marks as damaged.
        errors: Errors met while reading the packets.
        by_order: Whether display times are unknown, so that a frame is found by counting decoded frames from the start.
        picture: Size and orientation, known once a frame was decoded.
    """

    time_base: Fraction
    pts: NDArray[np.int64]
    position: NDArray[np.int32]
    start: NDArray[np.int32]
    last_duration: int
    packet_pts: list[int | None]
    packet_dts: list[int | None]
    packet_size: list[int]
    broken: frozenset[int] = frozenset()
    errors: int = 0
    by_order: bool = False
    picture: Picture | None = None

    def runs(self, frames: Sequence[int]) -> list[Run]:
        """Group wanted frames (ascending) into the fewest packets to decode.

        A run goes on while the keyframe of the next wanted frame was already passed; otherwise seeking to it is cheaper.
        """
        runs: list[Run] = []
        for frame in frames:
            first, last = int(self.start[frame]), int(self.position[frame])
            if runs and first <= runs[-1].last + 1:
                run = runs[-1]
                run.frames.append(frame)
                runs[-1] = run._replace(last=max(run.last, last))
            else:
                runs.append(Run(first, last, [frame]))
        return runs


def read_index(container: InputContainer, stream: VideoStream, name: str) -> FrameIndex:
    """Read every packet of the stream once and index its frames.

    Raises:
        DecodeError: If the stream holds no frame.
    """
    packets: list[Packet] = []
    errors = 0
    try:
        for packet in container.demux(stream):
            if packet.size:
                packets.append(
                    Packet(
                        packet.pts,
                        packet.dts,
                        packet.size,
                        packet.is_keyframe,
                        packet.is_discard,
                        packet.is_corrupt,
                        packet.duration or 0,
                    )
                )
    except av.error.FFmpegError:
        errors += 1
    if not packets:
        raise DecodeError(
            f"{name}: its video stream holds no frame; remove it from the data set or re-encode its source"
        )
    format_name = container.format.name.partition(",")[0]
    index = _index_frames(packets, stream, format_name)
    index.errors = errors + len(index.broken)
    _append_frames_cut_off(index, stream, format_name, len(packets))
    if not len(index.pts):
        raise DecodeError(f"{name}: none of its {len(packets)} packets is a frame to be shown; re-encode its source")
    return index


def _index_frames(packets: list[Packet], stream: VideoStream, format_name: str) -> FrameIndex:
    time_base = stream.time_base or Fraction(1, 90_000)
    by_order = all(packet.pts is None for packet in packets) or (
        format_name in _STORE_NO_DISPLAY_TIMES and stream.codec_context.reorder_depth > 0
    )
    shown = [number for number, packet in enumerate(packets) if not packet.is_discard]
    if by_order:
        times = [packets[number].dts for number in shown]
        pts = np.sort(np.array([number if time is None else time for number, time in enumerate(times)], dtype=np.int64))
        position = np.array(shown, dtype=np.int32)
        start = np.zeros_like(position)
    else:
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe and packet.pts is not None] or [0]
        shown = [number for number in shown if number >= keys[0] and packets[number].pts is not None]
        pts, first_seen = np.unique(
            np.array([packets[number].pts for number in shown], dtype=np.int64), return_index=True
        )
        position = np.array(shown, dtype=np.int32)[first_seen]
        start = _keyframe_of_each(pts, position, np.array(keys), np.array([packets[key].pts or 0 for key in keys]))
    return FrameIndex(
        time_base,
        pts,
        position,
        start,
        _last_duration(pts, packets, position, stream, time_base),
        [packet.pts for packet in packets],
        [packet.dts for packet in packets],
        [packet.size for packet in packets],
        broken=frozenset(number for number, packet in enumerate(packets) if packet.is_corrupt),
        by_order=by_order,
    )


def _keyframe_of_each(
    pts: NDArray[np.int64], position: NDArray[np.int32], key_position: NDArray, key_pts: NDArray
) -> NDArray[np.int32]:
    """Find the last keyframe decoded before each frame and shown no later than it.

    The second condition matters in open groups of pictures: frames decoded after a keyframe but shown before it refer to
    the group before.
    """
    key = np.searchsorted(key_position, position, side="right") - 1
    while (later := (key > 0) & (key_pts[key] > pts)).any():
        key = key - later
    return key_position[key].astype(np.int32)


def _last_duration(
    pts: NDArray[np.int64], packets: list[Packet], position: NDArray[np.int32], stream: VideoStream, time_base: Fraction
) -> int:
    """Ticks of the last frame: as stored, or else as long as the frames before it, or one frame at the header's rate."""
    if len(pts) and (stored := packets[position[-1]].duration) > 0:
        return stored
    if len(pts) > 1:
        return max(1, int(np.median(np.diff(pts))))
    return max(1, round(1 / (stream.average_rate * time_base))) if stream.average_rate else 1


def _append_frames_cut_off(index: FrameIndex, stream: VideoStream, format_name: str, num_packets: int) -> None:
    """Count the frames that an MP4's sample table promises beyond the end of a cut-off file.

    Without them a cut-off video would pass for a short one, and a clip sampled from it would show something else.
    """
    entries = stream.index_entries
    lost = len(entries) - num_packets
    if format_name != "mov" or lost <= 0 or not len(index.pts):
        return
    delay = int(index.pts[-1]) - entries[num_packets - 1].timestamp
    times = [entry.timestamp + delay for entry in entries[num_packets:] if not entry.is_discard]
    nowhere = np.full(len(times), NOT_STORED, dtype=np.int32)
    index.pts = np.concatenate([index.pts, np.array(times, dtype=np.int64)])
    index.position = np.concatenate([index.position, nowhere])
    index.start = np.concatenate([index.start, nowhere])
    index.errors += 1
