"""Manifests: which videos there are, and what is said of them.

Two forms are read. A CSV with the columns `path,label[,start,end,split,subject]` (times in seconds, other columns kept as
metadata, paths relative to a data root), and a folder that holds one folder of videos per class.
"""

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"})
_COLUMNS = ("path", "label", "start", "end", "split", "subject")


class ManifestError(ValueError):
    """A manifest that cannot be used as it is; the text names the file, the line, and the way out."""


@dataclass(frozen=True)
class VideoRecord:
    """One labelled stretch of video.

    Args:
        path: Relative to the data root, or absolute below it.
        label: Class id.
        start: First second that belongs to the sample; the start of the file when None.
        end: Second at which the sample ends; the end of the file when None.
        split: Name of the part of the data it belongs to, such as `train`.
        subject: Who is seen, for splits by person.
        metadata: The other columns of its row, as text.
    """

    path: str
    label: int
    start: Fraction | None = None
    end: Fraction | None = None
    split: str = ""
    subject: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """Records and the names of their classes; the id of a class is its place in `class_names`."""

    records: list[VideoRecord]
    class_names: list[str]

    def __len__(self) -> int:
        return len(self.records)

    def where(self, *, split: str | None = None, subjects: Sequence[str] | None = None) -> "Manifest":
        """Keep the records of a split, or of some subjects; the classes stay as they are."""
        kept = [
            record
            for record in self.records
            if (split is None or record.split == split) and (subjects is None or record.subject in subjects)
        ]
        return Manifest(kept, self.class_names)

    @property
    def splits(self) -> list[str]:
        return sorted({record.split for record in self.records})


def read_manifest(path: str | Path, *, root: str | Path, class_names: Sequence[str] | None = None) -> Manifest:
    """Read a manifest: a CSV file, or a folder with one folder of videos per class.

    Args:
        path: The CSV or the folder, absolute or relative to `root`.
        root: Data root that the paths of a CSV are relative to; no path may leave it.
        class_names: Names in the order of their ids. When None, names that the labels use are sorted; integer
            labels become the names "0" to the largest.

    Raises:
        ManifestError: If a column or label is missing, a label is outside the classes, a row stands twice, a path
            leaves the root, or nothing is found.
    """
    root = Path(root)
    path = Path(path) if Path(path).is_absolute() else root / path
    if path.is_dir():
        return _read_folders(path, root, class_names)
    if not path.is_file():
        raise ManifestError(f"manifest {path} does not exist; give a CSV file or a folder with one folder per class")
    return _read_csv(path, root, class_names)


def split_by_path(manifest: Manifest, *, val_fraction: float, seed: int = 0) -> tuple[Manifest, Manifest]:
    """Carve a validation part out of a manifest, class by class, by a hash of each path.

    A video stays on its side when others are added or removed elsewhere in the list of classes, and both sides hold
    every class that has at least two videos.

    Raises:
        ManifestError: If `val_fraction` is not between 0 and 1, or one side would be empty.
    """
    if not 0 < val_fraction < 1:
        raise ManifestError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
    train: list[VideoRecord] = []
    val: list[VideoRecord] = []
    for label in range(len(manifest.class_names)):
        of_class = [record for record in manifest.records if record.label == label]
        of_class.sort(key=lambda record: hashlib.sha256(f"{seed}:{record.path}".encode()).hexdigest())
        num_val = min(max(round(len(of_class) * val_fraction), 1), len(of_class) - 1) if len(of_class) > 1 else 0
        val += [replace(record, split="val") for record in of_class[:num_val]]
        train += [replace(record, split="train") for record in of_class[num_val:]]
    if not train or not val:
        raise ManifestError(
            f"{len(manifest)} videos of {len(manifest.class_names)} classes leave {len(train)} for training and "
            f"{len(val)} for validation; give at least two videos of a class"
        )
    return Manifest(train, manifest.class_names), Manifest(val, manifest.class_names)


