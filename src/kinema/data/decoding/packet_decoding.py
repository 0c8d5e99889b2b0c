"""From the packets of a run to its frames, with no more decoding than the wanted ones need.

Frames that no other frame refers to (most B-frames) are not decoded unless they are wanted, and the decoder is drained
after the last wanted packet, so that frames stored out of order cost no further packet. With x264's defaults this halves
the frames to decode, and gives the same pixels.
"""

from collections.abc import Iterator

import av
from av.video.frame import VideoFrame

from kinema.data.decoding.index import FrameIndex, Run
from kinema.data.decoding.packets import NO_TIME, PacketCursor

# Codecs whose syntax says of each frame whether any other refers to it, and whose decoder heeds that before decoding:
# `nal_ref_idc` of H.264, picture type B of MPEG-4 part 2 and MPEG-2. HEVC only says so within a temporal layer.
_SKIPS_UNREFERENCED = {"h264", "mpeg4", "mpeg2video"}


def decode_packets(cursor: PacketCursor, index: FrameIndex, run: Run) -> Iterator[VideoFrame | int]:
    """Feed the packets of a run to the decoder; yield the frames that come out, in display order.

    The number of a packet that cannot be read or decoded is yielded in its turn, and is the last.
    """
    table = index.packets
    packets = cursor.packets_from(run.first, table)
    context = cursor.stream.codec_context
    context.flush_buffers()
    needed = {int(index.packet[number]) for number in run.frames}
    can_skip = context.name in _SKIPS_UNREFERENCED and not index.by_order
    skipping, context.skip_frame = False, "DEFAULT"
    # Frames shown before the keyframe that a run starts from refer to frames before it; none after it refers to them.
    earliest = min([table.pts[run.first], *(int(index.pts[number]) for number in run.frames)])
    # Where frames are only counted, those shown before the last wanted one may be stored after it.
    last = len(table) - 1 if index.by_order else run.last
    for number in range(run.first, last + 1):
        packet = next(packets, None)
        if packet is None or number in table.broken:
            yield number
            return
        if NO_TIME < table.pts[number] < earliest and not index.by_order:
            continue
        if can_skip and skipping == (number in needed):
            skipping = not skipping
            context.skip_frame = "NONREF" if skipping else "DEFAULT"
        try:
            frames = context.decode(packet)
        except av.error.FFmpegError:
            yield number
            return
        for frame in frames:
            if run.first and frame.pts == table.pts[run.first] and not frame.key_frame:
                yield run.first  # the container was wrong to call it a keyframe
                return
            yield frame
    try:
        yield from context.decode(None)
    except av.error.FFmpegError:
        yield run.first
