"""What every reader promises: frames by number, exact or an error."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from operator import index as as_integer
from types import TracebackType
from typing import Self

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.data.decoding.frame_clock import FrameClock
from kinema.data.decoding.index import FrameIndex
from kinema.data.decoding.report import DecodeReport


class VideoReader(ABC):
    """Frames of one video by number, counted in display order from 0.

    All readers share one timestamp index (`kinema.data.decoding.index`), so counts, times and frame numbers do not
    depend on the decoder. A reader belongs to the process and thread that opened it; close it, or use it in a `with`
    statement.
    """

    name: str
    report: DecodeReport
    index: FrameIndex

    @property
    def num_frames(self) -> int:
        """Frames a viewer would see; a cut-off file's lost ones are counted too, and listed in `report.missing`."""
        return len(self.index.pts)

    @property
    def timestamps(self) -> list[Fraction]:
        """Display time of every frame in seconds, the first at 0."""
        first, tick = int(self.index.pts[0]), self.index.time_base
        return [(int(pts) - first) * tick for pts in self.index.pts]

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last one."""
        return (int(self.index.pts[-1]) - int(self.index.pts[0]) + self.index.last_duration) * self.index.time_base

    @property
    def fps(self) -> Fraction:
        """Average frames per second, `num_frames / duration`."""
        return self.num_frames / self.duration

    @property
    def clock(self) -> FrameClock:
        """When each frame begins, and the last one ends."""
        return self.index.clock()

    def frame_at(self, time: Fraction) -> int:
        """The frame that is shown nearest to a time, also where the rate varies; `num_frames` or more behind the end."""
        # Where it does not vary, times in whole milliseconds would move frames that the rate does not.
        return self.clock.nearest(time) if self.index.variable_rate else round(time * self.fps)

    @property
    @abstractmethod
    def width(self) -> int:
        """Columns of a decoded frame, rotation applied."""

    @property
    @abstractmethod
    def height(self) -> int:
        """Rows of a decoded frame, rotation applied."""

    def decode(self, indices: Sequence[int]) -> UInt8[Tensor, "T C H W"]:
        """Decode frames by number: RGB, 0 to 255, rotation applied.

        Each frame is decoded once, however often it is asked for, and none after the last wanted one. The result lies
        in memory row by row with the channels innermost (`torch.channels_last`), as decoders give it and as torchvision
        resizes fastest.

        Args:
            indices: Frame numbers in [0, num_frames), any order, repeats allowed.

        Shape:
            `(T, 3, H, W)` with `T = len(indices)`.

        Raises:
            IndexError: If a number lies outside the video.
            DecodeError: If a wanted frame cannot be decoded exactly; no other frame ever takes its place.
        """
        numbers = self._inside(indices)
        if not numbers:
            return torch.empty((0, 3, self.height, self.width), dtype=torch.uint8)
        slots: dict[int, list[int]] = {}
        for slot, number in enumerate(numbers):
            slots.setdefault(number, []).append(slot)
        return self._decode(slots, len(numbers))

    def decode_on(self, indices: Sequence[int], *, block_frames: int = 16) -> Iterator[UInt8[Tensor, "T C H W"]]:
        """Decode frames from the first to the last, a few at a time: memory does not grow with their number.

        The same pixels as of `decode`, joined: each frame is decoded once, and what comes before a wanted one is not decoded
        again for the next block.

        Args:
            indices: Frame numbers in [0, num_frames), each larger than the one before.
            block_frames: Frames of a block, at least 1; a block may have fewer.

        Raises:
            IndexError: If a number lies outside the video.
            ValueError: If the numbers do not rise.
            DecodeError: On reaching a frame that cannot be decoded exactly; then do without those that came before, too.
        """
        numbers = self._inside(indices)
        falling = [pair for pair in pairwise(numbers) if pair[0] >= pair[1]]
        if falling:
            raise ValueError(f"frame {falling[0][1]} was asked for behind {falling[0][0]}; give numbers that rise")
        if block_frames < 1:
            raise ValueError(f"block_frames={block_frames} holds no frame; give at least 1")
        return self._decode_on(numbers, block_frames)

    def _decode_on(self, numbers: list[int], block_frames: int) -> Iterator[UInt8[Tensor, "T C H W"]]:
        """Decode rising numbers block by block; a reader that can keep its place in the stream overrides this."""
        for first in range(0, len(numbers), block_frames):
            yield self.decode(numbers[first : first + block_frames])

    def _inside(self, indices: Sequence[int]) -> list[int]:
        numbers = [as_integer(number) for number in indices]
        outside = [number for number in numbers if not 0 <= number < self.num_frames]
        if outside:
            raise IndexError(
                f"{self.name}: frames {outside[:8]} were asked for, but the video has {self.num_frames}; "
                f"ask for numbers from 0 to {self.num_frames - 1}"
            )
        return numbers

    @abstractmethod
    def _decode(self, slots: dict[int, list[int]], num_slots: int) -> UInt8[Tensor, "T C H W"]:
        """Decode each frame in `slots` into the places of the result named there."""

    @abstractmethod
    def close(self) -> None:
        """Release the file and the decoder; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
