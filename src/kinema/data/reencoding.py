"""Encode a set of videos again so that training reads them faster: small frames, keyframes close together, one frame rate.

What a reader decodes for a clip is every frame from the keyframe before it on, at the size that is stored; a short side of 256
and a keyframe every 12 frames make it several times less than in a video as it was downloaded.
"""

import csv
import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from kinema.data.alone import alone
from kinema.data.decoding import DecodeError
from kinema.data.decoding.canvas import Checklist
from kinema.data.decoding.pyav_reader import PyAVReader
from kinema.data.journal import write_durably
from kinema.data.manifest import VIDEO_SUFFIXES
from kinema.data.progress import progress_bar

SETTINGS, UNREADABLE = "reencoding.json", "unreadable.csv"
_FRAMES_AT_ONCE = 512  # of a video, in memory at their small size; between two lots some frames are decoded twice
# An announced duration includes a soundtrack and is often rounded; less than this share of it, and frames are missing.
_SHORTEST_SHARE = Fraction(9, 10)
_UNFINISHED = "unfinished"
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # what the next video would meet too

Outcome = Literal["written", "kept", "unreadable"]


class ReencodingError(RuntimeError):
    """The work cannot go on; what was written stays valid, and the same command goes on with it."""


@dataclass(frozen=True)
class Encoding:
    """How videos are encoded: H.264 in mp4, without sound, its index in front ("fast start").

    Args:
        short_side: Pixels of the short side; smaller videos keep their size. Odd sizes lose a pixel, as H.264 with halved
            colours needs.
        keyframe_interval: Frames from one keyframe to the next.
        fps: Frames per second, all equally long. A frame is repeated or left out where the video has others; its own mean
            rate when None.
        quality: Constant rate factor of x264, 18 (hardly a difference) to 28.
        preset: Of x264: how much time it takes to make files smaller.
    """

    short_side: int = 256
    keyframe_interval: int = 12
    fps: float | None = None
    quality: int = 20
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.keyframe_interval < 1 or not 0 <= self.quality <= 51:
            raise ValueError(
                f"short_side={self.short_side}, keyframe_interval={self.keyframe_interval}, quality={self.quality}: use "
                "at least 16 pixels, a keyframe every 1 frame or more, and a quality from 0 to 51"
            )
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps must be above 0, got {self.fps}; leave it out to keep that of each video")


@dataclass(frozen=True)
class Reencoded:
    """What became of a set.

    Args:
        written: Videos encoded now.
        kept: Videos that were there already.
        unreadable: Videos that could not be decoded exactly, and why; they are not written.
    """

    written: int
    kept: int
    unreadable: dict[str, str]


