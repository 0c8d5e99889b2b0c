"""Making the built-in motion set on first use.

A run that is killed loses at most the clips it was working on; the next one completes the folder.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kinema.data.motion.encoding import encode_mp4
from kinema.data.motion.filling import fill_folder, versions
from kinema.data.motion.integrity import verify_motion
from kinema.data.motion.scenes import LEVELS, MOTION_CLASSES, REVERSED, draw_clip

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
    plan = list(plan_clips(seed, num_train, num_val))
    header = {"format": FORMAT_VERSION, "options": options, "versions": versions()}
    files = {clip.path: partial(_make, clip, level) for clip in plan}
    tables = {f"{split}.csv": _csv(clip for clip in plan if clip.split == split) for split in ("train", "val")}
    what = f"motion set ({level})"
    try:
        fill_folder(folder, header, files, tables, what=what, num_workers=num_workers, progress=progress)
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


def _make(clip: PlannedClip, level: str) -> bytes:
    frames = draw_clip(np.random.default_rng(clip.key), clip.label, LEVELS[level], clip.num_frames)
    return encode_mp4(frames, intra_only=clip.split == "val")


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


def _csv(clips: Iterator[PlannedClip]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((clip.path, clip.label, clip.split, clip.num_frames, clip.pair) for clip in clips)
    return text.getvalue().encode()
