"""Put the videos of some lists into shards: in parallel, and so that a run that is stopped goes on where it was."""

import csv
import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kinema.data.decoding import DecodeError
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.home import data_home
from kinema.data.journal import Journal, write_durably
from kinema.data.progress import progress_bar
from kinema.data.reencoding import Encoding, reencode_video
from kinema.data.shards.layout import CLASSES, FACTS, FORMAT, INDEX, LEAVES, UNREADABLE, ShardError
from kinema.data.shards.lists import SampleList, digest_of, read_lists
from kinema.data.shards.storage import ObjectStore, is_remote, need_litdata

_JOURNAL = ".sharding.jsonl"
_LARGEST = 1 << 32  # offsets in a chunk have 32 bits


@dataclass(frozen=True)
class Sharded:
    """What was written.

    Args:
        videos: In the shards, those of earlier calls too.
        chunks: That hold them.
        kept: Chunks that were there already.
        num_bytes: Of all chunks.
        unreadable: Videos that are not in them, and why.
    """

    videos: int
    chunks: int
    kept: int
    num_bytes: int
    unreadable: dict[str, str]


@dataclass(frozen=True)
class _Work:
    """What every chunk is written by."""

    root: Path
    folder: Path
    store: ObjectStore | None
    encoding: Encoding | None
    folders: FrameFolders | None
    stopped: threading.Event


