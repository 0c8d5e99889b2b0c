"""A record of work done, piece by piece, that is whole whenever the program, the machine or the disk gives up.

A file of JSON lines: first a header that says what work it is of, then one line for every piece. Lines are appended and
synced; a line without an end was being written when the end came and is cut off by the next run, which goes on behind it.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self


class Journal:
    """Entries by key, kept in a file.

    Args:
        path: The file; made if it does not exist.
        header: What the entries are valid for. A file with another header is begun anew.

    Attributes:
        entries: What was found in the file and has been added since; a later entry of a key replaces an earlier one.

    Raises:
        OSError: If the file cannot be read or written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if lines and _parsed(lines[0]) == header:
            for line in lines[1:]:
                entry = _parsed(line)
                if isinstance(entry, list) and len(entry) == 2:
                    self.entries[entry[0]] = entry[1]
            self._file = path.open("r+b")
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
        else:
            self._file = path.open("wb")
            self._append([header])

    def add(self, entries: Sequence[tuple[str, Any]]) -> None:
        """Append entries; when this returns they are on the disk.

        Raises:
            OSError: If they cannot be written, as on a full disk. What was added before stays valid.
        """
        self._append([list(entry) for entry in entries])
        self.entries.update(entries)

    def _append(self, lines: Sequence[Any]) -> None:
        self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:  # what could not be written cannot be flushed either; that was told already
            if error is None:
                raise


def write_durably(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one, also after a loss of power."""
    with durable_file(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """A file of bytes that appears under its name when it is whole and on the disk; after an error there is what was before."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name is in the folder, which is synced by itself
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
