"""A stream as a video with what is said of it drawn into the picture."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import cast

import av
import matplotlib
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kinema.deployment.prediction import Guess

_TICKS = 90_000  # a second, as in MPEG
_SMALLEST, _LARGEST = 288, 1280
"""Height from which on letters can be read, and side beyond which encoding takes more time than the network."""
_KEYFRAMES = 50
_FONT = Path("fonts", "ttf", "DejaVuSans.ttf")
_DARK, _LIGHT, _BAR = (0, 0, 0, 150), (255, 255, 255, 255), (86, 180, 233, 255)


class OverlayVideo:
    """Write frames with the best guess, its score as a bar, the time and a note, as H.264 in MP4.

    The file is fragmented, so that it can be watched while it grows, is whole however the program ends, and takes no memory
    that grows with it. Frames keep their times. Small pictures are enlarged, large ones reduced; where the size of the frames
    changes, later ones are fitted into the first.

    Args:
        path: Ends in .mp4; an old file is replaced.

    Raises:
        ValueError: If it ends otherwise, or its folder is missing.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".mp4" or not path.absolute().parent.is_dir():
            raise ValueError(f"{path} cannot be written; give a file that ends in .mp4, in a folder that exists")
        self.path = path
        self._output: av.container.OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size = (0, 0)
        self._last = -1

    def write(
        self, pixels: UInt8[NDArray, "H W 3"], time_s: Fraction, guesses: Sequence[Guess], note: str = ""
    ) -> None:
        """Add a frame; times rise from frame to frame.

        Args:
            pixels: RGB.
            time_s: When it was shown.
            guesses: The best first; none before the first prediction.
            note: Such as a reset.
        """
        if self._output is None:
            self._begin(pixels)
        assert self._output is not None and self._stream is not None
        picture = Image.fromarray(pixels)
        if picture.size != self._size:
            picture = _fitted(picture, self._size)
        frame = av.VideoFrame.from_ndarray(np.asarray(drawn(picture, guesses, f"{float(time_s):.2f} s", note)))
        self._last = max(self._last + 1, round(time_s * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._output.mux(self._stream.encode(frame))

    def _begin(self, pixels: UInt8[NDArray, "H W 3"]) -> None:
        height, width = pixels.shape[:2]
        scale = min(max(_SMALLEST / height, 1.0), _LARGEST / max(height, width))
        self._size = (max(round(width * scale / 2), 1) * 2, max(round(height * scale / 2), 1) * 2)
        fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._output = av.open(str(self.path), "w", format="mp4", options=fragments)
        stream = self._output.add_stream(
            "libx264", options={"preset": "veryfast", "crf": "23", "threads": "1", "bf": "0"}
        )
        self._stream = cast(VideoStream, stream)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream.codec_context.gop_size = _KEYFRAMES

    def close(self) -> None:
        """Write what is left; without a frame there is no file."""
        if self._output is not None and self._stream is not None:
            self._output.mux(self._stream.encode(None))
            self._output.close()
            self._output = None


def drawn(picture: Image.Image, guesses: Sequence[Guess], time: str, note: str = "") -> Image.Image:
    """A picture with the best guess and its bar at the bottom, the time at the right, and a note at the top."""
    width, height = picture.size
    letters = max(height // 18, 11)
    font = _font(letters)
    picture = picture.convert("RGB")
    draw = ImageDraw.Draw(picture, "RGBA")
    gap = letters // 2
    top = height - 2 * letters - 2 * gap
    draw.rectangle((0, top, width, height), fill=_DARK)
    time_left = width - gap - draw.textlength(time, font=font)
    draw.text((time_left, top + gap // 2), time, font=font, fill=_LIGHT)
    if guesses:
        best = guesses[0]
        score = f"  {best.score:.0%}"
        name = _shortened(best.name, time_left - 2 * gap - draw.textlength(score, font=font), draw, font)
        draw.text((gap, top + gap // 2), name + score, font=font, fill=_LIGHT)
        bar = top + gap + letters + gap // 2
        right = gap + max(width - 2 * gap, 0) * min(max(best.score, 0.0), 1.0)
        draw.rectangle((gap, bar, max(width - gap, gap), bar + letters // 2), outline=_LIGHT)
        draw.rectangle((gap, bar, right, bar + letters // 2), fill=_BAR)
    if note:
        note = _shortened(note, width - 2 * gap, draw, font)
        draw.rectangle((0, 0, draw.textlength(note, font=font) + 2 * gap, letters + gap), fill=_DARK)
        draw.text((gap, gap // 3), note, font=font, fill=_LIGHT)
    return picture


@lru_cache(maxsize=4)
def _font(letters: int) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib, so that it is the same everywhere."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / _FONT), letters)


def _shortened(text: str, width: float, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    """One line of text that fits."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture in the middle of a canvas, as large as it fits."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = (min(max(round(picture.width * scale), 1), size[0]), min(max(round(picture.height * scale), 1), size[1]))
    if max(abs(inner[0] - size[0]), abs(inner[1] - size[1])) <= 2:
        inner = size  # an odd side of a video that is even
    canvas = Image.new("RGB", size)
    canvas.paste(
        picture.resize(inner, Image.Resampling.BILINEAR), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    )
    return canvas
