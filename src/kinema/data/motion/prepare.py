"""Making the built-in motion set on first use.

A run that is killed loses at most the clips it was working on; the next one completes the folder. One process at a time
holds the folder's lock, and the others wait for its result.
"""

import csv
import io
import json
import os
import platform
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from filelock import FileLock

from kinema.data.motion.encoding import encode_mp4
from kinema.data.motion.integrity import (
    JOURNAL,
    MANIFEST,
    delete_leftovers,
    finished_files,
    journal_line,
    verify_motion,
    write_file,
)
from kinema.data.motion.scenes import LEVELS, MOTION_CLASSES, REVERSED, draw_clip
from kinema.data.progress import progress_bar

FORMAT_VERSION = 2
"""Raised whenever the same options come to mean other pictures, so that an old folder never passes for a new one."""

TRAINING_LENGTHS = range(20, 49)
VALIDATION_LENGTHS = (24, 40)
"""Eight times an odd number: the centres of 8 segments, int(n/16 + i n/8), then lie alike seen from either end."""

COLUMNS = ("path", "label", "split", "frames", "pair")


@dataclass(frozen=True)
class PlannedClip:
    """One file of the set: what to draw, from which stream of random numbers, and where it goes."""

    path: str
    label: str
    split: str
    num_frames: int
    pair: str
    key: tuple[int, int, int]


def prepare_motion(
    root: str | Path,
    *,
    level: str = "easy",
    seed: int = 0,
    num_train: int = 2400,
    num_val: int = 480,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the motion set under `root` unless it is there already, and return its folder.

    The folder's name holds every option, so sets never mix. It contains `train.csv` and `val.csv` (kinema's manifest,
    paths relative to the folder), `videos/` and `manifest.json` (options, versions, the SHA-256 of every file). A set
    that is complete is only checked; what is missing or damaged is made again. The same options give the same files,
    whatever `num_workers`, on one kind of processor with one version of numpy and PyAV; a complete set of other versions
    is used as it is.

    Args:
        root: Where data sets live; made if absent.
        level: `easy` or `hard`, see `LEVELS`.
        seed: At least 0; another seed gives another set.
        num_train: Training clips, at least 1; classes differ by one clip at most.
        num_val: Validation clips, even: each clip and its reversal.
        num_workers: Threads (drawing and encoding release the interpreter's lock); None for all processors.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        ValueError: If an option is out of range.
        OSError: If `root` cannot be written.
    """
    options = _checked_options(level, seed, num_train, num_val)
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers={num_workers} makes nothing; give at least 1, or None for all processors")
    folder = Path(root) / f"motion-{level}-{num_train}-{num_val}-seed{seed}-v{FORMAT_VERSION}"
    if not verify_motion(folder):
        return folder  # asked before anything is written: a finished set may lie on a disk that is read-only
    try:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            _complete(folder, options, num_workers or _num_processors(), progress)
    except OSError as error:
        raise OSError(
            f"cannot write the motion set to {folder}: {error}; give a root that can be written, with 150 MB to spare"
        ) from error
    return folder


def plan_clips(seed: int, num_train: int, num_val: int) -> Iterator[PlannedClip]:
    """List the files of a set in the order of its csv files: training clips, then validation pairs side by side."""
    lengths = np.random.default_rng([seed, 2])
    for index in range(num_train):
        label = MOTION_CLASSES[index % len(MOTION_CLASSES)]
        length = int(lengths.choice(TRAINING_LENGTHS))
        yield PlannedClip(f"videos/train_{index:05d}.mp4", label, "train", length, "", (seed, 0, index))
    for index in range(num_val // 2):
        canonical = MOTION_CLASSES[2 * index % len(MOTION_CLASSES)]
        length = int(lengths.choice(VALIDATION_LENGTHS))
        for side, label in (("a", canonical), ("b", REVERSED[canonical])):
            path, pair = f"videos/val_{index:05d}{side}.mp4", f"val_{index:05d}"
            yield PlannedClip(path, label, "val", length, pair, (seed, 1, index))


def _complete(folder: Path, options: dict[str, Any], num_workers: int, progress: bool) -> None:
    if not verify_motion(folder):
        return  # another process has made it while this one waited for the lock
    plan = list(plan_clips(options["seed"], options["num_train"], options["num_val"]))
    header = {"format": FORMAT_VERSION, "options": options, "versions": _versions()}
    finished = finished_files(folder, header)
    hashes = {clip.path: finished[clip.path] for clip in plan if clip.path in finished}
    delete_leftovers(folder)
    record = [header, *([path, digest] for path, digest in hashes.items())]
    write_file(folder / JOURNAL, b"".join(map(journal_line, record)))
    (folder / MANIFEST).unlink(missing_ok=True)

    missing = [clip for clip in plan if clip.path not in hashes]
    with (folder / JOURNAL).open("ab", buffering=0) as journal, progress_bar(progress) as bar:
        task = bar.add_task(f"motion set ({options['level']})", total=len(plan), completed=len(hashes))
        for clip, digest in _make_all(folder, missing, options["level"], num_workers):
            hashes[clip.path] = digest
            journal.write(journal_line([clip.path, digest]))
            bar.advance(task)

    for split in ("train", "val"):
        hashes[f"{split}.csv"] = write_file(folder / f"{split}.csv", _csv(clip for clip in plan if clip.split == split))
    write_file(folder / MANIFEST, json.dumps(header | {"files": dict(sorted(hashes.items()))}, indent=1).encode())
    (folder / JOURNAL).unlink()


def _make_all(
    folder: Path, clips: list[PlannedClip], level: str, num_workers: int
) -> Iterator[tuple[PlannedClip, str]]:
    """Yield every clip with its hash as soon as its file is in place."""
    todo = iter(clips)
    with ThreadPoolExecutor(num_workers, thread_name_prefix="motion") as pool:
        running: dict[Future[str], PlannedClip] = {}
        while True:
            # Few are handed out at a time, so that an interrupt or a full disk ends the work at once.
            running |= {
                pool.submit(_make, folder, clip, level): clip for clip in islice(todo, 2 * num_workers - len(running))
            }
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _make(folder: Path, clip: PlannedClip, level: str) -> str:
    frames = draw_clip(np.random.default_rng(clip.key), clip.label, LEVELS[level], clip.num_frames)
    return write_file(folder / clip.path, encode_mp4(frames, intra_only=clip.split == "val"))


def _checked_options(level: str, seed: int, num_train: int, num_val: int) -> dict[str, Any]:
    if level not in LEVELS:
        raise ValueError(f"there is no level {level!r}; choose one of {sorted(LEVELS)}")
    if seed < 0:
        raise ValueError(f"seed={seed} is negative; give 0 or more")
    if num_train < 1:
        raise ValueError(f"num_train={num_train} leaves nothing to train on; give at least 1, better a multiple of 12")
    if num_val < 2 or num_val % 2:
        raise ValueError(
            f"num_val={num_val} cannot be split into pairs of a clip and its reversal; give an even number from 2 on, "
            "better a multiple of 12"
        )
    return {"level": level, "seed": seed, "num_train": num_train, "num_val": num_val}


def _versions() -> dict[str, str]:
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return {"numpy": np.__version__, "av": av.__version__, "libavcodec": libavcodec, "machine": platform.machine()}


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _csv(clips: Iterator[PlannedClip]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((clip.path, clip.label, clip.split, clip.num_frames, clip.pair) for clip in clips)
    return text.getvalue().encode()
