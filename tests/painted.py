"""Small videos that carry the number of every frame in its picture, so that a wrong frame is noticed."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

BITS, BLOCK = 10, 16  # two rows of five blocks: white for 1, black for 0
WIDTH, HEIGHT = 96, 64


def paint(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw frame `number`: its bits top left, a red corner bottom right, a moving texture elsewhere."""
    rng = np.random.default_rng(7)
    texture = np.kron(rng.integers(40, 216, (height // 4 + 1, width // 4 + 1, 3)), np.ones((4, 4, 1)))[:height, :width]
    picture = np.roll(texture, 2 * number, axis=1).astype(np.uint8)
    picture[-12:, -12:] = (230, 20, 20)
    for bit in range(BITS):
        row, column = divmod(bit, BITS // 2)
        area = slice(row * BLOCK, (row + 1) * BLOCK), slice(column * BLOCK, (column + 1) * BLOCK)
        picture[area] = 255 * (number >> bit & 1)
    return picture


def numbers_in(frames: Tensor) -> list[int]:
    """Read the numbers back from (T, C, H, W) frames."""
    grey = frames.float().mean(1)
    return [
        sum(
            int(frame[row * BLOCK + 4 : row * BLOCK + 12, column * BLOCK + 4 : column * BLOCK + 12].mean() > 128) << bit
            for bit, (row, column) in enumerate(divmod(bit, BITS // 2) for bit in range(BITS))
        )
        for frame in grey
    ]


def write_video(
    path: Path,
    num_frames: int = 40,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixel_format: str = "yuv420p",
    rate: int = 25,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int | None = None,
    mirrored: bool = False,
    audio: bool = False,
    shift: int = 0,
) -> Path:
    """Encode painted frames.

    Args:
        times: Display time of each frame in ticks of `time_base`; equal steps by default.
        rotation: Display matrix, degrees counter-clockwise.
        mirrored: Whether the display matrix mirrors left and right.
        audio: Add a soundtrack.
        shift: Ticks of the codec's time base added to every packet's times; below 0 an MP4 hides what comes before 0.
    """
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        video = output.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = *size, pixel_format
        video.codec_context.thread_count = 1  # the same bytes every time
        if time_base is not None:
            video.codec_context.time_base = time_base
        if rotation is not None or mirrored:
            video.set_display_rotation(rotation or 0, hflip=mirrored)
        sound = output.add_stream("aac", rate=16_000, layout="mono") if audio else None

        def mux(packets: list[av.Packet]) -> None:
            for packet in packets:
                packet.pts += shift
                packet.dts += shift
                output.mux(packet)

        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(paint(number, *size), format="rgb24")
            if times is not None:
                frame.pts = times[number]
                frame.time_base = time_base
            mux(video.encode(frame))
        mux(video.encode(None))
        if sound is not None:
            for block in range(num_frames):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 16_000, block * 1024
                output.mux(sound.encode(silence))
            output.mux(sound.encode(None))
    return path


def write_sound(path: Path, container: str | None = None) -> Path:
    """Write a file with a soundtrack and no picture."""
    with av.open(str(path), "w", format=container) as output:
        sound = output.add_stream("aac", rate=16_000, layout="mono")
        for block in range(8):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16_000, block * 1024
            output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
    return path


def decode_everything(path: Path) -> dict[int | None, np.ndarray]:
    """Decode a whole video the plain way, by display time in ticks: what readers must agree with to the bit."""
    with av.open(str(path)) as container:
        return {
            frame.pts: frame.to_ndarray(format="rgb24", interpolation="BICUBIC") for frame in container.decode(video=0)
        }
