"""Decoded frames of a whole data set in one memory-mapped file, so that epochs, runs and processes share the decoding.

For small sets that many runs train on: frames are kept uncompressed, with the short side resized, about fifty times the
size of the videos.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, field, replace
from fractions import Fraction
from multiprocessing import current_process, get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from kinema.data.decoding import DecodeError, Decoder, VideoReader, open_video
from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.progress import progress_bar

_FORMAT = 2
_FRAMES, _INDEX = "frames.u8", "index.json"


class OpenedVideo(Protocol):
    """What a clip needs of a video."""

    @property
    def num_frames(self) -> int: ...

    @property
    def fps(self) -> Fraction: ...

    @property
    def clock(self) -> FrameClock: ...

    def frame_at(self, time: Fraction) -> int: ...

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]: ...


class FrameSource(Protocol):
    """Where frames come from when not from a video file: a cache, or folders of pictures."""

    def open(self, path: Path) -> AbstractContextManager[OpenedVideo]: ...


@dataclass(frozen=True)
class _Entry:
    """Where the frames of a video lie; or why it has none.

    Args:
        start: Their first byte.
        num_frames, height, width: Their shape.
        fps: Their mean rate.
        failure: Why the video has none; where frames are missing, why the first of them is.
        missing: Frames that could not be decoded, black in the file.
        clock: Where the rate varies: the ticks at which frames begin and the last one ends, behind the fraction that is a tick.
    """

    start: int
    num_frames: int
    height: int
    width: int
    fps: tuple[int, int]
    failure: str | None = None
    missing: list[int] = field(default_factory=list)
    clock: list[int] = field(default_factory=list)


class FrameCache:
    """Frames of videos by number, as `open_video` and a resize of the short side give them.

    Args:
        folder: What `prepare_frame_cache` made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index: dict[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        self._entries = {path: _Entry(*entry) for path, entry in index.items()}
        self._bytes: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bytes": None}  # a worker process maps the file itself

    def open(self, path: Path) -> AbstractContextManager[OpenedVideo]:
        """The frames of one video.

        Raises:
            DecodeError: If it could not be decoded when the cache was made.
            KeyError: If the cache was made without it.
        """
        entry = self._entries[str(path)]
        if entry.failure is not None and not entry.missing:
            raise DecodeError(entry.failure)
        if self._bytes is None:
            self._bytes = np.memmap(self.folder / _FRAMES, np.uint8, "r")
        size = entry.num_frames * entry.height * entry.width * 3
        shape = entry.num_frames, entry.height, entry.width, 3
        return _CachedVideo(self._bytes[entry.start : entry.start + size].reshape(shape), entry, str(path))


class _CachedVideo:
    def __init__(self, frames: np.ndarray, entry: _Entry, name: str) -> None:
        self.frames, self.fps, self.name = frames, Fraction(*entry.fps), name
        self._entry = entry

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]:
        missing = set(self._entry.missing).intersection(indices)
        if missing:
            raise DecodeError(
                f"{self.name}: the frames {sorted(missing)[:8]} could not be decoded when the cache was made, the first of all "
                f"missing ones because: {self._entry.failure}"
            )
        outside = [index for index in indices if not 0 <= index < self.num_frames]
        if outside:
            raise IndexError(f"{self.name}: frames {outside[:8]} were asked for, but the video has {self.num_frames}")
        return torch.from_numpy(self.frames[list(indices)]).permute(0, 3, 1, 2)

    @property
    def clock(self) -> FrameClock:
        if not self._entry.clock:
            return FrameClock.constant(self.num_frames, self.fps)
        numerator, denominator, *ticks = self._entry.clock
        return FrameClock(np.array(ticks), Fraction(numerator, denominator))

    def frame_at(self, time: Fraction) -> int:
        return self.clock.nearest(time) if self._entry.clock else round(time * self.fps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


def prepare_frame_cache(
    root: Path,
    paths: Iterable[Path],
    short_side: int,
    *,
    decoder: Decoder = "auto",
    num_workers: int = 2,
    progress: bool = True,
) -> FrameCache:
    """Decode all frames of some videos unless that was done already; processes that ask at once wait for one of them.

    The folder's name follows from the files (path, size, time of change), the short side and the decoder, so a video that
    changes is decoded again.

    Args:
        root: Where such caches lie.
        paths: The videos.
        short_side: Pixels of the short side of the frames that are kept.
        decoder: Passed to `open_video`.
        num_workers: Processes that decode; 0 for this one alone.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        OSError: If the frames cannot be written; what was written is removed.
        RuntimeError: If a script that has no `if __name__ == "__main__":` asks for processes: each would run the script again.
    """
    paths = sorted(set(paths))
    stats = {path: path.stat() for path in paths if path.is_file()}
    facts = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()]
    digest = hashlib.sha256(json.dumps([_FORMAT, short_side, decoder, facts]).encode()).hexdigest()[:16]
    folder = root / f"{short_side}px-{len(paths)}-{digest}"
    if (folder / _INDEX).is_file():
        return FrameCache(folder)
    begun_by_import = getattr(current_process(), "_inheriting", False)
    if num_workers and begun_by_import:  # else it would wait for its parent's lock for ever
        raise RuntimeError(
            "a script that decodes in several processes is run again by each of them: put what it does below "
            "'if __name__ == \"__main__\":'"
        )
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{folder.name}.lock"):
        if not (folder / _INDEX).is_file():
            unfinished = root / f".{folder.name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                _write(unfinished, paths, short_side, decoder, num_workers, progress)
            except OSError as error:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise OSError(
                    f"cannot keep the decoded frames in {root}: {error}; make room there, or train without a frame cache"
                ) from error
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.replace(folder)
    return FrameCache(folder)


