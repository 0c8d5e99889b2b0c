"""When is each frame shown, and from which keyframe is it decoded? Told by the packets, without decoding any.

A container stores packets in decoding order; frames are shown in the order of their timestamps. The index holds both
orders, so a frame number becomes a timestamp to look for and a packet to start from. Header fields (frame count, rate,
duration) are not trusted: they are wrong or absent in variable-rate, streamed and trimmed files.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.decoding.orientation import Orientation
from kinema.data.decoding.packets import NO_TIME, PacketTable

# Steps between frames that differ by more than this share of the usual one, and by more than rounding, are uneven.
_UNEVEN = 0.05
_LARGEST_STEP_BACK_S = 1.0  # of decoding times, which only ever rise in a file that is well made
NOT_STORED = -1  # the packet of a frame that the container lists and the file lacks


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
        packet: Which packet holds each frame, or `NOT_STORED`.
        start: The keyframe packet from which each frame is decodable.
        last_duration: Ticks for which the last frame is shown.
        packets: The packets in decoding order.
        by_order: Whether display times are unknown, so that a frame is found by counting decoded frames from the start.
        picture: Size and orientation, known once a frame was decoded.
    """

    time_base: Fraction
    pts: NDArray[np.int64]
    packet: NDArray[np.int32]
    start: NDArray[np.int32]
    last_duration: int
    packets: PacketTable
    by_order: bool = False
    picture: Picture | None = None

    @property
    def variable_rate(self) -> bool:
        """Whether frames are shown for unequal times."""
        steps = np.diff(self.pts)
        return len(steps) > 0 and bool(np.ptp(steps) > max(2, _UNEVEN * np.median(steps)))

    def clock(self) -> FrameClock:
        """When each frame begins, and the video ends."""
        return FrameClock(np.append(self.pts, self.pts[-1] + self.last_duration) - self.pts[0], self.time_base)

    def leading(self) -> list[int]:
        """Frames shown before the keyframe that decoding must start from: whether they can be decoded is not known.

        They open a video that was cut from a longer one. Some refer to frames that were cut off, others do not.
        """
        stored = np.flatnonzero((self.packet != NOT_STORED) & (not self.by_order))
        key_pts = np.array(self.packets.pts)[self.start[stored]]
        return stored[self.pts[stored] < key_pts].tolist()

    def drop(self, frames: Sequence[int]) -> None:
        """Take frames out that nobody can decode; the following ones move up."""
        self.pts = np.delete(self.pts, frames)
        self.packet = np.delete(self.packet, frames)
        self.start = np.delete(self.start, frames)

    def starts(self, frames: Sequence[int], keyframes_back: int | None = 0) -> list[int]:
        """Find the packets from which to decode frames: their keyframes, or ones before; None for the first packet."""
        if keyframes_back is None:
            return [0] * len(frames)
        keys = self.packets.keyframes
        starts = (int(self.start[frame]) for frame in frames)
        if not keyframes_back:
            return list(starts)
        return [keys[place] if (place := bisect_left(keys, start) - keyframes_back) >= 0 else 0 for start in starts]

    def runs(self, frames: Sequence[int], keyframes_back: int | None = 0) -> list[Run]:
        """Group wanted frames (ascending) into the fewest packets to decode.

        A run goes on while the keyframe of the next wanted frame was passed already; otherwise seeking is cheaper.
        """
        runs: list[Run] = []
        for frame, first in zip(frames, self.starts(frames, keyframes_back), strict=True):
            last = int(self.packet[frame])
            if runs and first <= runs[-1].last + 1:
                run = runs[-1]
                run.frames.append(frame)
                runs[-1] = run._replace(last=max(run.last, last))
            else:
                runs.append(Run(first, last, [frame]))
        return runs


def clock_restart(packets: PacketTable, time_base: Fraction) -> int | None:
    """The first packet whose time of decoding lies far before an earlier one: another recording was put behind the first.

    Frames of both would have the same display times, and one of each pair would be lost without a word.
    """
    dts = np.array(packets.dts)
    timed = np.flatnonzero(dts != NO_TIME)
    if not len(timed):
        return None
    back = np.maximum.accumulate(dts[timed]) - dts[timed]
    far = np.flatnonzero(back * float(time_base) > _LARGEST_STEP_BACK_S)
    return int(timed[far[0]]) if len(far) else None


