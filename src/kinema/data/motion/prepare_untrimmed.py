"""Making the built-in set of untrimmed videos, with its annotations in the form of ActivityNet."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kinema.data.motion.encoding import FRAMES_PER_SECOND, encode_mp4
from kinema.data.motion.filling import fill_folder, versions
from kinema.data.motion.integrity import verify_motion
from kinema.data.motion.scenes import LEVELS
from kinema.data.motion.untrimmed import LENGTH_STEP, Action, actions_of, draw_video, plan_video, reversed_actions

FORMAT_VERSION = 1
"""Raised whenever the same options come to mean other pictures, so that an old folder never passes for a new one."""

ANNOTATIONS = "annotations.json"

_SUBSETS = {"train": "training", "val": "validation"}
_SHORTEST_S = 9  # room for one action with background around it
_FURTHER = 2  # keeps these random numbers apart from those of the trimmed clips, whose keys end (seed, 0 or 1, index)


@dataclass(frozen=True)
class PlannedVideo:
    """One video of the set: which random numbers it is drawn from, and whether it is played backwards."""

    name: str
    split: str
    num_frames: int
    backwards: bool
    key: tuple[int, int, int]

    @property
    def path(self) -> str:
        return f"videos/{self.name}.mp4"


def prepare_untrimmed(
    root: str | Path,
    *,
    level: str = "easy",
    seed: int = 0,
    num_train: int = 32,
    num_val: int = 16,
    seconds: tuple[int, int] = (60, 90),
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the untrimmed set under `root` unless it is there already, and return its folder.

    It contains `videos/`, `annotations.json` (the form of ActivityNet, subsets `training` and `validation`) and
    `manifest.json` (options, versions, the SHA-256 of every file). As for `prepare_motion`, the folder's name holds every
    option, what is missing or damaged is made again, and the same options give the same files.

    Args:
        root: Where data sets live; made if absent.
        level: `easy` or `hard`, see `LEVELS`.
        seed: At least 0; another seed gives another set.
        num_train: Training videos, at least 1.
        num_val: Validation videos, even: each one and its reversal.
        seconds: Length of the shortest video and of the longest, at least 9.
        num_workers: Threads; None for all processors.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        ValueError: If an option is out of range.
        OSError: If `root` cannot be written.
    """
    low, high = seconds
    if level not in LEVELS:
        raise ValueError(f"there is no level {level!r}; choose one of {sorted(LEVELS)}")
    if seed < 0 or num_train < 1 or (num_workers is not None and num_workers < 1):
        raise ValueError(
            f"seed={seed}, num_train={num_train} and num_workers={num_workers} were given; a seed from 0 on, and at least one "
            "training video and one worker are needed"
        )
    if num_val < 2 or num_val % 2:
        raise ValueError(
            f"num_val={num_val} cannot be split into pairs of a video and its reversal; give an even number"
        )
    if not _SHORTEST_S <= low <= high:
        raise ValueError(f"seconds={low} {high} is no range of lengths; give two numbers from {_SHORTEST_S} on")
    name = f"untrimmed-{level}-{num_train}-{num_val}-{low}to{high}s-seed{seed}-v{FORMAT_VERSION}"
    folder = Path(root) / name
    if not verify_motion(folder):
        return folder
    plan = list(plan_videos(seed, num_train, num_val, (low, high)))
    options = {"level": level, "seed": seed, "num_train": num_train, "num_val": num_val, "seconds": [low, high]}
    header = {"format": FORMAT_VERSION, "options": options, "versions": versions(), "command": "kinema data untrimmed"}
    files = {video.path: partial(_make, video, level) for video in plan}
    tables = {ANNOTATIONS: _annotations(plan)}
    what = f"untrimmed motion set ({level})"
    try:
        fill_folder(folder, header, files, tables, what=what, num_workers=num_workers, progress=progress)
    except OSError as error:
        raise OSError(
            f"cannot write the untrimmed set to {folder}: {error}; give a root that can be written"
        ) from error
    return folder


def plan_videos(seed: int, num_train: int, num_val: int, seconds: tuple[int, int]) -> Iterator[PlannedVideo]:
    """List the videos of a set: those of training, then validation pairs side by side."""
    lengths = np.random.default_rng([seed, _FURTHER + 2])
    low, high = (value * FRAMES_PER_SECOND for value in seconds)

    def length() -> int:
        # Rounded up, and down again where that would be too long, unless the range holds no multiple.
        steps = -(-int(lengths.integers(low, high, endpoint=True)) // LENGTH_STEP)
        return max(min(steps, high // LENGTH_STEP), -(-low // LENGTH_STEP)) * LENGTH_STEP

    for index in range(num_train):
        yield PlannedVideo(f"train_{index:03d}", "train", length(), False, (seed, _FURTHER, index))
    for index in range(num_val // 2):
        num_frames = length()
        for side in ("a", "b"):
            key = (seed, _FURTHER + 1, index)
            yield PlannedVideo(f"val_{index:03d}{side}", "val", num_frames, side == "b", key)


def planned_actions(video: PlannedVideo) -> list[Action]:
    """What happens in a video."""
    actions = actions_of(plan_video(np.random.default_rng([*video.key, 0]), video.num_frames))
    return reversed_actions(actions, video.num_frames) if video.backwards else actions


def _make(video: PlannedVideo, level: str) -> bytes:
    scenes = plan_video(np.random.default_rng([*video.key, 0]), video.num_frames)
    frames = draw_video(np.random.default_rng([*video.key, 1]), scenes, LEVELS[level])
    if video.backwards:
        frames = np.ascontiguousarray(frames[::-1])
    # As the trimmed clips: validation frames decode to the same bits in both directions.
    return encode_mp4(frames, intra_only=video.split == "val")


def _annotations(videos: list[PlannedVideo]) -> bytes:
    database = {
        video.name: {
            "duration": video.num_frames / FRAMES_PER_SECOND,
            "subset": _SUBSETS[video.split],
            "annotations": [
                {"label": each.label, "segment": [each.start / FRAMES_PER_SECOND, each.end / FRAMES_PER_SECOND]}
                for each in planned_actions(video)
            ],
        }
        for video in videos
    }
    return (json.dumps({"version": "kinema untrimmed motion", "database": database}, indent=1) + "\n").encode()
