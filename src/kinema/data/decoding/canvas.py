"""Where decoded frames go: into a clip, or nowhere when it only matters that they decode."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor


class Checklist:
    """Frames that are wanted, and those of them that were decoded exactly.

    Args:
        wanted: Numbers of frames.
    """

    def __init__(self, wanted: Iterable[int]) -> None:
        self.wanted = set(wanted)
        self.done: set[int] = set()

    def draw(self, number: int, frame: VideoFrame) -> None:
        """Take a decoded frame; it is not `done` before the reader knows it to be exact."""


class Canvas(Checklist):
    """The result of one decode, filled frame by frame.

    Args:
        slots: For each wanted frame the places of the result that show it.
        num_slots: Size of T.
        to_rgb: Converts a decoded frame to an (H, W, C) picture.
    """

    def __init__(
        self, slots: dict[int, list[int]], num_slots: int, to_rgb: Callable[[VideoFrame], NDArray[np.uint8]]
    ) -> None:
        super().__init__(slots)
        self._slots = slots
        self._num_slots = num_slots
        self._to_rgb = to_rgb
        self.pixels: Tensor = torch.empty(0, dtype=torch.uint8)
        self._array: NDArray[np.uint8] | None = None

    def draw(self, number: int, frame: VideoFrame) -> None:
        """Copy a frame to every place where it is wanted."""
        picture = self._to_rgb(frame)
        if self._array is None:
            self.pixels = torch.empty((self._num_slots, *picture.shape), dtype=torch.uint8)
            self._array = self.pixels.numpy()
        for slot in self._slots[number]:
            self._array[slot] = picture
