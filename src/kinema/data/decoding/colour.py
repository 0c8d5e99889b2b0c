"""From what a decoder gives to RGB: the one conversion of all that PyAV decodes."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray


def rgb_of(frame: VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Convert a frame to full-range 8-bit RGB, (H, W, 3), as it is stored; see `kinema.data.decoding.pyav_reader`.

    Args:
        frame: As it was decoded.
        reformatter: Of the reader: it is set up once for frames that are alike.

    Returns:
        A view of the converted frame, to be read or copied.
    """
    plane = reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1).planes[0]
    rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width * 3].reshape(frame.height, frame.width, 3)
