"""Exact frames of a video file by number.

`open_video` is all that callers need. Readers differ in speed only: the same frames, times and errors come from each.
"""

from pathlib import Path
from typing import Literal

from kinema.data.decoding.file_part import FilePart
from kinema.data.decoding.interface import VideoReader
from kinema.data.decoding.pyav_reader import PyAVReader
from kinema.data.decoding.report import DecodeError, DecodeReport

__all__ = ["DecodeError", "DecodeReport", "VideoReader", "open_video"]

Decoder = Literal["auto", "pyav", "torchcodec"]


def open_video(source: str | Path | bytes | FilePart, decoder: Decoder = "auto") -> VideoReader:
    """Open a video for exact, random access to its frames.

    Args:
        source: Path of a video file, its content, or a part of a larger file.
        decoder: "pyav" needs nothing but `pip install`; "torchcodec" needs that package and FFmpeg's libraries. "auto" is
            "pyav": it was measured to be exact on more files, to notice more damage, and to be the faster one.

    Raises:
        DecodeError: If the source cannot be read as a video.
        ImportError: If torchcodec is asked for and cannot be loaded.
        ValueError: If there is no such decoder.
    """
    if decoder in ("auto", "pyav"):
        return PyAVReader(source)
    if decoder == "torchcodec":
        from kinema.data.decoding.torchcodec_reader import TorchCodecReader  # optional, and slow to import

        return TorchCodecReader(source)
    raise ValueError(f"decoder={decoder!r} was given; choose 'auto', 'pyav' or 'torchcodec'")
