"""Filling the folder of a set that kinema makes, file by file, so that a killed run goes on where it was.

One process at a time holds the folder's lock, and the others wait for its result.
"""

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from filelock import FileLock

from kinema.data.motion.integrity import (
    JOURNAL,
    delete_leftovers,
    finished_files,
    journal_line,
    verify_motion,
    write_file,
    write_manifest,
)
from kinema.data.progress import progress_bar

Maker = Callable[[], bytes]
"""Makes the content of one file."""


def fill_folder(
    folder: Path,
    header: dict[str, Any],
    files: Mapping[str, Maker],
    tables: Mapping[str, bytes],
    *,
    what: str,
    num_workers: int | None,
    progress: bool,
) -> None:
    """Make what is missing or damaged in a folder, and its manifest at the end.

    Args:
        folder: Made if absent.
        header: Options and versions. Files of another header are made again.
        files: What takes long to make, by its path in the folder; made by threads, which drawing and encoding let run.
        tables: What does not: content by path.
        what: Name of the set beside the progress bar.
        num_workers: Threads; None for all processors.
        progress: Show the bar, on the error stream.

    Raises:
        OSError: If the folder cannot be written.
    """
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not verify_motion(folder):
            return  # another process has made it while this one waited for the lock
        finished = finished_files(folder, header)
        hashes = {name: finished[name] for name in files if name in finished}
        delete_leftovers(folder)
        record = [header, *([name, digest] for name, digest in hashes.items())]
        write_file(folder / JOURNAL, b"".join(map(journal_line, record)))
        write_manifest(folder, None)

        missing = {name: make for name, make in files.items() if name not in hashes}
        with (folder / JOURNAL).open("ab", buffering=0) as journal, progress_bar(progress) as bar:
            task = bar.add_task(what, total=len(files), completed=len(hashes))
            for name, digest in _make_all(folder, missing, num_workers or num_processors()):
                hashes[name] = digest
                journal.write(journal_line([name, digest]))
                bar.advance(task)

        hashes |= {name: write_file(folder / name, content) for name, content in tables.items()}
        write_manifest(folder, header | {"files": dict(sorted(hashes.items()))})
        (folder / JOURNAL).unlink()


def versions() -> dict[str, str]:
    """What the content of a file depends on beside the options."""
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return {"numpy": np.__version__, "av": av.__version__, "libavcodec": libavcodec, "machine": platform.machine()}


def num_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_all(folder: Path, files: Mapping[str, Maker], num_workers: int) -> Iterator[tuple[str, str]]:
    """Yield name and hash of every file as soon as it is in place."""

    def make(name: str) -> str:
        return write_file(folder / name, files[name]())

    todo = iter(files)
    with ThreadPoolExecutor(num_workers, thread_name_prefix="motion") as pool:
        running: dict[Future[str], str] = {}
        while True:
            # Few are handed out at a time, so that an interrupt or a full disk ends the work at once.
            running |= {pool.submit(make, name): name for name in islice(todo, 2 * num_workers - len(running))}
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