def shard_videos(
    sources: Sequence[Path],
    root: Path,
    output: str,
    *,
    chunk_mib: float = 32,
    encoding: Encoding | None = None,
    folders: FrameFolders | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> Sharded:
    """Write the videos that some lists name, and the lists, into chunks of litdata's format.

    A video that several samples share is written once. Without `encoding` the bytes of the files are, so that clips out of the
    shards are those out of the files, bit for bit, also where a file is damaged. A chunk appears when it is whole and is then
    noted; a run that is stopped goes on behind the last one. Address or folder are complete when `index.json` is there.

    Args:
        sources: Lists of samples as data modules read them: CSV files, or folders with one folder per class.
        root: Data root of their paths.
        output: Folder, or address of an object store (s3, gs). Chunks for a store are written below `$KINEMA_DATA` or
            `~/.cache/kinema` first, one for each worker at a time.
        chunk_mib: Size of a chunk: consecutive videos up to so much, counted before they are encoded.
        encoding: Encode each video again; as it is when None.
        folders: How pictures are read, where the videos are folders of them.
        num_workers: Chunks at a time, each in a thread and in memory; one per core by default.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        ManifestError: If a list cannot be used as it is.
        ShardError: If litdata is not installed, no video is there, the output holds other shards, or the disk is full or the
            store not to be reached. What was written stays valid.
    """
    if not chunk_mib > 0:
        raise ShardError(f"chunk_mib={chunk_mib} holds no video; give a size above 0, 32 is usual")
    if encoding is not None and folders is not None:
        raise ShardError("pictures are stored as they are; leave the options of encoding out, or give video files")
    need_litdata()
    lists = read_lists(sources, root)
    store = ObjectStore(output) if is_remote(output) else None
    folder = _staging(output) if store is not None else Path(output).expanduser()
    paths = list(dict.fromkeys(path for sample_list in lists for path in sample_list.paths))
    sizes = [_bytes_of(root / path, folders) for path in paths]
    if not any(size is not None for size, _ in sizes):
        pictures = folders is None and any((root / path).is_dir() for path in paths[:3])
        advice = (
            "they are folders of pictures: give --frames, such as {:05d}.jpg" if pictures else "correct the data root"
        )
        raise ShardError(f"none of the {len(paths)} videos is below {root}, such as {paths[:3]}; {advice}")
    header = {
        "format": FORMAT,
        "chunk_mib": chunk_mib,
        "encoding": None if encoding is None else asdict(encoding),
        "template": None if folders is None else folders.template,
        "lists": digest_of(lists),
        "videos": hashlib.sha256(json.dumps([paths, sizes]).encode()).hexdigest(),
    }
    plan = list(_plan([size or 0 for size, _ in sizes], int(chunk_mib * (1 << 20))))
    work = _Work(root, folder, store, encoding, folders, threading.Event())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_other_shards(folder, header, output)
        with Journal(folder / _JOURNAL, header) as journal:
            kept = _known(journal, work)
            missing = [number for number in range(len(plan)) if str(number) not in kept]
            for number, entry in _written(
                work, [(n, [paths[i] for i in plan[n]]) for n in missing], num_workers, progress
            ):
                journal.add([(str(number), entry)])
            entries = [journal.entries[str(number)] for number in range(len(plan))]
        return _finish(work, lists, header, entries, kept=len(kept))
    except OSError as error:
        why = (
            "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"it cannot be written to ({error})"
        )
        raise ShardError(f"{folder}: {why}; what was written is whole, and the same command goes on with it") from error


def _staging(url: str) -> Path:
    return data_home() / "shards" / f"to-upload-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:16]}"


def _bytes_of(path: Path, folders: FrameFolders | None) -> tuple[int | None, int]:
    """Size and time of change of a video; of a folder the sum and the folder's. No size if it is not there."""
    try:
        facts = path.stat()
        if folders is None:
            return (facts.st_size if path.is_file() else None), facts.st_mtime_ns
        return sum(entry.stat().st_size for entry in os.scandir(path)), facts.st_mtime_ns
    except OSError:
        return None, 0


def _plan(sizes: Sequence[int], chunk_bytes: int) -> Iterator[list[int]]:
    """Places of consecutive videos that together come to a chunk, at least one."""
    chunk: list[int] = []
    total = 0
    for place, size in enumerate(sizes):
        if chunk and total + size > chunk_bytes:
            yield chunk
            chunk, total = [], 0
        chunk.append(place)
        total += size
    if chunk:
        yield chunk


def _refuse_other_shards(folder: Path, header: dict[str, Any], output: str) -> None:
    facts = folder / FACTS
    if facts.is_file():
        held = json.loads(facts.read_text(encoding="utf-8")).get("made_of")
        if held != header:
            different = [name for name, value in header.items() if not held or held.get(name) != value]
            raise ShardError(
                f"{output} holds shards that differ in {', '.join(different)}; give another folder, or remove this one"
            )


def _known(journal: Journal, work: _Work) -> dict[str, Any]:
    """Entries whose chunks are still there."""

    def there(entry: dict[str, Any]) -> bool:
        path = work.folder / (entry["filename"] or ".")
        stored = work.store is not None or entry["filename"] is None
        return stored or (path.is_file() and path.stat().st_size == entry["chunk_bytes"])

    return {number: entry for number, entry in journal.entries.items() if there(entry)}


def _written(
    work: _Work, jobs: Sequence[tuple[int, list[str]]], num_workers: int | None, progress: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    with progress_bar(progress and bool(jobs)) as bar, ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool:
        task = bar.add_task("writing videos to shards", total=sum(len(paths) for _, paths in jobs))
        futures = {pool.submit(_write_chunk, work, number, paths): (number, len(paths)) for number, paths in jobs}
        try:
            for future in as_completed(futures):
                number, count = futures[future]
                yield number, future.result()
                bar.advance(task, count)
        except BaseException:
            work.stopped.set()  # on Ctrl-C or a full disk, do not write the rest first
            pool.shutdown(cancel_futures=True)
            raise


def _write_chunk(work: _Work, number: int, paths: Sequence[str]) -> dict[str, Any]:
    """Write one chunk, and say what is in it."""
    from litdata.streaming.writer import BinaryWriter  # optional, and slow to import

    unreadable: dict[str, str] = {}
    items: list[dict[str, bytes]] = []
    for path in paths:
        if work.stopped.is_set():
            raise ShardError("stopped")
        try:
            content, sizes = _content(work, path)
        except DecodeError as error:
            unreadable[path] = str(error).removeprefix(str(work.root / path)).lstrip(": ")
            continue
        items.append(dict(zip(LEAVES, (content, path.encode(), sizes), strict=True)))
    if not items:
        return {"filename": None, "chunk_bytes": 0, "videos": [], "unreadable": unreadable}
    _refuse_too_large(items)
    with TemporaryDirectory(prefix=".chunk-", dir=work.folder) as unfinished:
        writer = BinaryWriter(unfinished, chunk_size=len(items), chunk_index=number)
        for place, item in enumerate(items):
            writer.add_item(place, item)
        (path,) = writer.done()
        whole = work.folder / Path(path).name
        os.replace(path, whole)  # noqa: PTH105 - `path` is text
    entry = {
        "filename": whole.name,
        "chunk_bytes": whole.stat().st_size,
        "videos": [item["name"].decode() for item in items],
        "unreadable": unreadable,
        "config": writer.get_config(),
    }
    if work.store is not None:
        work.store.upload(whole, whole.name)
        whole.unlink()
    return entry


def _content(work: _Work, path: str) -> tuple[bytes, bytes]:
    """Bytes of a video and, of pictures, their sizes.

    Raises:
        DecodeError: If it is not there, or cannot be encoded again.
    """
    place = work.root / path
    if work.folders is not None:
        opened = work.folders.open(place)
        pictures = [_read(opened.file(number)) for number in range(opened.num_frames)]
        return b"".join(pictures), np.array([len(picture) for picture in pictures], "<i8").tobytes()
    if work.encoding is None:
        return _read(place), b""
    with TemporaryDirectory(prefix=".encoding-", dir=work.folder) as unfinished:
        target = Path(unfinished) / "video.mp4"
        reencode_video(place, target, work.encoding)
        return target.read_bytes(), b""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DecodeError(f"{path} cannot be read ({error.strerror or error})") from error


def _refuse_too_large(items: Sequence[dict[str, bytes]]) -> None:
    largest = max(items, key=lambda item: len(item["content"]))
    if sum(len(item["content"]) for item in items) + 64 * len(items) >= _LARGEST:
        raise ShardError(
            f"{largest['name'].decode()} has {len(largest['content']) >> 20} MiB, and a chunk holds less than 4096; encode "
            "again while writing (--short-side 256), or cut the video"
        )


def _finish(
    work: _Work, lists: Sequence[SampleList], header: dict[str, Any], entries: Sequence[dict[str, Any]], *, kept: int
) -> Sharded:
    """Write the small files, `index.json` as the last: it says that all is there."""
    filled = [entry for entry in entries if entry["filename"] is not None]
    unreadable = {path: reason for entry in entries for path, reason in entry["unreadable"].items()}
    if not filled:
        raise ShardError(f"none of the {len(unreadable)} videos can be read, such as {next(iter(unreadable.items()))}")
    classes = next((sample_list.classes for sample_list in lists if sample_list.classes is not None), None)
    facts = {
        "format": FORMAT,
        "pictures": work.folders is not None,
        "classes": classes is not None,
        "lists": [name for sample_list in lists for name in sample_list.files],
        "videos": [path for entry in filled for path in entry["videos"]],
        "unreadable": len(unreadable),
        "made_of": header,
    }
    chunks = [
        {
            "filename": entry["filename"],
            "chunk_bytes": entry["chunk_bytes"],
            "chunk_size": len(entry["videos"]),
            "dim": None,
        }
        for entry in filled
    ]
    config = filled[0]["config"] | {"chunk_size": max(len(entry["videos"]) for entry in filled)}
    files = {name: content.decode() for sample_list in lists for name, content in sample_list.files.items()}
    files |= {CLASSES: "\n".join(classes) + "\n"} if classes is not None else {}
    files |= {UNREADABLE: _table(unreadable)} if unreadable else {}
    files |= {FACTS: json.dumps(facts, indent=1), INDEX: json.dumps({"chunks": chunks, "config": config}, indent=1)}
    for name, text in files.items():
        write_durably(work.folder / name, text)
        if work.store is not None:
            work.store.upload(work.folder / name, name)
    names = {entry["filename"] for entry in filled}
    for stale in set(work.folder.glob("chunk-*.bin")) - {work.folder / name for name in names}:
        stale.unlink()  # of an earlier plan that was not finished
    return Sharded(len(facts["videos"]), len(filled), kept, sum(chunk["chunk_bytes"] for chunk in chunks), unreadable)


def _table(unreadable: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows(sorted(unreadable.items()))
    return text.getvalue()
