"""What it saves to decode and transform each frame of a video once, where its clips overlap."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kinema.benchmarks.throughput import Loader, ThroughputRow, compare_loaders
from kinema.data.decoding import open_video
from kinema.data.transforms import EvalTransform
from kinema.data.untrimmed.clip_grid import ClipGrid, clips_on

ONCE, CLIP_BY_CLIP = "each frame once", "clip by clip"


def measure_extraction(
    videos: Sequence[Path], grid: ClipGrid, transform: EvalTransform, *, rounds: int = 5
) -> list[ThroughputRow]:
    """Time all clips of some videos in two ways; ratios are of clips per second, so more is better.

    Clip by clip, every clip is decoded from the keyframe before it and transformed by itself, by the same reader, which opens
    a video once and knows its index.

    Args:
        videos: Video files.
        grid: Where clips lie.
        transform: What happens to their frames.
        rounds: Passes of each that count; one before them does not.

    Raises:
        RuntimeError: If the two do not give the same clips.
    """
    for path in videos:
        _check_same(path, grid, transform)
    loaders: Mapping[str, Loader] = {
        ONCE: lambda: (clip for path in videos for clip in _once(path, grid, transform)),
        CLIP_BY_CLIP: lambda: (clip for path in videos for clip in _clip_by_clip(path, grid, transform)),
    }
    return compare_loaders(loaders, rounds=rounds, baseline=CLIP_BY_CLIP)


def _once(path: Path, grid: ClipGrid, transform: EvalTransform) -> Iterator[Tensor]:
    with open_video(path) as video:
        for clip in clips_on(video, grid.over(video), transform):
            yield clip[:1]  # crops of one clip are not several clips


def _clip_by_clip(path: Path, grid: ClipGrid, transform: EvalTransform) -> Iterator[Tensor]:
    with open_video(path) as video:
        for numbers in grid.over(video).frames.tolist():
            yield torch.stack(transform(video.decode(numbers))).transpose(1, 2).contiguous()[:1]


def _check_same(path: Path, grid: ClipGrid, transform: EvalTransform) -> None:
    pairs = zip(_once(path, grid, transform), _clip_by_clip(path, grid, transform), strict=True)
    for number, (once, alone) in enumerate(pairs):
        if not torch.equal(once, alone):
            raise RuntimeError(f"clip {number} of {path.name} differs between the two ways, so their times say nothing")