def index_frames(
    packets: PacketTable,
    time_base: Fraction,
    header_rate: Fraction | None,
    *,
    stores_display_times: bool = True,
    begins_anywhere: bool = False,
) -> FrameIndex:
    """Index the frames of a stream by its packets; there are none if no packet is a frame to be shown.

    Args:
        packets: All packets.
        time_base: Seconds per tick.
        header_rate: Frames per second as the header has it, used for the duration of a single frame only.
        stores_display_times: False for containers that store only the order of decoding (AVI), if frames are reordered.
        begins_anywhere: Whether the stream may begin between keyframes; frames before the first one then do not count.
    """
    shown = np.array([number for number in range(len(packets)) if number not in packets.hidden], dtype=np.int32)
    pts, dts = np.array(packets.pts), np.array(packets.dts)
    by_order = not stores_display_times or bool((pts == NO_TIME).all())
    if by_order:
        times = np.sort(np.where(dts == NO_TIME, np.arange(len(dts)), dts)[shown])
        packet, start = shown, np.zeros_like(shown)
    else:
        keys = [key for key in packets.keyframes if pts[key] != NO_TIME]
        if not keys or (keys[0] > 0 and not begins_anywhere):
            keys.insert(0, 0)
        keys = np.array(keys, dtype=np.int32)
        shown = shown[(shown >= keys[0]) & (pts[shown] != NO_TIME)]  # a packet without time is half of a frame
        # Packets of one time are one frame to a viewer; in VP8 the first of two is a hidden reference of the second.
        times, last_seen = np.unique(pts[shown][::-1], return_index=True)
        packet = shown[::-1][last_seen]
        start = _keyframe_of_each(times, packet, keys, pts[keys])
    last_duration = _last_duration(times, packets, header_rate, time_base)
    if packets.cut_off and len(times):
        times, packet, start = _with_frames_cut_off(times, packet, start, dts, np.array(packets.cut_off))
    return FrameIndex(time_base, times, packet, start, last_duration, packets, by_order)


def _keyframe_of_each(
    pts: NDArray[np.int64], packet: NDArray[np.int32], keys: NDArray[np.int32], key_pts: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Find the last keyframe decoded no later than each frame and shown no later than it.

    The second condition matters in open groups of pictures: frames decoded after a keyframe but shown before it refer
    to the group before.
    """
    key = np.searchsorted(keys, packet, side="right") - 1
    while (later := (key > 0) & (key_pts[key] > pts)).any():
        key = key - later
    return keys[key]


def _with_frames_cut_off(
    pts: NDArray[np.int64],
    packet: NDArray[np.int32],
    start: NDArray[np.int32],
    dts: NDArray[np.int64],
    lost_dts: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Count the frames that a file lists and lacks, at the times they would be shown.

    Else a cut-off video would pass for a short one, and a clip sampled from it would show something else. Sorted, display
    times are decoding times plus a constant delay if frames follow each other evenly; the times of those present are taken
    out. If they do not, the lost frames are put after the last one present.
    """
    all_times = np.concatenate([dts, lost_dts]) + (pts[0] - dts.min())
    lost = np.setdiff1d(all_times, pts)
    if len(lost) != len(lost_dts):
        lost = pts[-1] + 1 + lost_dts - lost_dts[0]
    nowhere = np.full(len(lost), NOT_STORED, dtype=np.int32)
    times, packet, start = np.append(pts, lost), np.append(packet, nowhere), np.append(start, nowhere)
    order = np.argsort(times, kind="stable")
    return times[order], packet[order], start[order]


def _last_duration(
    times: NDArray[np.int64], packets: PacketTable, header_rate: Fraction | None, time_base: Fraction
) -> int:
    """Ticks of the last frame: as stored, or as long as the frames before it, or one frame at the header's rate."""
    if packets.last_duration > 0:
        return packets.last_duration
    if len(times) > 1:
        return max(1, int(np.median(np.diff(times))))
    return max(1, round(1 / (header_rate * time_base))) if header_rate else 1
