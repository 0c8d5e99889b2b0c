"""A video that is a stretch of a larger file, read in place."""

import io
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FilePart:
    """Where a video lies within a file.

    Args:
        path: The file.
        begin: Its first byte there.
        size: Its bytes.
        name: What to call it in messages.
    """

    path: Path
    begin: int
    size: int
    name: str

    def read(self) -> bytes:
        """All of it."""
        with PartReader(self) as file:
            return file.read()


class PartReader(io.RawIOBase):
    """An open file that begins and ends where a part does.

    Raises:
        OSError: If the file cannot be opened.
    """

    def __init__(self, part: FilePart) -> None:
        super().__init__()
        self._part, self._position = part, 0
        self._file = part.path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyrefly: ignore[bad-override]
        left = max(self._part.size - self._position, 0)
        wanted = memoryview(buffer).cast("B")[:left]
        self._file.seek(self._part.begin + self._position)
        count = self._file.readinto(wanted) if len(wanted) else 0
        self._position += count or 0
        return count or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        if start + offset < 0:
            raise OSError(f"{self._part.name}: {start + offset} is before its first byte")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        super().close()
