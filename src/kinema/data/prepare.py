"""From a downloaded archive to a manifest: look at every video once, and write down what is there.

A run that is killed, or whose disk is full, goes on where it was: what each video was found to be is kept in a journal
beside the manifest, and used again for as long as the file has the same size and time of change. The manifest itself is
written at the end, in one step.
"""

import csv
import hashlib
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kinema.data.alone import alone
from kinema.data.datasets.archive import ArchiveData, facts_path, hash_of
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.inspection import VideoFacts
from kinema.data.inspection_jobs import InspectionJob, begin_worker, inspect_jobs
from kinema.data.journal import Journal, write_durably
from kinema.data.manifest import Manifest, ManifestError, VideoRecord, resolve
from kinema.data.progress import progress_bar

LOST = ("missing", "undecodable", "outside")
"""What a sample cannot be used for: no file, no frame that decodes, or a time range beyond the end of the video."""

_FORMAT = 2
_AT_A_TIME = 8  # videos handed to a process together
_SLACK = 1  # seconds that a time range may reach beyond the end: lists are rounded, and videos cut on keyframes


@dataclass(frozen=True)
class Prepared:
    """What was found.

    Args:
        manifest: The file that was written.
        counts: Samples by split and status: ok, damaged (some frames do not decode), undecodable, missing, outside.
        frame_rates: Videos by frames per second, the most frequent first.
        notes: What else a reader should know.
        problems: Table of the samples that are not ok.
    """

    manifest: Path
    counts: dict[str, dict[str, int]]
    frame_rates: dict[str, int]
    notes: list[str]
    problems: Path


class TooManyLost(ManifestError):
    """More samples of a split are lost than was allowed; the text names the table that lists them."""


def prepare_archive(
    data: ArchiveData,
    *,
    out: Path | None = None,
    num_workers: int | None = None,
    allow_missing: float = 0.01,
    every_frame: bool = True,
    sha256: bool = True,
    progress: bool = True,
) -> Prepared:
    """Check a data set against its annotation files and write the manifest that training reads.

    Beside `NAME.csv` come `NAME.json` (classes, counts, hashes of the annotation files), `NAME.problems.csv` (every sample
    that is not ok, and why), `NAME.classes.txt` where samples have one label, and the journal `.NAME.journal`.

    Args:
        data: The data set.
        out: Where to write the manifest; where training looks for it when None.
        num_workers: Processes that decode; one per core when None.
        allow_missing: Largest share of the samples of a split that may be lost: missing, undecodable, or beyond the end of
            their video.
        every_frame: Decode every frame; else the first and the last of each video.
        sha256: Hash the videos.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        ManifestError: If the annotations are wrong, or as `TooManyLost`.
        OSError: If something cannot be written; what was written stays valid and the next run goes on from it.
    """
    if not 0 <= allow_missing <= 1:
        raise ValueError(f"allow_missing={allow_missing} is no share of the samples; give a number from 0 to 1")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers={num_workers} decodes nothing; give at least 1, or None for one per core")
    listing = data.read_archive()
    out = data.prepared_path if out is None else out
    records = listing.manifest.records
    places = {record.path: resolve(record, data.root) for record in records}
    pictures = None if data.folders is None else [data.folders.template, str(data.folders.fps)]
    header = {"format": _FORMAT, "every_frame": every_frame, "sha256": sha256, "pictures": pictures}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        journal_path = out.with_name(f".{out.stem}.journal")
        lock = journal_path.with_name(f"{journal_path.name}.lock")
        with alone(lock, f"preparing {out}"), Journal(journal_path, header) as journal:
            _inspect_all(journal, places, data.folders, num_workers, every_frame, sha256, progress)
            found = journal.entries
        statuses = [_status(record, places[record.path], found) for record in records]
        _write_problems(out, records, statuses)
        counts: dict[str, Counter[str]] = {}
        for record, (status, _) in zip(records, statuses, strict=True):
            counts.setdefault(record.split, Counter())[status] += 1
        _refuse_losses(counts, allow_missing, _problems_path(out))
        present = {record.path for record, (status, _) in zip(records, statuses, strict=True) if status not in LOST}
        rates = Counter(f"{float(Fraction(*found[path]['fps'])):.5g}" for path in present)
        prepared = Prepared(
            out,
            {split: dict(counts[split]) for split in counts},
            dict(rates.most_common()),
            listing.notes,
            _problems_path(out),
        )
        # The facts last: they vouch that the manifest beside them is of the annotation files of now.
        write_durably(out, _manifest_text(listing.manifest, statuses, found))
        _write_facts(data, listing.manifest, listing.files, prepared)
    except OSError as error:
        raise OSError(
            f"cannot write {out}: {error}; what was written so far stays valid: make room, or name another file, and run the "
            "command again, which goes on from there"
        ) from error
    return prepared


