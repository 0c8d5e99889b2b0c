"""Videos that are folders of numbered pictures, as Something-Something V1 and Jester are handed out.

Behind the interface of an opened video: a count of frames, a rate, and frames by number, exact or an error. The names of
the files follow a template such as `img_{:05d}.jpg`; numbers begin at 0 or 1 and none may be left out, because the frame
that follows a gap would stand at the wrong time.
"""

import re
import threading
from collections.abc import Sequence
from fractions import Fraction
from operator import index as as_integer
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from kinema.data.decoding.containers import MAX_PIXELS
from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.decoding.report import DecodeError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_KEEP = 1 << 16  # folders whose numbers are remembered
_NAME = re.compile(r"(?P<before>[^{}/\\]*)\{(?::0?\d*d)?\}(?P<after>[^{}/\\]*)")


class FrameFolders:
    """How folders of pictures are read as videos.

    Args:
        template: Name of a picture by its number, with one place for it: `{:05d}.jpg`, `img_{:05d}.jpg`, `frame_{:010d}.jpg`.
        fps: Pictures per second. A folder does not say it: 12 for Something-Something V1 and Jester.

    Attributes:
        rates: Pictures per second of single folders, by their names, where the videos of a set differ; empty at first.

    Raises:
        ValueError: If the template has no place for one number or does not end in .jpg, .jpeg or .png, or `fps` is not
            above 0.
    """

    def __init__(self, template: str, fps: float | Fraction = 30) -> None:
        parts = _NAME.fullmatch(template)
        if parts is None or Path(template).suffix.lower() not in PICTURE_SUFFIXES:
            raise ValueError(
                f"'{template}' is no template of file names; it needs one place for the number and a suffix of "
                f"{sorted(PICTURE_SUFFIXES)}, such as {{:05d}}.jpg"
            )
        if not fps > 0:
            raise ValueError(f"fps={fps} was given; pictures per second must be above 0")
        self.template = template
        self.fps = Fraction(str(fps))  # the decimal that was written, not the float nearest to it
        self.rates: dict[str, Fraction] = {}
        self._pattern = re.compile(f"{re.escape(parts['before'])}(\\d+){re.escape(parts['after'])}")
        self._known: dict[Path, tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_known": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def open(self, path: str | Path) -> "FrameFolder":
        """Open a folder as a video.

        Raises:
            DecodeError: If there is no such folder, it holds no picture of the template's name, or a number is left out.
        """
        path = Path(path)
        first, count = self._numbers(path)
        return FrameFolder(path, self.template, first, count, self.fps_of(path.name))

    def fps_of(self, name: str) -> Fraction:
        """Pictures per second of the folder of a name."""
        return self.rates.get(name, self.fps)

    def _numbers(self, path: Path) -> tuple[int, int]:
        """First number and count, remembered for as long as the folder is unchanged: listing 100,000 names takes a while."""
        try:
            changed = path.stat().st_mtime_ns
            known = self._known.get(path)
            if known is not None and known[0] == changed:
                return known[1:]
            names = [entry.name for entry in path.iterdir()]
        except OSError as error:
            reason = error.strerror or error
            raise DecodeError(f"{path} cannot be read as a folder of pictures ({reason}); check the path") from error
        found = sorted(
            int(match[1])
            for name in names
            if (match := self._pattern.fullmatch(name)) and self.template.format(int(match[1])) == name
        )
        if not found:
            held = ", ".join(sorted(names)[:3]) or "nothing"
            raise DecodeError(
                f"{path} holds {held} and no file such as {self.template.format(1)}; correct the template of names"
            )
        # Pictures count from 0 or from 1; a first number above is a gap as any other.
        first = min(found[0], 1)
        missing = next((number for number, there in enumerate(found, first) if number != there), None)
        if missing is not None:
            raise DecodeError(
                f"{path / self.template.format(missing)} is missing, the pictures go on to number {found[-1]}; extract "
                "the folder again, or take it out of the data set"
            )
        with self._lock:
            if len(self._known) >= _KEEP:
                self._known.clear()
            self._known[path] = changed, first, len(found)
        return first, len(found)


class FrameFolder:
    """One folder of pictures as a video; frames count from 0 whatever the first number of the files."""

    def __init__(self, path: Path, template: str, first: int, count: int, fps: Fraction) -> None:
        self.path, self.name = path, str(path)
        self._template, self._first, self._count, self._fps = template, first, count, fps

    @property
    def num_frames(self) -> int:
        return self._count

    @property
    def fps(self) -> Fraction:
        return self._fps

    @property
    def clock(self) -> FrameClock:
        """When each frame begins, and the last one ends."""
        return FrameClock.constant(self._count, self._fps)

    def frame_at(self, time: Fraction) -> int:
        """The frame that is shown nearest to a time; `num_frames` or more behind the end."""
        return round(time * self._fps)

    @property
    def duration(self) -> Fraction:
        """Seconds, the last frame included."""
        return self._count / self._fps

    def file(self, number: int) -> Path:
        """The picture of a frame."""
        return self.path / self._template.format(self._first + number)

    def picture(self, number: int) -> np.ndarray:
        """Decode the picture of a frame, (H, W, 3).

        Raises:
            DecodeError: If it is missing or damaged.
        """
        return read_picture(self.file(number))

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]:
        """Decode frames by number: RGB, 0 to 255; each picture once, however often it is asked for.

        Turns that a camera notes in EXIF are not applied: pictures extracted from videos have none.

        Args:
            indices: Frame numbers in [0, num_frames), any order, repeats allowed.

        Shape:
            `(T, 3, H, W)` with `T = len(indices)`, channels innermost in memory.

        Raises:
            IndexError: If a number lies outside the video.
            DecodeError: If a picture is missing or damaged, or not of the size of the others.
        """
        numbers = [as_integer(number) for number in indices]
        outside = [number for number in numbers if not 0 <= number < self._count]
        if outside:
            raise IndexError(
                f"{self.name}: frames {outside[:8]} were asked for, but the video has {self._count}; "
                f"ask for numbers from 0 to {self._count - 1}"
            )
        pictures: dict[int, np.ndarray] = {}
        for number in sorted(set(numbers)):
            picture = pictures[number] = self.picture(number)
            first = pictures[min(pictures)]
            if picture.shape != first.shape:
                raise DecodeError(
                    f"{self.file(number)} is {_size(picture)} pixels and {self.file(min(pictures)).name} is {_size(first)}; "
                    "the pictures of a video must have one size, extract them again"
                )
        if not numbers:
            height, width = read_picture(self.file(0)).shape[:2]
            return torch.empty((0, 3, height, width), dtype=torch.uint8)
        return torch.from_numpy(np.stack([pictures[number] for number in numbers])).permute(0, 3, 1, 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


def read_picture(path: Path | IO[bytes], name: str | None = None) -> np.ndarray:
    """Decode a JPEG or PNG file to (H, W, 3) RGB.

    Args:
        path: The file, or an open one.
        name: What to call it in messages.

    Raises:
        DecodeError: If it is missing, no whole JPEG or PNG, or has more than `MAX_PIXELS` pixels.
    """
    name = name or str(path)
    if isinstance(path, Path) and not path.is_file():  # nor a pipe, which would be waited for
        raise DecodeError(f"{name} is missing; extract the folder again, or take it out of the data set")
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DecodeError(
                    f"{name}: {picture.width} x {picture.height} pixels, at most {MAX_PIXELS} are decoded"
                )
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DecodeError(
            f"{name} cannot be decoded as JPEG or PNG ({error}); extract it again, or take its folder out of the data set"
        ) from error


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
