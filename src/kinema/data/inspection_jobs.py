"""Looking at videos in a process of its own, which imports this module and no more: a worker starts in half the time."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.inspection import VideoFacts, inspect_pictures, inspect_video


@dataclass(frozen=True)
class InspectionJob:
    """One video to look at.

    Args:
        path: As lists name it.
        place: Where it is.
        folders: How a video that is a folder of pictures is read; None for a file.
        every_frame: Decode every frame; else the first and the last.
        sha256: Hash the file.
    """

    path: str
    place: Path
    folders: FrameFolders | None
    every_frame: bool
    sha256: bool


def inspect_jobs(jobs: Sequence[InspectionJob]) -> list[tuple[str, VideoFacts]]:
    """What was found, by the names that lists use."""
    results = []
    for job in jobs:
        options = {"sha256": job.sha256, "every_frame": job.every_frame}
        if job.folders is None:
            results.append((job.path, inspect_video(job.place, **options)))
        else:
            results.append((job.path, inspect_pictures(job.place, job.folders, **options)))
    return results


def begin_worker() -> None:
    """Set a process up for `inspect_jobs`."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
