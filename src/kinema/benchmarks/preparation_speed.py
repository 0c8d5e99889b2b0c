"""What a second core brings to `kinema data prepare` and `kinema data reencode`."""

import csv
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.data.datasets.archives import build_archive
from kinema.data.prepare import prepare_archive
from kinema.data.reencoding import reencode_set


@dataclass(frozen=True)
class PreparationRow:
    """One command with one number of workers.

    Args:
        name: Of the command.
        workers: Videos at a time.
        videos: How many it worked on.
        wall_s: Median over the rounds, from its start to its end, the start of processes included.
        faster: Median over the rounds of how many times as fast it is as with the first number of workers in that round.
        faster_low: First quartile of these.
        faster_high: Third quartile.
    """

    name: str
    workers: int
    videos: int
    wall_s: float
    faster: float
    faster_low: float
    faster_high: float


def compare_workers(
    videos: Sequence[Path],
    folder: Path,
    *,
    workers: Sequence[int] = (1, 2),
    copies: int = 48,
    reencoded_copies: int = 4,
    rounds: int = 3,
) -> list[PreparationRow]:
    """Time both commands with each number of workers, in turns; every time from nothing, with files that are in memory.

    Args:
        videos: What the data set consists of.
        folder: Where data sets are written; what was written is removed.
        workers: Numbers of workers, the first of them what the others are compared with.
        copies: Files of each video in the set that is prepared: enough that starting processes weighs little.
        reencoded_copies: Files of each video in the set that is encoded again, which takes longer.
        rounds: Rounds that count; one before them does not.
    """
    tree, few = folder / "prepared", folder / "reencoded"
    try:
        write_tree(tree, videos, copies)
        write_tree(few, videos, reencoded_copies)
        sizes = {"kinema data prepare": len(videos) * copies, "kinema data reencode": len(videos) * reencoded_copies}
        works: dict[str, Callable[[int], None]] = {
            "kinema data prepare": lambda number: _prepare(tree, number),
            "kinema data reencode": lambda number: _reencode(few, folder / "out", number),
        }
        rows: list[PreparationRow] = []
        for name, work in works.items():
            seconds: dict[int, list[float]] = {number: [] for number in workers}
            for turn in range(rounds + 1):
                for number in workers if turn % 2 else reversed(workers):
                    begin = time.perf_counter()
                    work(number)
                    seconds[number].append(time.perf_counter() - begin)
            first = seconds[workers[0]][1:]
            for number in workers:
                own = seconds[number][1:]
                ratios = [base / time for base, time in zip(first, own, strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
                rows.append(PreparationRow(name, number, sizes[name], statistics.median(own), middle, low, high))
    finally:
        for path in (tree, few, folder / "out"):
            shutil.rmtree(path, ignore_errors=True)
    return rows


def write_tree(root: Path, videos: Sequence[Path], copies: int) -> None:
    """An archive in the form of Kinetics-400 with one class: every video that many times, under names of its own."""
    shutil.rmtree(root, ignore_errors=True)
    header: list[object] = ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    lines: dict[str, list[list[object]]] = {"train": [header], "val": [header]}
    for number in range(len(videos) * copies):
        split, name = ("train", "val")[number % 2], f"made{number:07d}"
        lines[split].append(["it moves", name, 0, 10, split, 0])
        place = root / split / "it moves" / f"{name}_000000_000010.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        # Links and not copies: gigabytes that are being written, or do not stay in memory, would be what is measured.
        os.link(videos[number // 2 % len(videos)], place)
    for split, rows in lines.items():
        with (root / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def _prepare(root: Path, workers: int) -> None:
    out = root / "manifest" / "it.csv"
    shutil.rmtree(out.parent, ignore_errors=True)
    data = build_archive("kinetics400", str(root), subset=True)
    prepared = prepare_archive(data, out=out, num_workers=workers, progress=False)
    if any(set(counts) != {"ok"} for counts in prepared.counts.values()):
        raise RuntimeError(f"the videos made for this benchmark were not all read: {prepared.counts}")


def _reencode(root: Path, out: Path, workers: int) -> None:
    shutil.rmtree(out, ignore_errors=True)
    done = reencode_set(root, out, num_workers=workers, progress=False)
    if done.unreadable:
        raise RuntimeError(f"the videos made for this benchmark were not all read: {done.unreadable}")
