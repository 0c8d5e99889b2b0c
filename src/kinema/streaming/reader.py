"""Reading a source in a thread of its own: frames wait in a short queue; of live sources, old ones give way to new ones."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import inf
from typing import Self

from kinema.streaming.frame_queue import Frame, FrameQueue
from kinema.streaming.lag import Lag
from kinema.streaming.source import Opened, Picture, Source, StreamError

_LONGEST_WAIT_S = 30.0
_GRACE_S = 5.0
"""Beyond the time after which a source should have given up by itself."""
_LOOK_S = 0.1
_LATE_S = 1.0
"""Of a live source, how far behind a frame may be that is given."""
_SELDOM_S = 1.0
"""However far behind, one frame is given in this time: a decoder that never catches up still shows something."""


class _Clock:
    """From the times of sources to one that never falls.

    Args:
        longest_gap_s: A live source whose times jump further ahead has another clock.
    """

    def __init__(self, longest_gap_s: float) -> None:
        self._longest_gap_s = Fraction(longest_gap_s)
        self._offset: Fraction | None = None
        self.last_s: Fraction | None = None
        """Time of the last frame."""
        self._arrived = 0.0

    def begin_anew(self) -> None:
        """The source was opened anew, and may count from elsewhere."""
        self._offset = None

    def place(self, picture: Picture, arrived: float, live: bool) -> tuple[Fraction, bool]:
        """Time of a frame, and whether the clock of the source has jumped there."""
        elapsed = Fraction(round(1e6 * (arrived - self._arrived)), 1_000_000)
        last, jumped = self.last_s, False
        if picture.time_s is None:
            time_s = Fraction(0) if last is None else last + elapsed
        else:
            if self._offset is None:
                self._offset = (Fraction(0) if last is None else last + elapsed) - picture.time_s
            time_s = picture.time_s + self._offset
            if last is not None and live and not last <= time_s <= last + elapsed + self._longest_gap_s:
                time_s, jumped = last + elapsed, True
                self._offset = time_s - picture.time_s
        if last is not None and time_s < last:
            time_s = last
        self.last_s, self._arrived = time_s, arrived
        return time_s, jumped


class FrameReader:
    """The frames of a source, in a `with` statement: its thread has ended when the statement has.

        with FrameReader(source) as reader:
            for frame in reader: ...

    A file waits for who takes its frames, and drops none. A live source does not wait: the oldest frame in the queue gives way
    to the newest, and is counted. So is a frame that comes out of the decoder more than a second late: it is not converted to
    RGB (`Lag`). Where an address is lost, it is opened again, after 1, 2, 4, ... and at most 30 seconds; a live one goes on
    with whatever it shows then, and one that has an end behind the last frame that it gave. One that never gave a frame is not
    tried again: then the address is wrong. A live source that ends counts as lost, too, for cameras do not end.

    Args:
        source: What to read.
        queue: Frames that wait at most.
        reconnects: How often in a row an address is opened anew without a frame from it; 0: never, and the end is the end.
        first_wait_s: Before the first time.
        tell: Called with what happens to the source, also while no frame comes, by who takes the frames.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        source: Source,
        *,
        queue: int = 4,
        reconnects: int = 5,
        first_wait_s: float = 1.0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if reconnects < 0 or first_wait_s < 0:
            raise ValueError(f"reconnects={reconnects}, first_wait_s={first_wait_s}: give numbers of at least 0")
        self.source = source
        self._queue = FrameQueue(queue)
        self._most_reconnects, self._first_wait_s = reconnects, first_wait_s
        self._clock = _Clock(source.stall_s or 0)
        self._closed = threading.Event()
        self._deadline = inf
        self._thread = threading.Thread(target=self._run, name=f"kinema reads {source.name}", daemon=True)
        self.fps: Fraction | None = None
        self.live = False
        self.frames = 0
        """Frames decoded."""
        self.reconnected = 0
        self.notes: deque[str] = deque(maxlen=8)
        """The latest that happened to the source and was not told."""
        self._tell = tell
        self._lag, self._given = Lag(), -inf
        self._damaged, self._damaged_before = 0, 0

    @property
    def dropped(self) -> int:
        """Frames decoded that gave way to later ones."""
        return self._queue.dropped

    @property
    def damaged(self) -> int:
        """Frames that could not be decoded."""
        return self._damaged_before + self._damaged

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames in order.

        Raises:
            StreamError: If the source cannot be opened, or was lost and does not come back; behind the frames it gave.
            DecodeError: If a file is no video, or damaged.
        """
        try:
            while not self._queue.finished:
                frame = self._queue.take(_LOOK_S)
                self._tell_notes()
                if frame is not None:
                    yield frame
                elif time.monotonic() > self._deadline:
                    raise StreamError(f"{self.source.name} does not answer, and its driver does not give up")
            self._queue.take(0)  # an error that came with the last look
        finally:
            self._tell_notes()

    def _tell_notes(self) -> None:
        while self._tell is not None and self.notes:
            self._tell(self.notes.popleft())

    def close(self) -> None:
        """End the thread: at once, or where it waits for a source, when that gives up, after `stall_s` at most.

        A thread that a driver does not give back is left behind; it does not keep the program from ending.
        """
        self._closed.set()
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(None if self.source.stall_s is None else 2 * self.source.stall_s + _GRACE_S)

    def _run(self) -> None:
        try:
            self._read_on()
        except BaseException as error:  # raised again in the thread that takes the frames
            self._queue.end(error)
        else:
            self._queue.end()

    def _read_on(self) -> None:
        """Read, and open anew where the source is lost."""
        attempts = 0
        while True:
            before, failure = self.frames, None
            try:
                again = self._read_once(opened_before=before > 0)
            except StreamError as error:
                failure, again = error, self.frames > 0 and self.source.reconnects and self._most_reconnects > 0
            if self._closed.is_set():
                return
            if not again:
                if failure is not None:
                    raise failure
                return
            if self.frames > before:
                attempts = 0
            if attempts == self._most_reconnects:
                often = "once" if attempts == 1 else f"{attempts} times in a row"
                raise StreamError(
                    f"{failure or f'{self.source.name} ended'}; it was opened anew {often}, and no frame came; --reconnect "
                    "tries more often"
                )
            wait = min(self._first_wait_s * 2**attempts, _LONGEST_WAIT_S)
            attempts += 1
            self.notes.append(f"{failure or f'{self.source.name} ended'}; opening it anew in {wait:g} s")
            if self._closed.wait(wait):
                return

    def _read_once(self, *, opened_before: bool) -> bool:
        """Read until the source ends; whether it should be opened anew then."""
        self._look_out()
        with self.source.open() as opened:
            self.fps, self.live = opened.fps, opened.live
            self._queue.drops = opened.live
            self._lag.begin_anew()
            if opened.live:
                opened.wanted = lambda time_s: self._in_time(opened, time_s)
            self._damaged_before, self._damaged = self._damaged_before + self._damaged, 0
            resume_behind = self._clock.last_s if opened_before and not opened.live else None
            cut = ""
            if opened_before and opened.live:
                self._clock.begin_anew()
                cut = "reconnected"
            self.reconnected += opened_before
            gave = self._give(opened, cut, resume_behind)
        return gave and opened.live and self.source.reconnects and self._most_reconnects > 0

    def _give(self, opened: Opened, cut: str, resume_behind: Fraction | None) -> bool:
        """Put the frames of an opened source into the queue; False if nobody takes them any more."""
        for picture in opened.pictures():
            self._deadline = inf  # the source has answered
            arrived = time.monotonic()
            self._damaged = opened.damaged
            time_s, jumped = self._clock.place(picture, arrived, opened.live)
            if jumped:
                self._lag.begin_anew()
                cut = cut or "its clock jumped"
            if picture.pixels is None:
                self.frames += 1
                self._queue.skip()
                self._look_out()
                continue
            if resume_behind is not None and time_s <= resume_behind:
                self._look_out()
                continue
            resume_behind = None
            frame = Frame(picture.pixels, time_s, self.frames, arrived, cut=cut, late_s=self._lag.seconds)
            cut = ""
            self.frames += 1
            if not self._queue.put(frame):
                return False
            self._look_out()
        self._damaged = opened.damaged
        if opened.note:
            self.notes.append(f"{self.source.name}: {opened.note}")
        return True

    def _in_time(self, opened: Opened, time_s: Fraction | None) -> bool:
        """Whether a frame is worth its conversion."""
        now = time.monotonic()
        wanted = self._lag.add(time_s, now, opened.waited_s) <= _LATE_S or now - self._given >= _SELDOM_S
        if wanted:
            self._given = now
        return wanted

    def _look_out(self) -> None:
        """From now on the source has as long as it may take to answer, or to give up."""
        stall_s = self.source.stall_s
        self._deadline = inf if stall_s is None else time.monotonic() + 2 * stall_s + _GRACE_S
