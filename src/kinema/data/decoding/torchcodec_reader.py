"""torchcodec behind the same interface, for those who have it and its FFmpeg.

It is faster than PyAV used simply and slower than our PyAV reader, which skips what is not needed (see `kinema bench
data`), so it is never chosen by itself. Three things keep its result the same:

* the timestamp index, and with it frame counts and numbers, is ours; every frame must come back with the indexed time;
* containers in which it was seen to return wrong frames without an error (MPEG-TS) are read with PyAV, and so are
  turned pictures and files on whose number of frames the two disagree;
* its conversion to RGB is the same one of FFmpeg, equal to the bit in all our tests (FFmpeg 5.1 against 8.1).

One thing it cannot do: where damage leaves a picture decodable, FFmpeg conceals it and torchcodec does not say so.
Use PyAV for files that were not checked.
"""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.data.decoding.file_part import FilePart
from kinema.data.decoding.index import NOT_STORED
from kinema.data.decoding.orientation import UPRIGHT
from kinema.data.decoding.pyav_reader import PyAVReader
from kinema.data.decoding.report import DecodeError

_CONTAINERS = {"mov", "matroska"}  # recognised beyond doubt by their first bytes, by FFmpeg as by us


class TorchCodecReader(PyAVReader):
    """Read a video with torchcodec, on one thread, in its exact mode.

    Args:
        source: Path of a video file, its content, or a part of a file.

    Raises:
        ImportError: If torchcodec is not installed, or finds no FFmpeg libraries.
        DecodeError: If the source is no video that may be opened, or holds no frame.
    """

    def __init__(self, source: str | Path | bytes | FilePart) -> None:
        decoder_class = load_torchcodec()
        super().__init__(source)
        self._decoder: Any = None
        cause = self._why_not_torchcodec()
        if cause is None:
            try:
                whole = source.read() if isinstance(source, FilePart) else source
                self._decoder = decoder_class(whole, seek_mode="exact", num_ffmpeg_threads=1)
            except (RuntimeError, ValueError) as error:
                self.close()
                raise DecodeError(f"{self.name}: torchcodec cannot open it ({error}); try decoder='pyav'") from error
            if self._decoder.metadata.num_frames != self.num_frames:
                self._decoder, cause = None, "on whose number of frames torchcodec and the container disagree"
        if cause is not None:
            warnings.warn(f"decoder='torchcodec': files {cause} are read with PyAV instead", stacklevel=3)

    def close(self) -> None:
        self._decoder = None
        super().close()

    def _why_not_torchcodec(self) -> str | None:
        if self.demuxer not in _CONTAINERS:
            return f"in the container {self.demuxer}"
        if self._picture().orientation != UPRIGHT:
            return "with turned pictures"
        if (self.index.packet == NOT_STORED).any():
            return "that are cut off"
        return None

    def _decode(self, slots: dict[int, list[int]], num_slots: int) -> UInt8[Tensor, "T C H W"]:
        if self._decoder is None:
            return super()._decode(slots, num_slots)
        numbers = sorted(slots)
        try:
            batch = self._decoder.get_frames_at(numbers)
        except (RuntimeError, ValueError, IndexError) as error:
            self._lose(numbers)
            raise DecodeError(
                f"{self.name}: torchcodec cannot decode the frames {numbers[:8]} ({error}); the file is damaged: copy it "
                "again from its source, or take it out of the data set"
            ) from error
        tick = float(self.index.time_base)
        expected = torch.from_numpy(self.index.pts[numbers]).double() * tick
        wrong = [
            number for number, far in zip(numbers, (batch.pts_seconds - expected).abs() > tick / 2, strict=True) if far
        ]
        if wrong:
            self._lose(wrong)
            raise DecodeError(
                f"{self.name}: torchcodec returned other frames than the frames {wrong[:8]} asked for, by their timestamps; "
                "use decoder='pyav' for this file"
            )
        if len(numbers) == num_slots == len([slot for slot, number in enumerate(numbers) if slots[number] == [slot]]):
            return batch.data
        order = torch.empty(num_slots, dtype=torch.long)
        for place, number in enumerate(numbers):
            order[slots[number]] = place
        return batch.data.permute(0, 2, 3, 1)[order].permute(0, 3, 1, 2)

    def _lose(self, numbers: list[int]) -> None:
        self.report.errors += 1
        self.report.add_missing(numbers)


def load_torchcodec() -> Any:
    """Import torchcodec's decoder class.

    Raises:
        ImportError: If torchcodec is not installed, or finds no FFmpeg libraries.
    """
    try:
        return import_module("torchcodec.decoders").VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            "decoder='torchcodec' was asked for, but torchcodec or the FFmpeg libraries it needs (version 4 or later) "
            f"cannot be loaded ({str(error).splitlines()[0]}); pip install 'kinema[torchcodec]' and install FFmpeg, or use "
            "decoder='pyav'"
        ) from error