def reencode_video(source: Path, target: Path, encoding: Encoding) -> None:
    """Encode one video. The target appears when it is whole, never before.

    Raises:
        DecodeError: If some frame of the source cannot be decoded exactly; nothing is written.
        OSError: If the target cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.{_UNFINISHED}")
    try:
        with PyAVReader(source) as video:
            _encode(video, unfinished, encoding)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def reencode_set(
    root: Path, out: Path, encoding: Encoding | None = None, *, num_workers: int | None = None, progress: bool = True
) -> Reencoded:
    """Encode all videos below a folder into another, in the same places, as `.mp4`; those there already are kept.

    The options are written to `reencoding.json` and what could not be read to `unreadable.csv`, both in `out`. Manifests are
    not copied: they name paths with their suffix, and times in seconds stay right.

    Args:
        root: Folder of the videos.
        out: Folder to write to, not within `root`.
        encoding: How; the defaults of `Encoding` when None.
        num_workers: Videos at a time, each in a thread (FFmpeg works outside Python's lock); one per core by default.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        ReencodingError: If there is no video, `out` lies within `root` or holds videos encoded otherwise, two videos would
            become one file, or the disk is full. What was written stays valid.
    """
    encoding, root, out = encoding or Encoding(), root.resolve(), out.resolve()
    sources = _sources(root, out)
    _agree(out, encoding)
    with alone(out / ".lock", f"encoding videos into {out}"):
        return _encode_all(sources, root, out, encoding, num_workers, progress)


def _encode_all(
    sources: list[Path], root: Path, out: Path, encoding: Encoding, num_workers: int | None, progress: bool
) -> Reencoded:
    for leftover in out.rglob(f".*.{_UNFINISHED}"):  # of a run that was killed
        leftover.unlink()
    unreadable: dict[str, str] = {}
    counts: dict[Outcome, int] = {"written": 0, "kept": 0, "unreadable": 0}

    def one(source: Path) -> tuple[Outcome, str]:
        target = _target(source, root, out)
        if target.is_file():
            return "kept", ""
        try:
            reencode_video(source, target, encoding)
        except DecodeError as error:
            return "unreadable", str(error).removeprefix(str(source)).lstrip(": ")
        return "written", ""

    pool = ThreadPoolExecutor(num_workers or os.cpu_count() or 1)
    with progress_bar(progress) as bar, pool:
        try:
            results = pool.map(one, sources)
            for source, (outcome, reason) in zip(
                sources, bar.track(results, total=len(sources), description="encoding videos"), strict=True
            ):
                counts[outcome] += 1
                if outcome == "unreadable":
                    unreadable[str(source.relative_to(root))] = reason
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            why = "the disk is full" if error.errno in _FATAL else f"it cannot be written to ({error})"
            raise ReencodingError(
                f"{out}: {why}; what was written is whole, and the same command goes on with it: {error}"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C, do not encode the rest first
            raise
    _write_unreadable(out, unreadable)
    return Reencoded(counts["written"], counts["kept"], unreadable)


def _sources(root: Path, out: Path) -> list[Path]:
    if not root.is_dir():
        raise ReencodingError(f"{root} is no folder; give the folder of the videos")
    if out == root or root in out.parents:
        raise ReencodingError(
            f"{out} lies within {root}, so it would be encoded again next time; give a folder beside it"
        )
    sources = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not sources:
        raise ReencodingError(f"no video below {root}; files ending in {sorted(VIDEO_SUFFIXES)} count")
    seen: dict[Path, Path] = {}
    for source in sources:
        other = seen.setdefault(_target(source, root, out), source)
        if other != source:
            raise ReencodingError(
                f"{other} and {source} would both become {_target(source, root, out)}; rename one of them"
            )
    return sources


def _target(source: Path, root: Path, out: Path) -> Path:
    return (out / source.relative_to(root)).with_suffix(".mp4")


def _agree(out: Path, encoding: Encoding) -> None:
    """Note how the videos are encoded; refuse to add others to them."""
    settings = out / SETTINGS
    if settings.is_file():
        try:
            held = json.loads(settings.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ReencodingError(
                f"{settings} cannot be read ({error}), so nothing says how the videos beside it are encoded; give another "
                "folder, or remove this one"
            ) from error
        if held != asdict(encoding):
            different = [name for name, value in asdict(encoding).items() if held.get(name) != value]
            before, now = ({name: options.get(name) for name in different} for options in (held, asdict(encoding)))
            raise ReencodingError(
                f"{out} holds videos encoded with {before}, and {now} was asked "
                "for; give another folder, or remove this one"
            )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_durably(settings, json.dumps(asdict(encoding), indent=2) + "\n")
    except OSError as error:
        raise ReencodingError(f"cannot write to {out}: {error}") from error


def _write_unreadable(out: Path, unreadable: dict[str, str]) -> None:
    path = out / UNREADABLE
    if not unreadable:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        writer.writerows(sorted(unreadable.items()))


def _encode(video: PyAVReader, target: Path, encoding: Encoding) -> None:
    rate = video.fps.limit_denominator(1001) if encoding.fps is None else Fraction(encoding.fps).limit_denominator(1001)
    width, height = _size(video.width, video.height, encoding.short_side)
    options = {
        "threads": "1",  # videos are encoded side by side
        "preset": encoding.preset,
        "crf": str(encoding.quality),
        "g": str(encoding.keyframe_interval),
        "keyint_min": str(encoding.keyframe_interval),
        "sc_threshold": "0",  # no further keyframes at cuts
    }
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in _pictures(video, rate, width, height):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = None  # the encoder counts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class _SmallFrames(Checklist):
    """Wanted frames, small and upright, as they come out of the decoder: no frame is kept at its full size."""

    def __init__(self, wanted: Iterable[int], video: PyAVReader, width: int, height: int) -> None:
        super().__init__(wanted)
        self.pictures: dict[int, np.ndarray] = {}
        self._video, self._size, self._shrink = video, (width, height), VideoReformatter()

    def draw(self, number: int, frame: av.VideoFrame) -> None:
        picture = self._video.index.picture
        assert picture is not None, "the reader notes it with the first frame"
        width, height = self._size[::-1] if picture.orientation.transpose else self._size
        small = self._shrink.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        pixels = small.to_ndarray().astype(np.uint8, copy=False)
        self.pictures[number] = np.ascontiguousarray(picture.orientation.apply(pixels))


def _pictures(video: PyAVReader, rate: Fraction, width: int, height: int) -> Iterator[np.ndarray]:
    """Frames at a constant rate: at time k / rate the one that is shown then, (H, W, 3)."""
    header = video.header_duration
    if header is not None and video.duration < header * _SHORTEST_SHARE:
        raise DecodeError(
            f"{video.name}: its header says {float(header):.2f} s and its frames end after {float(video.duration):.2f} s: "
            "it was cut off; copy it again from its source"
        )
    numbers = frame_numbers(video.timestamps, video.duration, rate)
    for begin in range(0, len(numbers), _FRAMES_AT_ONCE):
        lot = numbers[begin : begin + _FRAMES_AT_ONCE]
        canvas = _SmallFrames(lot, video, width, height)
        missing = video._decode_into(canvas)
        if missing:
            raise DecodeError(
                f"{video.name}: {len(missing)} of {video.num_frames} frames cannot be decoded exactly, the first is "
                f"{missing[0]}; copy it again from its source"
            )
        for number in lot:
            yield canvas.pictures[number]


def frame_numbers(timestamps: Sequence[Fraction], duration: Fraction, rate: Fraction) -> list[int]:
    """Which frame is shown at time k / rate, for all k before the end of the video; at least one.

    Times are taken in the middle of each new frame, so that a rate that differs by rounding drops no frame.
    """
    count = max(round(duration * rate), 1)
    numbers, shown = [], 0
    for k in range(count):
        time = (k + Fraction(1, 2)) / rate
        while shown + 1 < len(timestamps) and timestamps[shown + 1] <= time:
            shown += 1
        numbers.append(shown)
    return numbers


def _size(width: int, height: int, short_side: int) -> tuple[int, int]:
    scale = min(Fraction(short_side, min(width, height)), Fraction(1))
    return max(int(width * scale) // 2 * 2, 2), max(int(height * scale) // 2 * 2, 2)