def _write(
    folder: Path, paths: Sequence[Path], short_side: int, decoder: Decoder, num_workers: int, progress: bool
) -> None:
    entries: dict[str, Any] = {}
    jobs = [(path, short_side, decoder) for path in paths]
    start = 0
    # Spawned: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(num_workers, get_context("spawn")) if num_workers else nullcontext()
    with pool as executor, (folder / _FRAMES).open("wb") as file, progress_bar(progress) as bar:
        task = bar.add_task(f"decoding {len(paths)} videos once", total=len(paths))
        decoded = map(_decode, jobs) if executor is None else executor.map(_decode, jobs, chunksize=8)
        for path, (frames, entry) in zip(paths, decoded, strict=True):
            file.write(frames.tobytes())
            entries[str(path)] = astuple(replace(entry, start=start))
            start += frames.size
            bar.advance(task)
        if not start:
            file.write(b"\0")  # an empty file cannot be mapped
    (folder / _INDEX).write_text(json.dumps(entries), encoding="utf-8")


def _decode(job: tuple[Path, int, Decoder]) -> tuple[np.ndarray, _Entry]:
    """The frames of a video, (T, H, W, 3), and their entry, which does not know its place in the file yet."""
    path, short_side, decoder = job
    torch.set_num_threads(1)
    try:
        with open_video(path, decoder=decoder) as video:
            frames, missing, failure = _frames_of(video, short_side)
            clock: list[int] = []
            if video.index.variable_rate:
                clock = [*video.clock.tick.as_integer_ratio(), *video.clock.ticks.tolist()]
            fps = video.fps.as_integer_ratio()
            count, height, width, _ = frames.shape
            return frames, _Entry(0, count, height, width, fps, failure, missing, clock)
    except DecodeError as error:
        return np.empty((0, 0, 0, 3), np.uint8), _Entry(0, 0, 0, 0, (0, 1), str(error))


def _frames_of(video: VideoReader, short_side: int) -> tuple[np.ndarray, list[int], str | None]:
    """All frames; those that cannot be decoded are black, and named, with the reason of the first."""
    try:
        return _resized(video.decode(range(video.num_frames)), short_side), [], None
    except DecodeError as error:
        # One bad frame takes only the clips that show it: a file without a cache is read no more than that.
        found: dict[int, np.ndarray] = {}
        missing: list[int] = []
        reason = str(error)
        for number in range(video.num_frames):
            try:
                found[number] = _resized(video.decode([number]), short_side)[0]
            except DecodeError as of_frame:
                reason = reason if missing else str(of_frame)
                missing.append(number)
        if not found:
            raise
        black = np.zeros_like(next(iter(found.values())))
        return np.stack([found.get(number, black) for number in range(video.num_frames)]), missing, reason


def _resized(frames: UInt8[Tensor, "T C H W"], short_side: int) -> np.ndarray:
    return F.resize(frames, [short_side], antialias=True).permute(0, 2, 3, 1).contiguous().numpy()
