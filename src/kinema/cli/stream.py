"""`kinema stream SOURCE --run RUN`: a prediction for every frame of a file, a folder, a camera or an address."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from kinema.cli.classifier import add_classifier, load_predictor
from kinema.cli.messages import say
from kinema.cli.numbers import positive_fraction
from kinema.cli.written_files import need_other_files

if TYPE_CHECKING:
    from kinema.streaming.report import StreamReport
    from kinema.streaming.session import StreamSession
    from kinema.streaming.source import Source

_INTERRUPTED = 130  # what shells give for Ctrl-C
_LINES = """\
lines of JSON, one for each prediction (--jsonl):
  time:        seconds since the first frame
  frame:       number of the frame in the source, from 0
  top:         the best guesses, best first: id, class and score, smoothed over time by --half-life
  frame_score: of the best guess, as this frame alone says it with what the network remembers
  dropped:     frames of a live source that were dropped so far
  resets:      how often the network began anew so far
  reset:       why it began anew at this frame, where it did
the last line:
  summary:     counts of the whole stream (frames, predictions, waiting, dropped, damaged, reconnected, resets), its length
               in seconds, predictions a second, and in ms the time of a step and how far behind a live source was (p50, p99)
  error:       beside it, where the source failed
"""
_LIVE = {"auto": None, "yes": True, "no": False}
_SOURCE = "a video file, a folder of pictures, the number of a camera, or an address: rtsp://... or http://..."


class _MaskingParser(argparse.ArgumentParser):
    """Refuses arguments without showing the secrets of those that are addresses, also wrongly typed ones."""

    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        from kinema.streaming.masking import masked_words

        values = [word.partition("=")[2] for word in self.given if word.startswith("--") and "=" in word]
        super().error(masked_words(message, [*self.given, *values]))


def run(arguments: Sequence[str]) -> int:
    parser = _MaskingParser(
        prog="kinema stream",
        description=__doc__,
        epilog=_LINES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
    add_classifier(parser, views=False)
    parser.add_argument("--top", type=int, default=3, help="guesses for each frame (default 3)")
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="write one line of JSON a frame there; - for the output, which is what happens where that is no terminal",
    )
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE.mp4", help="write a video with the best guess drawn into it"
    )
    parser.add_argument("--quiet", action="store_true", help="show no live view on the terminal")
    scores = parser.add_argument_group("scores")
    scores.add_argument(
        "--half-life",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds in which a frame loses half of its weight (default 1); 0: each frame by itself; inf: the mean of all",
    )
    scores.add_argument(
        "--scene-change",
        type=float,
        metavar="D",
        help="begin anew where small grey frames differ by more on average, in (0, 1), such as 0.1; never when not given",
    )
    scores.add_argument(
        "--rate",
        default="auto",
        help="frames a second that are taken, 'all', or 'auto' (default): the rate of the run's clips where it says one",
    )
    reading = parser.add_argument_group("reading")
    reading.add_argument("--frames", type=int, metavar="N", help="end behind so many predictions")
    reading.add_argument(
        "--picture-fps", type=positive_fraction, default=Fraction(25), metavar="FPS", help="of a folder (default 25)"
    )
    reading.add_argument(
        "--live",
        choices=tuple(_LIVE),
        default="auto",
        help="of an address: drop frames rather than lag; auto (default): where it has no end; files never, cameras always",
    )
    reading.add_argument("--queue", type=int, default=4, metavar="N", help="frames that wait at most (default 4)")
    reading.add_argument(
        "--stall",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds without a new frame that are waited (default 10)",
    )
    reading.add_argument(
        "--reconnect",
        type=int,
        default=5,
        metavar="N",
        help="how often in a row a lost address is opened anew (default 5)",
    )
    reading.add_argument("--rtsp-transport", choices=("tcp", "udp"), default="tcp", help="default tcp")
    parser.given = arguments[1:]
    options = parser.parse_args(arguments[1:])

    from kinema.data.decoding import DecodeError
    from kinema.streaming.source import StreamError

    try:
        return _stream(options)
    except (StreamError, DecodeError, ValueError, TypeError, OSError) as error:
        say(error)
        return 1


def _stream(options: argparse.Namespace) -> int:
    from kinema.data.decoding import DecodeError
    from kinema.data.video_names import printable
    from kinema.streaming.overlay import OverlayVideo
    from kinema.streaming.reader import FrameReader
    from kinema.streaming.report import StreamReport
    from kinema.streaming.session import StreamSession
    from kinema.streaming.source import StreamError
    from kinema.streaming.sources import Camera, source_of
    from kinema.training.restore import NonFiniteScoresError

    if options.top < 1 or (options.frames is not None and options.frames < 1):
        raise ValueError(f"--top {options.top}, --frames {options.frames}: give at least 1 of each")
    rate = _rate(options.rate)
    source = source_of(
        options.source,
        picture_fps=options.picture_fps,
        stall_s=options.stall,
        live=_LIVE[options.live],
        transport=options.rtsp_transport,
    )
    lines = None if options.jsonl in (None, "-") else Path(options.jsonl)
    need_other_files({"--overlay": options.overlay, "--jsonl": lines}, _files_of(source))
    if options.source.isdecimal() and not isinstance(source, Camera):
        say(
            f"{options.source} is taken for the file or folder of this name; give /dev/video{options.source} for a camera"
        )
    overlay = None if options.overlay is None else OverlayVideo(options.overlay)
    predictor = load_predictor(options)
    session = StreamSession(predictor, half_life_s=options.half_life, scene_change=options.scene_change)
    for note in predictor.notes:
        say(note)
    reader = FrameReader(source, queue=options.queue, reconnects=options.reconnect, tell=say)
    report = StreamReport(reader, session, predictor.class_names, options.top)
    with ExitStack() as stack:
        write = _lines(options.jsonl, stack)
        if overlay is not None:
            stack.callback(overlay.close)
        stack.callback(_tell, report)
        show = _view(options, stack)
        stack.enter_context(reader)
        try:
            for frame in reader:
                if session.frames == 0:
                    _pace(session, rate, reader.fps)
                prediction = session.see(frame.pixels, frame.time_s, cut=frame.cut)
                for note in report.add(frame, prediction):
                    say(note)
                if prediction is not None:
                    write(report.line(frame, prediction))
                    show(report)
                if overlay is not None:
                    overlay.write(frame.pixels, frame.time_s, report.guesses, report.recent_reset(frame.time_s))
                if session.predictions == options.frames:
                    break
            write({"summary": report.facts()})
        except (StreamError, DecodeError, NonFiniteScoresError) as error:
            write({"error": printable(error), "summary": report.facts()})
            raise
        except KeyboardInterrupt:  # the way to end a camera
            report.stopped = True
            write({"summary": report.facts()})
            return _INTERRUPTED
        except BrokenPipeError:
            # Who read the lines has enough; the interpreter would complain once more when it flushes the output.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _tell(report: "StreamReport") -> None:
    if report.reader.frames:
        say(report.summary())


def _files_of(source: "Source") -> list[Path]:
    """The files of this machine that a source is read from."""
    from kinema.streaming.stored import PictureFolder, VideoFile

    if isinstance(source, VideoFile):
        return [source.path]
    return source.files() if isinstance(source, PictureFolder) else []


def _rate(text: str) -> Fraction | str | None:
    if text == "auto":
        return text
    if text == "all":
        return None
    try:
        return positive_fraction(text)
    except argparse.ArgumentTypeError:
        raise ValueError(f"--rate {text} is no rate; give frames a second above 0, 'all' or 'auto'") from None


def _pace(session: "StreamSession", rate: Fraction | str | None, fps: Fraction | None) -> None:
    """Say which frames are taken, now that the source is open."""
    from kinema.data.untrimmed.clip_grid import frames_apart
    from kinema.streaming.pacing import Pacing, trained_rate

    if isinstance(rate, str):
        scheme = session.predictor.clips.scheme
        rate, apart = trained_rate(scheme, fps), frames_apart(scheme)
        if rate is None and apart is None:
            say(
                "the run does not say at which rate it saw frames (its clips are spread over whole videos), so every frame is "
                "taken; --rate says another: frames of a clip over the seconds of a usual training video"
            )
        elif rate is None and apart is not None:
            say(
                "the source announces no rate, and in the run's clips frames lie "
                f"{float(apart):.4g} apart whatever the rate of a video, so every frame is taken; give --rate: the frames "
                f"per second of a usual training video over {float(apart):.4g}"
            )
    session.pacing = Pacing(rate, fps)


def _lines(file: str | None, stack: ExitStack) -> Callable[[dict[str, Any]], None]:
    """Where lines of JSON go."""
    if file is None and sys.stdout.isatty():
        return lambda line: None
    out: TextIO = sys.stdout
    if file not in (None, "-"):
        out = stack.enter_context(Path(file).open("w", encoding="utf-8"))  # noqa: SIM115 - the stack closes it

    def write(line: dict[str, Any]) -> None:
        print(json.dumps(line, ensure_ascii=False, allow_nan=False), file=out, flush=True)

    return write


def _view(options: argparse.Namespace, stack: ExitStack) -> "Callable[[StreamReport], None]":
    """The live view, on a terminal that shows nothing else."""
    from rich.console import Console
    from rich.live import Live

    from kinema.streaming.report import live_table

    console = Console(stderr=True)
    lines_on_terminal = sys.stdout.isatty() and options.jsonl == "-"
    if options.quiet or not console.is_terminal or lines_on_terminal:
        return lambda report: None
    live = stack.enter_context(Live(console=console, refresh_per_second=8, transient=True))
    return lambda report: live.update(live_table(report))
