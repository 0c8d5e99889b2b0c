"""Clips per second by where the frames come from: video files, folders of pictures, decoded frames, shards."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from kinema.benchmarks.throughput import SCHEMES, Loader, ThroughputRow, compare_loaders
from kinema.data.clips import ClipDataset, TrainClips, collate
from kinema.data.decoding import open_video
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.frame_cache import FrameSource, OpenedVideo, prepare_frame_cache
from kinema.data.manifest import Manifest, VideoRecord
from kinema.data.shards.source import ShardedVideos
from kinema.data.shards.write import shard_videos
from kinema.data.transforms import TrainTransform

_SIDE, _SHORT = 112, 128  # of the clips, and of the frames that they are cut from
_QUALITY = 90  # of the pictures
_PASSES = 4  # over all videos in a round, so that starting processes weighs little


def compare_sources(
    videos: Sequence[Path], folder: Path, *, rounds: int = 7, num_workers: int = 0, batch_size: int = 8
) -> dict[str, list[ThroughputRow]]:
    """Time the same clips out of each source in turns; ratios are of clips per second relative to files, so more is better.

    Sources are `files`; `shards` of the same bytes; `shards through litdata`, whose own reader gives each video's bytes;
    `pictures`, a JPEG file of quality 90 for every frame; and `frame cache`, frames resized and kept as they are. What is not
    there yet is written first. All is warm: read from memory, not from a disk or a network.

    Args:
        videos: Of one size and keyframe interval.
        folder: Where the other sources are written.
        rounds: Rounds that count; one before them does not.
        num_workers: Processes that load.
        batch_size: Clips of a batch.

    Returns:
        Rows by sampling scheme.
    """
    sources = _sources(videos, folder)
    transform = TrainTransform(_SIDE, resize=_SHORT, crop="random")
    measured = {}
    for name, scheme in SCHEMES.items():
        loaders = {
            source: _loader(paths, TrainClips(scheme, transform, cache=cache), num_workers, batch_size)
            for source, (paths, cache) in sources.items()
        }
        measured[name] = compare_loaders(loaders, rounds=rounds, baseline="files")
    return measured


def _sources(videos: Sequence[Path], folder: Path) -> dict[str, tuple[list[Path], FrameSource | None]]:
    stem = videos[0].stem.rpartition("_")[0] + f"_of{len(videos)}"
    shards = _shards(videos, folder / f"{stem}_shards")
    pictures = [_pictures(video, folder / f"{video.stem}_pictures") for video in videos]
    cache = prepare_frame_cache(folder / "frames", videos, _SHORT, num_workers=0, progress=False)
    inside = [shards.folder / video.name for video in videos]
    return {
        "files": (list(videos), None),
        "shards": (inside, shards),
        "shards through litdata": (inside, _ThroughLitdata(shards)),
        "pictures": (pictures, FrameFolders("{:05d}.jpg")),
        "frame cache": (list(videos), cache),
    }


def _shards(videos: Sequence[Path], folder: Path) -> ShardedVideos:
    listed = folder.with_suffix(".csv")
    listed.write_text("path,label\n" + "".join(f"{video.name},clip\n" for video in videos), encoding="utf-8")
    try:
        shard_videos([listed], videos[0].parent, str(folder), chunk_mib=1, progress=False)
    except ValueError:  # of other videos of these names
        shutil.rmtree(folder)
        shard_videos([listed], videos[0].parent, str(folder), chunk_mib=1, progress=False)
    return ShardedVideos(str(folder))


def _pictures(video: Path, folder: Path) -> Path:
    if folder.is_dir():
        return folder
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with open_video(video) as opened:
        frames = chain.from_iterable(opened.decode_on(range(opened.num_frames)))
        for number, frame in enumerate(frames, start=1):
            picture = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
            Image.fromarray(picture).save(unfinished / f"{number:05d}.jpg", quality=_QUALITY)
    unfinished.replace(folder)
    return folder


class _ThroughLitdata:
    """The same shards, read by litdata's own random access, as `dataset[i]` of its StreamingDataset."""

    def __init__(self, shards: ShardedVideos) -> None:
        self._folder = shards.folder
        self._places = {shards.folder / path: place for place, path in enumerate(shards.index.places)}
        self._dataset: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def open(self, path: Path) -> AbstractContextManager[OpenedVideo]:
        if self._dataset is None:
            import litdata

            self._dataset = litdata.StreamingDataset(str(self._folder))
        return open_video(bytes(self._dataset[self._places[path]]["content"]))


def _loader(paths: Sequence[Path], cut: TrainClips, num_workers: int, batch_size: int) -> Loader:
    manifest = Manifest([VideoRecord(str(path), 0) for path in paths], ["clip"])
    dataset = ClipDataset(manifest, paths[0].parent, cut, on_error="raise")
    start: Callable[[int], Iterable[Any]] = partial(_pass, dataset, len(paths), num_workers, batch_size)
    passes = count()
    return lambda: start(next(passes))


def _pass(dataset: ClipDataset, videos: int, num_workers: int, batch_size: int, number: int) -> DataLoader:
    keys: Any = [(_PASSES * number + epoch, index) for epoch in range(_PASSES) for index in range(videos)]
    return DataLoader(dataset, batch_size=batch_size, sampler=keys, num_workers=num_workers, collate_fn=collate)