def resolve(record: VideoRecord, root: Path) -> Path:
    """Where the file of a record lies.

    Raises:
        ManifestError: If the path leaves `root`, also by way of `..`. Links inside the root may point elsewhere.
    """
    # Not Path.resolve: links are followed there, and a link inside the root may lead where its owner likes.
    root = Path(os.path.abspath(root))  # noqa: PTH100
    inside = Path(os.path.normpath(root / record.path))
    if not inside.is_relative_to(root):
        raise ManifestError(
            f"the path '{record.path}' leaves the data root {root}; write paths relative to the root, "
            "or choose a root that holds them all"
        )
    return inside


def _read_csv(path: Path, root: Path, class_names: Sequence[str] | None) -> Manifest:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        missing = [column for column in ("path", "label") if column not in columns]
        if missing:
            raise ManifestError(
                f"{path} lacks the column {' and '.join(missing)}; found {list(columns)}. "
                "The first line must read path,label[,start,end,split,subject]"
            )
        rows = list(reader)
    if not rows:
        raise ManifestError(f"{path} has a header but no rows; add one line per video")
    for line, row in enumerate(rows, start=2):
        if not row["path"] or not row["label"]:
            raise ManifestError(f"{path} line {line}: path and label must both be given, got {row}")
    names = list(class_names) if class_names is not None else _names_of([row["label"] for row in rows], path)
    ids = {name: index for index, name in enumerate(names)}
    records: list[VideoRecord] = []
    seen: dict[tuple[str, str, str], int] = {}
    for line, row in enumerate(rows, start=2):
        key = (row["path"], row.get("start") or "", row.get("end") or "")
        if key in seen:
            raise ManifestError(
                f"{path} lines {seen[key]} and {line} name the same sample, {row['path']}; remove one of them"
            )
        seen[key] = line
        start, end = (_seconds(row.get(column), path, line, column) for column in ("start", "end"))
        if end is not None and end <= (start or 0):
            raise ManifestError(f"{path} line {line}: end {end} does not lie after start {start or 0}")
        record = VideoRecord(
            path=row["path"],
            label=_class_id(row["label"], ids, path, line),
            start=start,
            end=end,
            split=row.get("split") or "",
            subject=row.get("subject") or "",
            metadata={name: value for name, value in row.items() if name not in _COLUMNS and name is not None},
        )
        resolve(record, root)
        records.append(record)
    return Manifest(records, names)


def _read_folders(path: Path, root: Path, class_names: Sequence[str] | None) -> Manifest:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    names = list(class_names) if class_names is not None else [folder.name for folder in folders]
    ids = {name: index for index, name in enumerate(names)}
    records: list[VideoRecord] = []
    for folder in folders:
        videos = sorted(file for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
        if videos and folder.name not in ids:
            raise ManifestError(f"the folder {folder} is none of the {len(names)} classes {names[:5]}...")
        for video in videos:
            inside = video.absolute().relative_to(root.absolute()) if video.is_relative_to(root) else video.absolute()
            records.append(VideoRecord(path=str(inside), label=ids[folder.name]))
    if not records:
        raise ManifestError(
            f"no video found in {path}; expected one folder per class with files ending in {sorted(VIDEO_SUFFIXES)}"
        )
    return Manifest(records, names)


def _names_of(labels: list[str], path: Path) -> list[str]:
    numeric = [label.lstrip("-").isdigit() for label in labels]
    if all(numeric):
        smallest, largest = min(map(int, labels)), max(map(int, labels))
        if smallest < 0:
            raise ManifestError(f"{path}: the label {smallest} is below 0; class ids count from 0")
        return [str(index) for index in range(largest + 1)]
    return sorted(set(labels))


def _class_id(label: str, ids: dict[str, int], path: Path, line: int) -> int:
    if label in ids:
        return ids[label]
    if label.isdigit() and int(label) < len(ids):
        return int(label)
    raise ManifestError(
        f"{path} line {line}: the label '{label}' is none of the {len(ids)} classes; "
        f"ids run from 0 to {len(ids) - 1}, names are {list(ids)[:5]}..."
    )


def _seconds(text: str | None, path: Path, line: int, column: str) -> Fraction | None:
    if text is None or not text.strip():
        return None
    try:
        seconds = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise ManifestError(f"{path} line {line}: {column} must be seconds such as 3.25, got '{text}'") from None
    if seconds < 0:
        raise ManifestError(f"{path} line {line}: {column} must not be negative, got {text}")
    return seconds
