"""Manifests: which videos there are, and what is said of them.

Two forms are read. A CSV with the columns `path,label[,start,end,split,subject]` (times in seconds, other columns kept as
metadata, paths relative to a data root), and a folder that holds one folder of videos per class. Where every sample has
several labels, as a verb and a noun, the CSV has a column `label.NAME` for each in place of `label`.
"""

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"})
_COLUMNS = ("path", "label", "start", "end", "split", "subject")
_TASK = "label."  # begins the name of a column of labels where there are several


class ManifestError(ValueError):
    """A manifest that cannot be used as it is; the text names the file, the line, and the way out."""


@dataclass(frozen=True)
class VideoRecord:
    """One labelled stretch of video.

    Args:
        path: Relative to the data root, or absolute below it.
        label: Class id; the first one where a sample has several.
        start: First second that belongs to the sample; the start of the file when None.
        end: Second at which the sample ends; the end of the file when None.
        split: Name of the part of the data it belongs to, such as `train`.
        subject: Who is seen, for splits by person.
        metadata: The other columns of its row, as text.
        further_labels: Its other class ids, where it has several.
    """

    path: str
    label: int
    start: Fraction | None = None
    end: Fraction | None = None
    split: str = ""
    subject: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    further_labels: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its path, and behind it the seconds of a part of a file: `long.mp4#t=1.5,4`, as in W3C's Media Fragments."""
        if self.start is None and self.end is None:
            return self.path
        start, end = ("" if time is None else f"{float(time):.10g}" for time in (self.start, self.end))
        return f"{self.path}#t={start}" + (f",{end}" if end else "")

    @property
    def labels(self) -> tuple[int, ...]:
        """All its class ids."""
        return (self.label, *self.further_labels)


@dataclass(frozen=True)
class Manifest:
    """Records and the names of their classes; the id of a class is its place in `class_names`.

    Args:
        records: The samples.
        class_names: Names by the id that is a record's `label`.
        tasks: Where a sample has several labels: what each of them tells ("verb", "noun"), in the order of `labels`, and its
            class names by id; those of the first are `class_names`. Empty where a sample has one label.
    """

    records: list[VideoRecord]
    class_names: list[str]
    tasks: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def where(self, *, split: str | None = None, subjects: Sequence[str] | None = None) -> "Manifest":
        """Keep the records of a split, or of some subjects; the classes stay as they are."""
        kept = [
            record
            for record in self.records
            if (split is None or record.split == split) and (subjects is None or record.subject in subjects)
        ]
        return replace(self, records=kept)

    @property
    def splits(self) -> list[str]:
        return sorted({record.split for record in self.records})


def read_manifest(
    path: str | Path, *, root: str | Path, class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None
) -> Manifest:
    """Read a manifest: a CSV file, or a folder with one folder of videos per class.

    Args:
        path: The CSV or the folder, absolute or relative to `root`.
        root: Data root that the paths of a CSV are relative to; no path may leave it.
        class_names: Names in the order of their ids. When None, names that the labels use are sorted; integer
            labels become the names "0" to the largest. A mapping from the name of each label, where there are several.

    Raises:
        ManifestError: If a column or label is missing, a label is outside the classes, a row stands twice, a path
            leaves the root, or nothing is found.
    """
    root = Path(root)
    path = Path(path) if Path(path).is_absolute() else root / path
    if path.is_dir():
        if isinstance(class_names, Mapping):
            raise ManifestError(
                f"{path} is a folder of classes, which gives one label each; list several labels in a CSV"
            )
        return _read_folders(path, root, class_names)
    if not path.is_file():
        raise ManifestError(f"manifest {path} does not exist; give a CSV file or a folder with one folder per class")
    for names in class_names.values() if isinstance(class_names, Mapping) else [class_names or []]:
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise ManifestError(f"the names of the classes hold {twice[0]!r} twice; give each class a name of its own")
    return _read_csv(path, root, class_names)


