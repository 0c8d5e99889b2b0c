"""Frames of a camera or an address, read by PyAV as they come."""

import errno
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from kinema.data.decoding.colour import rgb_of
from kinema.data.decoding.containers import MAX_PIXELS
from kinema.data.decoding.orientation import orientation_of
from kinema.streaming.masking import masked_text
from kinema.streaming.source import Opened, Picture, StreamError

# Formats whose frames have no time of their own: FFmpeg counts them as if there were 25 a second.
_WITHOUT_TIMES = {"mpjpeg", "mjpeg"}
# Formats whose length is written down. In others it is guessed from the rate of bits, and no end can be too early.
_SAY_THEIR_LENGTH = {"mov", "matroska"}
_MOST_FPS = 1000  # what FFmpeg guesses above this is a time base, and no rate


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
