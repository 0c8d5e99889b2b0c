"""Frames that lie on a disk: a video file, or a folder of pictures.

A file goes through the reader of data sets, so it is exact or an error, and what may be opened at all is decided there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from kinema.data.decoding import DecodeError, open_video
from kinema.data.decoding.frame_folder import PICTURE_SUFFIXES, read_picture
from kinema.streaming.source import Opened, Picture, StreamError

_BLOCK_FRAMES = 4  # of a file, decoded at once
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class VideoFile:
    """A video file, every frame of it."""

    path: Path
    reconnects = False
    stall_s = None

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> Opened:
        return _OpenedFile(self.path)


class _OpenedFile(Opened):
    def __init__(self, path: Path) -> None:
        self._video = open_video(path)
        self.fps, self.duration_s = self._video.fps, self._video.duration

    def pictures(self) -> Iterator[Picture]:
        index = self._video.index
        first, number = int(index.pts[0]), 0
        for block in self._video.decode_on(range(self._video.num_frames), block_frames=_BLOCK_FRAMES):
            for pixels in block.permute(0, 2, 3, 1).numpy():
                yield Picture(pixels, (int(index.pts[number]) - first) * index.time_base)
                number += 1

    def close(self) -> None:
        self._video.close()


@dataclass(frozen=True)
class PictureFolder:
    """JPEG and PNG files as frames, in the order of the numbers in their names; they may change their size.

    One that cannot be decoded is left out and counted, as of an address; only if none can, that is an error.

    Args:
        path: The folder.
        fps: Pictures per second: a folder does not say it.
    """

    path: Path
    fps: Fraction = Fraction(25)
    reconnects = False
    stall_s = None

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"{float(self.fps):g} pictures a second were given; give a number above 0")

    @property
    def name(self) -> str:
        return str(self.path)

    def files(self) -> list[Path]:
        """The pictures in their order."""
        files = [file for file in self.path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file()]
        return sorted(files, key=_by_number)

    def open(self) -> Opened:
        files = self.files()
        if not files:
            raise StreamError(
                f"{self.path} holds no picture; give a folder of {', '.join(sorted(PICTURE_SUFFIXES))} files"
            )
        return _OpenedFolder(files, self.fps)


class _OpenedFolder(Opened):
    def __init__(self, files: list[Path], fps: Fraction) -> None:
        self._files, self.fps = files, fps

    def pictures(self) -> Iterator[Picture]:
        assert self.fps is not None
        first_error: DecodeError | None = None
        for number, file in enumerate(self._files):
            try:
                pixels = read_picture(file)
            except DecodeError as error:
                self.damaged += 1
                first_error = first_error or error
                continue
            yield Picture(pixels, number / self.fps)
        if first_error is not None and self.damaged == len(self._files):
            raise first_error
        if first_error is not None:
            self.note = f"{self.damaged} of {len(self._files)} pictures were left out, the first because {first_error}"

    def close(self) -> None:
        pass


def _by_number(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """A key by which frame_9 comes before frame_10."""
    parts = [part for part in _NUMBERS.split(file.stem) if part]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts], file.name