def split_by_path(manifest: Manifest, *, val_fraction: float, seed: int = 0) -> tuple[Manifest, Manifest]:
    """Carve a validation part out of a manifest by a hash of each path: whole videos, with all samples that lie in them.

    Where every video shows one class, this is done class by class, so that both sides hold every class that has at least two
    videos, and a video stays on its side when others are added or removed elsewhere in the list of classes. Where videos
    hold samples of several classes, the share is that of all videos.

    Raises:
        ManifestError: If `val_fraction` is not between 0 and 1, or one side would be empty.
    """
    if not 0 < val_fraction < 1:
        raise ManifestError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
    samples: dict[str, list[VideoRecord]] = {}
    for record in manifest.records:
        samples.setdefault(record.path, []).append(record)
    of_one = all(len({record.labels for record in held}) == 1 for held in samples.values())
    groups: dict[int, list[str]] = {}
    for path, held in samples.items():
        groups.setdefault(held[0].label if of_one else 0, []).append(path)
    train: list[VideoRecord] = []
    val: list[VideoRecord] = []
    for _, paths in sorted(groups.items()):
        paths.sort(key=lambda path: hashlib.sha256(f"{seed}:{path}".encode()).hexdigest())
        num_val = min(max(round(len(paths) * val_fraction), 1), len(paths) - 1) if len(paths) > 1 else 0
        val += [replace(record, split="val") for path in paths[:num_val] for record in samples[path]]
        train += [replace(record, split="train") for path in paths[num_val:] for record in samples[path]]
    if not train or not val:
        raise ManifestError(
            f"{len(samples)} videos of {len(manifest.class_names)} classes leave {len(train)} samples for training and "
            f"{len(val)} for validation; give at least two videos of a class"
        )
    return replace(manifest, records=train), replace(manifest, records=val)


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


def _read_csv(path: Path, root: Path, class_names: Sequence[str] | Mapping[str, Sequence[str]] | None) -> Manifest:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        tasks = {name.removeprefix(_TASK): name for name in columns if name.startswith(_TASK)}
        needed = ("path",) if tasks else ("path", "label")
        missing = [column for column in needed if column not in columns]
        if missing:
            raise ManifestError(
                f"{path} lacks the column {' and '.join(missing)}; found {list(columns)}. "
                "The first line must read path,label[,start,end,split,subject]. The lists of a published data set are read by "
                "'kinema data prepare', which writes such a file"
            )
        if tasks and "label" in columns:
            raise ManifestError(
                f"{path} has the columns label and {', '.join(tasks.values())}; name each label, or give one"
            )
        rows = list(reader)
    if not rows:
        raise ManifestError(f"{path} has a header but no rows; add one line per video")
    label_columns = list(tasks.values()) or ["label"]
    for line, row in enumerate(rows, start=2):
        surplus: Any = row.pop(None, [])  # pyrefly: ignore[bad-argument-type]
        if surplus:
            raise ManifestError(
                f"{path} line {line} has {len(columns) + len(surplus)} values for {len(columns)} columns, {row['path']} and so "
                'on; put what holds a comma into quotes, "letting it fall, then rest"'
            )
        if not row["path"] or not all(row[column] for column in label_columns):
            raise ManifestError(f"{path} line {line}: path and label must both be given, got {row}")
    names = _names_by_column(path, rows, tasks or {"": "label"}, class_names)
    ids = {column: {name: index for index, name in enumerate(names[column])} for column in label_columns}
    records: list[VideoRecord] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, row in enumerate(rows, start=2):
        key: tuple[str, ...] = (row["path"], row.get("start") or "", row.get("end") or "")
        if tasks:  # two things may be done at the same time
            key += tuple(row[column] for column in label_columns)
        if key in seen:
            raise ManifestError(
                f"{path} lines {seen[key]} and {line} name the same sample, {row['path']}; remove one of them"
            )
        seen[key] = line
        start, end = (_seconds(row.get(column), path, line, column) for column in ("start", "end"))
        if end is not None and end <= (start or 0):
            raise ManifestError(f"{path} line {line}: end {end} does not lie after start {start or 0}")
        label, *further = (_class_id(row[column], ids[column], path, line) for column in label_columns)
        record = VideoRecord(
            path=row["path"],
            label=label,
            start=start,
            end=end,
            split=row.get("split") or "",
            subject=row.get("subject") or "",
            metadata={name: value for name, value in row.items() if name not in (*_COLUMNS, *label_columns)},
            further_labels=tuple(further),
        )
        resolve(record, root)
        records.append(record)
    return Manifest(records, names[label_columns[0]], {task: names[column] for task, column in tasks.items()})


def _names_by_column(
    path: Path,
    rows: list[dict[str, str]],
    tasks: Mapping[str, str],
    given: Sequence[str] | Mapping[str, Sequence[str]] | None,
) -> dict[str, list[str]]:
    """Class names for each column of labels: those that were given, or those that the labels use."""
    if given is None:
        return {column: _names_of([row[column] for row in rows], path) for column in tasks.values()}
    by_task = given if isinstance(given, Mapping) else {"": given}
    if set(by_task) != set(tasks):
        wanted, found = (
            ", ".join(map(repr, names)) if set(names) != {""} else "one label" for names in (by_task, tasks)
        )
        raise ManifestError(
            f"class names were given for {wanted}, and {path} has {found}; give names for each of its labels"
        )
    return {column: list(by_task[task]) for task, column in tasks.items()}


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
