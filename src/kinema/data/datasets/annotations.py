"""Finding and reading the annotation files of published data sets.

What a file lacks is said with what it has instead: releases differ, and a list of another version, or of another data set,
mostly reads well until its labels turn out to be wrong.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.data.manifest import Manifest, ManifestError


@dataclass(frozen=True)
class Listing:
    """What the annotation files of a data set say.

    Args:
        manifest: All samples of all splits, with paths below the data root.
        files: The annotation files that were read.
        notes: What a reader should be told, such as samples that overlap.
    """

    manifest: Manifest
    files: list[Path]
    notes: list[str]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        values: By column.
        where: File and line, for messages.
    """

    values: dict[str, str]
    where: str

    def __getitem__(self, column: str) -> str:
        return self.values[column]


class AnnotationFolder:
    """Where the annotation files of a data set lie.

    Args:
        root: Data root.
        folder: Folder of the annotation files, absolute, below `root` or below the working directory. When None, `root` and its
            usual subfolders are searched.
        usual: Names of subfolders that the archives use.
    """

    def __init__(self, root: Path, folder: str | Path | None, usual: Sequence[str] = ()) -> None:
        if folder is None:
            self.folders = [root, *(root / name for name in ("annotations", *usual))]
        else:
            places = [root / folder, Path(folder)]
            self.folders = [next((place for place in places if place.is_dir()), places[0])]
            if not self.folders[0].is_dir():
                told = " nor ".join(str(place) for place in dict.fromkeys(places))
                raise ManifestError(f"the folder of annotations is neither {told}; correct 'annotations'")
        self.found: list[Path] = []

    def find(self, *names: str) -> Path | None:
        """The first of these files that exists; it is noted as read."""
        for folder in self.folders:
            for name in names:
                if (folder / name).is_file():
                    self.found.append(folder / name)
                    return folder / name
        return None

    def need(self, *names: str) -> Path:
        """The first of these files that exists.

        Raises:
            ManifestError: If none does.
        """
        path = self.find(*names)
        if path is None:
            if not any(folder.is_dir() for folder in self.folders):
                raise ManifestError(f"the folder {self.folders[0]} does not exist; give the root of the data set")
            held = sorted(
                {entry.name for folder in self.folders if folder.is_dir() for entry in folder.glob("*.[cjt]*")}
            )
            raise ManifestError(
                f"no annotation file {' or '.join(names)} in {', '.join(map(str, self.folders))} (found {held[:6]}); copy it "
                "there from the release, or name its folder as 'annotations'"
            )
        return path


def read_table(path: Path, columns: Sequence[str], *, delimiter: str = ",", header: bool = True) -> list[Row]:
    """Read a table and check that it is the one meant.

    Args:
        path: The file.
        columns: Columns that are needed; all of them, in this order, where there is no header.
        delimiter: What separates columns.
        header: Whether the first line names the columns.

    Raises:
        ManifestError: If a column is missing, a line has another number of them, or there is no line.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, delimiter=delimiter)
        names = next(lines, []) if header else list(columns)
        missing = [column for column in columns if column not in names]
        if missing:
            raise ManifestError(
                f"{path}: the columns {', '.join(columns)} were expected and {', '.join(missing)} not found; its first line "
                f"has {', '.join(names) or 'nothing'}. It is a file of another version or data set"
            )
        rows = []
        for values in lines:
            where = f"{path} line {lines.line_num}"
            if len(values) != len(names):
                raise ManifestError(
                    f"{where}: {len(names)} columns were expected ({delimiter.join(names)}), found {len(values)}: {values[:4]}"
                )
            rows.append(Row(dict(zip(names, values, strict=True)), where))
    if not rows:
        raise ManifestError(f"{path} lists nothing; copy it again from the release")
    return rows


def read_lines(path: Path) -> list[Row]:
    """Read a text file line by line, as the column `line`; empty lines are left out.

    Raises:
        ManifestError: If there is no line.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [Row({"line": line.strip()}, f"{path} line {n}") for n, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise ManifestError(f"{path} lists nothing; copy it again from the release")
    return rows


def read_json(path: Path, kind: type, what: str) -> Any:
    """Read a JSON file that holds a list or a mapping.

    Raises:
        ManifestError: If it is no JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ManifestError(f"{path} is no whole JSON file ({error}); copy it again from the release") from error
    if not isinstance(content, kind):
        raise ManifestError(
            f"{path}: {what} was expected, found a {type(content).__name__}; it is a file of another version or data set"
        )
    return content


def read_json_rows(path: Path, fields: Mapping[str, type]) -> list[tuple[dict[str, Any], str]]:
    """Read a JSON list of entries with these fields; with each comes its place, for messages.

    Raises:
        ManifestError: If an entry lacks a field, or one is of another type.
    """
    rows = []
    for place, entry in enumerate(read_json(path, list, f"a list of entries with {', '.join(fields)}")):
        where = f"{path} entry {place}"
        wrong = [
            f"{name} ({kind.__name__})"
            for name, kind in fields.items()
            if not isinstance(entry, dict) or not isinstance(entry.get(name), kind)
        ]
        if wrong:
            found = sorted(entry) if isinstance(entry, dict) else entry
            raise ManifestError(
                f"{where}: the fields {', '.join(wrong)} were expected, found {found}; it is a file of another version or "
                "data set"
            )
        rows.append((entry, where))
    if not rows:
        raise ManifestError(f"{path} lists nothing; copy it again from the release")
    return rows