def _inspect_all(
    journal: Journal,
    places: dict[str, Path],
    folders: FrameFolders | None,
    num_workers: int | None,
    every_frame: bool,
    sha256: bool,
    progress: bool,
) -> None:
    """Bring the journal up to date with the files."""
    states = {path: _state(place) for path, place in places.items()}
    there = {path: state for path, state in states.items() if state is not None}
    todo = [path for path, state in there.items() if journal.entries.get(path, {}).get("state") != state]
    with progress_bar(progress) as bar:
        task = bar.add_task("looking at videos", total=len(there), completed=len(there) - len(todo))
        jobs = [InspectionJob(path, places[path], folders, every_frame, sha256) for path in todo]
        for done in _in_processes(jobs, num_workers):
            journal.add([(path, _entry(facts) | {"state": there[path]}) for path, facts in done])
            bar.advance(task, len(done))


def _in_processes(jobs: list[InspectionJob], num_workers: int | None) -> Iterator[list[tuple[str, VideoFacts]]]:
    """Yield what was found, a few videos at a time, in any order."""
    parts = [jobs[i : i + _AT_A_TIME] for i in range(0, len(jobs), _AT_A_TIME)]
    num_workers = min(num_workers or _num_processors(), len(parts))
    if num_workers <= 1:
        yield from map(inspect_jobs, parts)
        return
    todo = iter(parts)
    # Spawned: torch's threads do not survive a fork.
    with ProcessPoolExecutor(num_workers, get_context("spawn"), initializer=begin_worker) as pool:
        running: dict[Future[list[tuple[str, VideoFacts]]], list[InspectionJob]] = {}
        try:
            while True:
                # Few are handed out at a time, so that an interrupt or a full disk ends the work at once.
                for part in islice(todo, 2 * num_workers - len(running)):
                    running[pool.submit(inspect_jobs, part)] = part
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield future.result()
                    del running[future]
        except BrokenProcessPool as error:
            names = [job.path for part in running.values() for job in part]
            raise RuntimeError(
                f"a process that decoded videos was ended, by the system or by a fault in a decoder, at one of {names[:16]}; "
                "what was found before is kept: run again with one worker to see at which, and take that video out"
            ) from error
        finally:
            for future in running:
                future.cancel()


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _state(place: Path) -> list[int | str] | None:
    """What changes when a file does, or one of the pictures in a folder; None where there is none."""
    try:
        facts = place.stat()
        if not stat.S_ISDIR(facts.st_mode):
            return [facts.st_size, facts.st_mtime_ns]
        with os.scandir(place) as entries:
            held = sorted((entry.name, entry.stat()) for entry in entries)
    except OSError:
        return None
    told = "".join(f"{name}\0{of.st_size}\0{of.st_mtime_ns}\n" for name, of in held)
    return [len(held), hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()]


def _entry(facts: VideoFacts) -> dict[str, Any]:
    return {
        "status": facts.status,
        "reason": facts.reason,
        "frames": facts.num_frames,
        "fps": list(facts.fps.as_integer_ratio()),
        "duration": list(facts.duration.as_integer_ratio()),
        "width": facts.width,
        "height": facts.height,
        "sha256": facts.sha256,
    }


