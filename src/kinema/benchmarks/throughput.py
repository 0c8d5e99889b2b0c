"""How fast clips come out of files: loaders and decoders compared side by side, and the memory of a long run.

Two runs after each other measure the machine's mood as much as the code. Here contenders take turns in one process,
round by round and in alternating order, and only ratios within a round are averaged.
"""

import gc
import os
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from pytorchvideo.data import LabeledVideoDataset
from pytorchvideo.data.clip_sampling import make_clip_sampler
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from kinema.data.clips import ClipDataset, TrainClips, collate
from kinema.data.decoding import index_cache, open_video
from kinema.data.decoding.torchcodec_reader import load_torchcodec
from kinema.data.manifest import Manifest, VideoRecord
from kinema.data.progress import progress_bar
from kinema.data.sampling import Dense, FrameScheme, Segments
from kinema.data.transforms import TrainTransform

FRAMES_PER_SECOND = 30
SCHEMES: dict[str, FrameScheme] = {"8 segments": Segments(8), "16 x 4": Dense(16, 4)}

Loader = Callable[[], Iterable[Any]]
"""Starts one pass over some clips; called anew in every round."""


@dataclass(frozen=True)
class ThroughputRow:
    """What was measured of one contender.

    Args:
        name: Of the contender.
        clips_per_s: Median over the rounds, by the clock on the wall.
        cpu_ms_per_clip: Median over the rounds of the processor time of this process and of workers that have ended.
        ratio: Median over the rounds of its clips per second (loaders) or of its processor time per clip (decoders)
            relative to the baseline's in the same round.
        ratio_low: First quartile of these ratios.
        ratio_high: Third quartile.
    """

    name: str
    clips_per_s: float
    cpu_ms_per_clip: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class MemoryRow:
    """Resident memory over a long run.

    Args:
        clips: Clips loaded at each reading.
        resident_mib: Memory of this process and its workers at each reading.
        growth_mib: Last reading minus the one after the first fifth, by when caches are full.
    """

    clips: tuple[int, ...]
    resident_mib: tuple[float, ...]
    growth_mib: float


