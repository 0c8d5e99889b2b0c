"""Frames between the thread that reads them and who takes them: few, and of a live source the newest."""

import threading
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction

from jaxtyping import UInt8
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One frame of a stream.

    Args:
        pixels: RGB.
        time_s: Seconds since the first frame; never falls, also not where a source is opened anew.
        number: Of the frame in the source, from 0, those counted that were dropped.
        arrived: When it was decoded, by `time.monotonic`.
        dropped: Frames before this one that were dropped.
        late_s: How far behind its live source it was then; see `Lag`.
        cut: Why it does not continue the frame before; empty where it does.
    """

    pixels: UInt8[NDArray, "H W 3"]
    time_s: Fraction
    number: int
    arrived: float
    dropped: int = 0
    cut: str = ""
    late_s: float = 0.0


class FrameQueue:
    """Frames between two threads.

    Args:
        size: Frames that wait at most.

    Raises:
        ValueError: If it holds no frame.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a queue of {size} holds no frame; give at least 1")
        self.size = size
        self.drops = False
        """Whether the oldest frame gives way where the queue is full; else who puts waits."""
        self.dropped = 0
        self._frames: deque[Frame] = deque()
        self._change = threading.Condition()
        self._ended, self._closed = False, False
        self._error: BaseException | None = None

    def put(self, frame: Frame) -> bool:
        """Add a frame; False if nobody takes any more."""
        with self._change:
            while len(self._frames) >= self.size and not self.drops and not self._closed:
                self._change.wait()
            if self._closed:
                return False
            while len(self._frames) >= self.size:
                oldest = self._frames.popleft()
                self.dropped += 1
                # What the dropped frame said of its past goes for the next one.
                if oldest.cut and self._frames:
                    self._frames[0] = replace(self._frames[0], cut=self._frames[0].cut or oldest.cut)
                elif oldest.cut:
                    frame = replace(frame, cut=frame.cut or oldest.cut)
            self._frames.append(frame)
            self._change.notify_all()
            return True

    def take(self, seconds: float) -> Frame | None:
        """The oldest frame; None if none comes in time, see `finished`.

        Raises:
            BaseException: What was put by `end`, behind the last frame.
        """
        with self._change:
            self._change.wait_for(lambda: self._frames or self._ended or self._closed, seconds)
            if self._frames:
                frame = replace(self._frames.popleft(), dropped=self.dropped)
                self._change.notify_all()
                return frame
            if self._error is not None:
                raise self._error
            return None

    def skip(self) -> None:
        """Count a frame as dropped that was not put in."""
        with self._change:
            self.dropped += 1

    @property
    def finished(self) -> bool:
        """Whether no frame will come."""
        with self._change:
            return not self._frames and (self._ended or self._closed)

    def end(self, error: BaseException | None = None) -> None:
        """No frame follows, for a reason or for none."""
        with self._change:
            self._ended, self._error = True, error
            self._change.notify_all()

    def close(self) -> None:
        """Nobody takes a frame any more; those that wait are let go."""
        with self._change:
            self._closed = True
            self._frames.clear()
            self._change.notify_all()
