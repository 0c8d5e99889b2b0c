"""What is told of a stream: a line a frame, a table that is renewed, a summary."""

import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from kinema.data.video_names import printable
from kinema.deployment.prediction import Guess, best_guesses
from kinema.streaming.frame_queue import Frame
from kinema.streaming.latencies import Latencies
from kinema.streaming.reader import FrameReader
from kinema.streaming.session import OTHER_SIZE, FramePrediction, StreamSession

_SHOWN_S = 1
"""How long a reset is shown."""


class StreamReport:
    """Counts and times of a stream, in memory that does not grow.

    Args:
        reader: Where its frames come from.
        session: What predicts.
        class_names: By id.
        top: Guesses for each frame.
    """

    def __init__(self, reader: FrameReader, session: StreamSession, class_names: Sequence[str], top: int) -> None:
        self.reader, self.session = reader, session
        self.class_names, self.top = class_names, top
        self.guesses: list[Guess] = []
        """The latest, best first."""
        self.time_s = Fraction(0)
        self.stopped = False
        """Whether it was ended from outside."""
        self.steps, self.behind = Latencies(), Latencies()
        self._begun: float | None = None
        self._ended = 0.0
        self._reset: tuple[Fraction, str] | None = None

    def add(self, frame: Frame, prediction: FramePrediction | None) -> list[str]:
        """Count a frame and what was said of it; what else has happened since."""
        now, notes = time.monotonic(), []
        self._begun = frame.arrived if self._begun is None else self._begun
        self._ended, self.time_s = now, frame.time_s
        if prediction is not None:
            self.guesses = best_guesses(prediction.scores, self.class_names, self.top)
            self.steps.add(prediction.latency_ms)
            if self.reader.live:
                self.behind.add(1000 * (now - frame.arrived + frame.late_s))
            if prediction.reset:
                self._reset = frame.time_s, prediction.reset
            if prediction.reset.startswith(OTHER_SIZE):
                at = f"{float(frame.time_s):.1f} s"
                notes.append(f"{self.reader.source.name}: {prediction.reset} at {at}, so the network begins anew")
        return notes + [self.reader.notes.popleft() for _ in range(len(self.reader.notes))]

    def recent_reset(self, time_s: Fraction) -> str:
        """Why the network began anew within the last second; empty if it did not."""
        return self._reset[1] if self._reset is not None and time_s - self._reset[0] <= _SHOWN_S else ""

    def line(self, frame: Frame, prediction: FramePrediction) -> dict[str, Any]:
        """A prediction as plain values. `top` is smoothed, `frame_score` is what the frame alone says of the best class."""
        line: dict[str, Any] = {
            "time": round(float(frame.time_s), 6),
            "frame": frame.number,
            "top": [{"id": guess.id, "class": guess.name, "score": round(guess.score, 6)} for guess in self.guesses],
            "frame_score": round(float(prediction.frame_scores[self.guesses[0].id]), 6),
            "dropped": frame.dropped,
            "resets": self.session.resets,
        }
        return line | ({"reset": prediction.reset} if prediction.reset else {})

    def facts(self) -> dict[str, Any]:
        """The whole stream as plain values."""
        return {
            "source": printable(self.reader.source.name),
            "seconds": round(float(self.time_s), 3),
            "frames": self.reader.frames,
            "predictions": self.session.predictions,
            "waiting": max(self.reader.frames - self.reader.dropped - self.session.frames, 0),
            "stopped": self.stopped,
            "dropped": self.reader.dropped,
            "damaged": self.reader.damaged,
            "reconnected": self.reader.reconnected,
            "resets": self.session.resets,
            "fps": round(self.fps, 2),
            "step_p50_ms": round(self.steps.percentile_ms(0.5), 3),
            "step_p99_ms": round(self.steps.percentile_ms(0.99), 3),
            "behind_p50_ms": round(self.behind.percentile_ms(0.5), 3) if self.behind.count else None,
            "behind_p99_ms": round(self.behind.percentile_ms(0.99), 3) if self.behind.count else None,
        }

    @property
    def fps(self) -> float:
        """Predictions per second of work, from the first frame to the last prediction."""
        seconds = 0.0 if self._begun is None else self._ended - self._begun
        return self.session.predictions / seconds if seconds > 0 else 0.0

    def summary(self) -> str:
        """The whole stream in a sentence."""
        facts = self.facts()
        stopped = "stopped; " if facts["stopped"] else ""
        waiting = f"{facts['waiting']} were waiting, " if facts["waiting"] else ""
        told = (
            f"{facts['source']}: {stopped}{facts['frames']} frames in {facts['seconds']:.1f} s, {facts['predictions']} "
            f"predictions, {waiting}{facts['dropped']} dropped, {facts['damaged']} damaged, {facts['resets']} resets, "
            f"{facts['reconnected']} reconnects; {facts['fps']:.1f} a second, a step takes {facts['step_p50_ms']:.1f} ms "
            f"(p50) and {facts['step_p99_ms']:.1f} ms (p99)"
        )
        if facts["behind_p50_ms"] is None:
            return told
        return f"{told}, said {facts['behind_p50_ms']:.1f} ms (p50) and {facts['behind_p99_ms']:.1f} ms (p99) behind the frame"


def live_table(report: StreamReport) -> Group:
    """What a terminal shows while a stream runs."""
    table = Table(box=None, show_header=False)
    for guess in report.guesses:
        table.add_row(f"{guess.score:6.1%}", Text(guess.name), ("█" * round(guess.score * 30)).ljust(30))
    counts = (
        f"{float(report.time_s):.1f} s  {report.fps:.1f} a second  {report.reader.dropped} dropped  "
        f"{report.session.resets} resets  {report.recent_reset(report.time_s)}"
    )
    return Group(Text(printable(report.reader.source.name)), table, Text(counts))