def prepare_bench_videos(
    folder: Path,
    *,
    num_videos: int = 8,
    seconds: int = 10,
    size: tuple[int, int] = (320, 240),
    keyframe_interval: int = 250,
    progress: bool = True,
) -> list[Path]:
    """Write the videos that are measured, or find those of an earlier call: moving textures under noise, H.264 in MP4.

    Args:
        folder: Where to keep them.
        num_videos: How many.
        seconds: Length of each, at 30 frames per second.
        size: Width and height, even.
        keyframe_interval: Frames from keyframe to keyframe; 250 is x264's default, like everything else here.
        progress: Show a bar with the time left on stderr while they are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{size[0]}x{size[1]}_{seconds}s_gop{keyframe_interval}"
    paths = [folder / f"{stem}_{number}.mp4" for number in range(num_videos)]
    absent = [number for number, path in enumerate(paths) if not path.exists()]
    with progress_bar(progress and bool(absent)) as bar:
        for number in bar.track(absent, description="writing videos to measure"):
            unfinished = paths[number].with_suffix(f".{os.getpid()}.part")
            _write_bench_video(unfinished, number, seconds * FRAMES_PER_SECOND, size, keyframe_interval)
            unfinished.replace(paths[number])
    return paths


def _write_bench_video(path: Path, seed: int, num_frames: int, size: tuple[int, int], keyframe_interval: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = size
    side = min(width, height) // 5
    texture = np.zeros((height, width, 3), dtype=np.int16)
    for cell in (32, 8):
        grid = rng.integers(15, 113, (height // cell + 1, width // cell + 1, 3))
        texture += np.kron(grid, np.ones((cell, cell, 1), dtype=np.int64))[:height, :width].astype(np.int16)
    things = [np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((8, 8, 1)))[:side, :side] for _ in range(4)]
    starts, steps = rng.uniform(0, 1, (4, 2)), rng.uniform(-4, 4, (4, 2))
    noise = rng.normal(0, 3, (height + 16, width + 16, 3)).astype(np.int16)
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"g": str(keyframe_interval), "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(num_frames):
            picture = np.roll(texture, number, axis=1)
            for thing, start, step in zip(things, starts, steps, strict=True):
                y, x = ((start * size[::-1] + step * number) % (height - side, width - side)).astype(int)
                picture[y : y + thing.shape[0], x : x + thing.shape[1]] = thing
            dy, dx = rng.integers(0, 16, 2)
            picture += noise[dy : dy + height, dx : dx + width]
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def kinema_loader(
    videos: Sequence[Path], scheme: FrameScheme, transform: TrainTransform, *, batch_size: int = 8, num_workers: int = 0
) -> Loader:
    """Our loader of random training clips, one of each video a pass."""
    manifest = Manifest([VideoRecord(str(path), 0) for path in videos], ["clip"])
    dataset = ClipDataset(
        manifest, Path(os.path.commonpath([path.parent for path in videos])), TrainClips(scheme, transform)
    )
    passes = count()

    def start() -> DataLoader:
        epoch = next(passes)
        keys = [(epoch, index) for index in range(len(videos))]
        return DataLoader(dataset, batch_size=batch_size, sampler=keys, num_workers=num_workers, collate_fn=collate)

    return start


def pytorchvideo_loader(
    videos: Sequence[Path], scheme: FrameScheme, transform: TrainTransform, *, batch_size: int = 8, num_workers: int = 0
) -> Loader:
    """pytorchvideo's LabeledVideoDataset with its PyAV decoder, the same choice of frames and the same transforms.

    It decodes the whole clip to float32 before anything can be chosen from it, so for segments the clip is the video.
    """

    rng = random.Random(0)

    def cut(sample: dict[str, Any]) -> Tensor:
        clip = sample["video"]
        indices = scheme.indices(0, clip.shape[1], clip.shape[1], None, rng)
        return transform(clip[:, indices].to(torch.uint8).transpose(0, 1), 0)[0].transpose(0, 1).contiguous()

    def start() -> DataLoader:
        with open_video(videos[0]) as first:
            window = Fraction(scheme.window_frames(first.num_frames)) / first.fps
        dataset = LabeledVideoDataset(
            [(str(path), {"label": 0}) for path in videos],
            make_clip_sampler("random", window),
            video_sampler=SequentialSampler,
            transform=cut,
            decode_audio=False,
            decoder="pyav",
        )
        return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)

    return start


def compare_loaders(
    loaders: Mapping[str, Loader], *, rounds: int = 7, baseline: str | None = None
) -> list[ThroughputRow]:
    """Time whole passes of several loaders in turn; ratios are of clips per second, so more is better.

    Args:
        loaders: Name to loader. Batches are tensors or mappings with a tensor `clip`, whose first axis counts clips.
        rounds: Passes of each that count; one before them does not.
        baseline: Name of the loader that ratios are relative to; the last one by default.
    """

    def one_pass(loader: Loader) -> tuple[float, float]:
        return _time(lambda: sum(_count_clips(batch) for batch in loader()))

    return _compare(loaders, one_pass, rounds, baseline, by_clock=True)


def compare_decoders(
    videos: Sequence[Path], scheme: FrameScheme, *, rounds: int = 15, baseline: str | None = None
) -> list[ThroughputRow]:
    """Time decoders on the same random clips, a fresh opening for each; ratios are of processor time, so less is better.

    Ours is measured twice: on the first visit to a file, and on later ones, when its timestamp index is remembered.
    torchcodec is measured where it can be loaded. One thread each.

    Args:
        videos: Files; each round takes one clip of each.
        scheme: Which frames.
        rounds: Rounds that count; one before them does not.
        baseline: Name of a row; torchcodec's if there is one, else the first.
    """

    def ours(path: Path, indices: list[int]) -> Tensor:
        with open_video(path, "pyav") as video:
            return video.decode(indices)

    def ours_first(path: Path, indices: list[int]) -> Tensor:
        index_cache.forget_all()
        return ours(path, indices)

    decoders: dict[str, Callable[[Path, list[int]], Tensor]] = {"kinema, first visit": ours_first, "kinema": ours}
    try:
        decoder_class = load_torchcodec()
    except ImportError:
        pass
    else:
        decoders["torchcodec"] = lambda path, indices: (
            decoder_class(str(path), seek_mode="exact", num_ffmpeg_threads=1).get_frames_at(indices).data
        )
    lengths = []
    for path in videos:
        with open_video(path) as video:
            lengths.append(video.num_frames)
    draws = {name: random.Random(0) for name in decoders}  # the same draws for each, whatever the order of turns

    def one_round(name: str) -> tuple[float, float]:
        wanted = [_draw(scheme, length, draws[name]) for length in lengths]
        # A pass of "kinema" finds remembered what a pass of "first visit" may have forgotten.
        if name == "kinema":
            for path in videos:
                open_video(path).close()

        def decode_all() -> int:
            for path, indices in zip(videos, wanted, strict=True):
                decoders[name](path, indices)
            return len(videos)

        return _time(decode_all)

    baseline = baseline or ("torchcodec" if "torchcodec" in decoders else None)
    return _compare(
        {name: name for name in decoders}, one_round, rounds, baseline or next(iter(decoders)), by_clock=False
    )


def measure_memory(loader: Loader, *, num_clips: int = 5000, readings: int = 10) -> MemoryRow:
    """Load many clips and read the resident memory of this process and its children on the way (Linux).

    Args:
        loader: Started again whenever it ends.
        num_clips: When to stop.
        readings: How often to read.
    """
    clips, resident, loaded = [], [], 0
    while loaded < num_clips:
        for batch in loader():
            loaded += _count_clips(batch)
            if loaded >= num_clips * (len(clips) + 1) / readings:
                clips.append(loaded)
                resident.append(_resident_mib())
            if loaded >= num_clips:
                break
    return MemoryRow(tuple(clips), tuple(resident), resident[-1] - resident[len(resident) // 5])


def _compare(
    contenders: Mapping[str, Any],
    measure: Callable[[Any], tuple[float, float]],
    rounds: int,
    baseline: str | None,
    *,
    by_clock: bool,
) -> list[ThroughputRow]:
    names = list(contenders)
    baseline = baseline or names[-1]
    if baseline not in contenders:
        raise ValueError(f"baseline='{baseline}' is not among the contenders {names}; name one of them")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            seconds[name].append(measure(contenders[name]))
    rows = []
    for name in names:
        counted, reference = seconds[name][1:], seconds[baseline][1:]
        ratios = [
            base[0] / own[0] if by_clock else own[1] / base[1] for own, base in zip(counted, reference, strict=True)
        ]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        wall, cpu = (statistics.median(column) for column in zip(*counted, strict=True))
        rows.append(ThroughputRow(name, 1 / wall, 1000 * cpu, middle, low, high))
    return rows


def _time(load: Callable[[], int]) -> tuple[float, float]:
    """Seconds per clip by the clock and of processor time; `load` returns how many clips it loaded."""
    gc.collect()
    wall, cpu = time.perf_counter(), _processor_seconds()
    count = load()
    if not count:
        raise ValueError("a loader gave no clip; give every loader at least one video that can be decoded")
    return (time.perf_counter() - wall) / count, (_processor_seconds() - cpu) / count


def _processor_seconds() -> float:
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + workers.ru_utime + workers.ru_stime


def _draw(scheme: FrameScheme, num_frames: int, rng: random.Random) -> list[int]:
    window = scheme.window_frames(num_frames)
    return scheme.indices(rng.randrange(max(1, num_frames - window + 1)), window, num_frames, None, rng)


def _count_clips(batch: Any) -> int:
    return len(batch["clip"] if isinstance(batch, Mapping) else batch)


def _resident_mib() -> float:
    """Resident memory of this process and its children, in MiB; pages that they share count for each."""
    own = os.getpid()
    pages = 0
    for process in (own, *Path(f"/proc/{own}/task/{own}/children").read_text().split()):
        with suppress(FileNotFoundError):  # a worker may end meanwhile
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
