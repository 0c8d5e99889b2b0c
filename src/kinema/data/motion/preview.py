"""A contact sheet of the motion set: one row a class, eight frames from left to right."""

import csv
import io
from pathlib import Path

import av
import numpy as np

from kinema.data.motion.scenes import MOTION_CLASSES

NUM_FRAMES = 8


def preview(folder: str | Path, path_png: str | Path) -> Path:
    """Draw the first validation pair of every two classes as a PNG and return its path.

    The rows of a pair show the same frames, one from the left and one from the right: those at the centres of eight
    segments, which is what a network sees.

    Args:
        folder: What `prepare_motion` returned, of at least 12 validation clips.
        path_png: Where the picture goes.

    Raises:
        ValueError: If a class has no validation clip.
    """
    from matplotlib.figure import Figure  # slow to import, and no other part of the set needs pictures
    from PIL import Image

    folder, path_png = Path(folder), Path(path_png)
    with (folder / "val.csv").open(newline="") as file:
        paths = {row["label"]: row["path"] for row in reversed(list(csv.DictReader(file)))}
    if absent := [name for name in MOTION_CLASSES if name not in paths]:
        raise ValueError(f"{folder} has no validation clip of {absent}; prepare a set with num_val of at least 12")

    figure = Figure(figsize=(8.6, 8.4), dpi=100)
    axes = figure.subplots(len(MOTION_CLASSES), 1, gridspec_kw={"hspace": 0.06})
    for axis, name in zip(axes, MOTION_CLASSES, strict=True):
        strip = [
            np.pad(frame, ((0, 0), (0, 2), (0, 0)), constant_values=255) for frame in _frames(folder / paths[name])
        ]
        axis.imshow(np.concatenate(strip, axis=1))
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    Image.open(picture).quantize(64).save(
        path_png, optimize=True
    )  # noise in full colour would take three times the room
    return path_png


def _frames(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    tick = len(frames) / NUM_FRAMES
    return [frames[int(tick / 2 + i * tick)] for i in range(NUM_FRAMES)]