def _status(record: VideoRecord, place: Path, found: dict[str, Any]) -> tuple[str, str]:
    """Status of a sample, and why it is not ok."""
    facts = found.get(record.path)
    if facts is None or not place.exists():
        return "missing", f"no file or folder {place.name} lies below the root"
    if facts["status"] == "undecodable":
        return "undecodable", facts["reason"]
    duration = Fraction(*facts["duration"])
    if (record.start or 0) >= duration or (record.end or 0) > duration + _SLACK:
        span = f"{float(record.start or 0):.2f} to {float(record.end or duration):.2f} s"
        return "outside", f"its range is {span}, the video has {float(duration):.2f} s: it is of another version"
    return facts["status"], facts["reason"]


def _refuse_losses(counts: dict[str, Counter[str]], allowed: float, problems: Path) -> None:
    for split, by_status in counts.items():
        total, lost = by_status.total(), sum(by_status[status] for status in LOST)
        if lost > allowed * total:
            parts = ", ".join(f"{by_status[status]} {status}" for status in LOST if by_status[status])
            raise TooManyLost(
                f"{lost} of {total} '{split}' samples cannot be used ({parts}), more than the {allowed:.1%} allowed; they are "
                f"listed in {problems}. Restore them, or allow more: --allow-missing {min(1.0, lost / total + 0.005):.2f}"
            )


def _problems_path(out: Path) -> Path:
    return out.with_suffix(".problems.csv")


def _write_problems(out: Path, records: Sequence[VideoRecord], statuses: Sequence[tuple[str, str]]) -> None:
    rows = [
        (record.path, record.split, status, reason)
        for record, (status, reason) in zip(records, statuses, strict=True)
        if status != "ok"
    ]
    write_durably(_problems_path(out), _csv([("path", "split", "status", "reason"), *rows]))


def _write_facts(data: ArchiveData, manifest: Manifest, files: Sequence[Path], prepared: Prepared) -> None:
    out = prepared.manifest
    folder = out.parent.absolute()
    names = [file.absolute() for file in files]
    facts = {
        "archive": data.archive_name,
        "options": data.listing_options,
        "classes": manifest.tasks or manifest.class_names,
        "samples": prepared.counts,
        "frame_rates": prepared.frame_rates,
        "notes": prepared.notes,
        "annotations": {
            str(name.relative_to(folder) if name.is_relative_to(folder) else name): hash_of(name) for name in names
        },
    }
    write_durably(facts_path(out), json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if not manifest.tasks:
        write_durably(out.with_suffix(".classes.txt"), "\n".join(manifest.class_names) + "\n")


def _manifest_text(manifest: Manifest, statuses: Sequence[tuple[str, str]], found: dict[str, Any]) -> str:
    names = list(manifest.tasks.values()) or [manifest.class_names]
    labels = [f"label.{task}" for task in manifest.tasks] or ["label"]
    further = list(dict.fromkeys(name for record in manifest.records for name in record.metadata))
    facts = ["frames", "fps", "seconds", "width", "height", "sha256"]
    rows: list[Sequence[object]] = [["path", *labels, "split", "start", "end", "subject", "status", *facts, *further]]
    for record, (status, _) in zip(manifest.records, statuses, strict=True):
        entry = found.get(record.path) if status != "missing" else None
        measured: list[object] = [""] * len(facts)
        if entry is not None and entry["status"] != "undecodable":
            fps, seconds = (float(Fraction(*entry[name])) for name in ("fps", "duration"))
            measured = [
                entry["frames"],
                f"{fps:.10g}",
                f"{seconds:.6g}",
                entry["width"],
                entry["height"],
                entry["sha256"],
            ]
        rows.append(
            [
                record.path,
                *(names[task][label] for task, label in enumerate(record.labels)),
                record.split,
                _seconds(record.start),
                _seconds(record.end),
                record.subject,
                status,
                *measured,
                *(record.metadata.get(name, "") for name in further),
            ]
        )
    return _csv(rows)


def _seconds(time: Fraction | None) -> str:
    """Exactly: as a decimal where there is one of nine digits, else as a fraction."""
    if time is None:
        return ""
    decimal = f"{float(time):.9f}".rstrip("0").rstrip(".")
    return decimal if Fraction(decimal) == time else str(time)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
