"""`kinema bench data`: loaders, decoders, sources of videos and augmentation, side by side."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="where the videos are written; beside the built-in set by default")
    parser.add_argument("--num-videos", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=10, help="length of each video")
    parser.add_argument("--rounds", type=int, default=7, help="each round measures every contender once")
    parser.add_argument(
        "--what",
        nargs="+",
        choices=("loaders", "sources", "augmentation", "preparation", "memory"),
        default=["loaders", "memory"],
        help="loaders and decoders against others'; files against frame folders, frame caches and shards; RandAugment "
        "against torchvision's; prepare and reencode with one worker and with several; memory of a long run",
    )
    parser.add_argument(
        "--gop", type=int, nargs="+", default=[250, 12], metavar="FRAMES", help="of sources: keyframe to keyframe"
    )
    parser.add_argument(
        "--sizes", nargs="+", default=["320x240"], metavar="WIDTHxHEIGHT", help="of sources: pixels of the videos"
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0],
        metavar="N",
        help="of sources: processes that load; of preparation: videos at a time",
    )
    parser.add_argument(
        "--memory-clips", type=int, default=5000, help="clips loaded while memory is watched; 0 for none"
    )
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def bench_data(
    options: argparse.Namespace, results: dict[str, Any], written: Callable[[dict[str, Any], Path | None], int]
) -> int:
    from kinema.data.datasets.motion import default_root

    folder: Path = options.folder or default_root().parent / "bench"
    if "loaders" in options.what:
        _loaders(options, folder, results)
    if "sources" in options.what:
        _sources(options, folder, results)
    if "augmentation" in options.what:
        _augmentation(options, results)
    if "preparation" in options.what:
        _preparation(options, folder, results)
    if "memory" in options.what and options.memory_clips:
        _memory(options, folder, results)
    return written(results, options.json)


def _loaders(options: argparse.Namespace, folder: Path, results: dict[str, Any]) -> None:
    from kinema.benchmarks import throughput
    from kinema.data.sampling import Dense, Segments
    from kinema.data.transforms import TrainTransform

    videos = throughput.prepare_bench_videos(folder, num_videos=options.num_videos, seconds=options.seconds)
    transform = TrainTransform(112, resize=128, crop="random")
    results["videos"] = f"{len(videos)} of {options.seconds} s, 320x240, H.264, GOP 250"
    for name, scheme in {"8 segments": Segments(8), "16 x 4 dense": Dense(16, 4)}.items():
        loaders = {
            "kinema": throughput.kinema_loader(videos, scheme, transform),
            "pytorchvideo": throughput.pytorchvideo_loader(videos, scheme, transform),
        }
        rows = throughput.compare_loaders(loaders, rounds=options.rounds)
        _print_rows(f"{name}: clips per second, relative to pytorchvideo (more is better)", rows)
        decoders = throughput.compare_decoders(videos, scheme, rounds=options.rounds)
        _print_rows(f"{name}: processor time per clip of decoding (less is better)", decoders)
        results[name] = {"loaders": [asdict(row) for row in rows], "decoders": [asdict(row) for row in decoders]}


def _sources(options: argparse.Namespace, folder: Path, results: dict[str, Any]) -> None:
    from kinema.benchmarks.data_sources import compare_sources
    from kinema.benchmarks.throughput import prepare_bench_videos

    results["sources"] = []
    for size in options.sizes:
        width, height = _size(size)
        for gop in options.gop:
            videos = prepare_bench_videos(
                folder,
                num_videos=options.num_videos,
                seconds=options.seconds,
                size=(width, height),
                keyframe_interval=gop,
            )
            for workers in options.workers:
                measured = compare_sources(videos, folder, rounds=options.rounds, num_workers=workers)
                for scheme, rows in measured.items():
                    title = f"{scheme}, {size}, a keyframe every {gop} frames, {workers} workers"
                    _print_rows(f"{title}: clips per second, relative to files (more is better)", rows)
                    setting = {"scheme": scheme, "size": size, "gop": gop, "workers": workers}
                    results["sources"].append(setting | {"rows": [asdict(row) for row in rows]})


def _augmentation(options: argparse.Namespace, results: dict[str, Any]) -> None:
    from kinema.benchmarks.augmentation_speed import compare_rand_augment

    rows = compare_rand_augment(rounds=options.rounds)
    print(
        "RandAugment of a clip of 16 x 224 x 224, two operations at level 9, relative to torchvision's (less is better)"
    )
    for row in rows:
        print(
            f"  {row.name:<24} {row.cpu_ms:8.1f} CPU ms   ratio {row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}]"
        )
    print()
    results["augmentation"] = [asdict(row) for row in rows]


def _preparation(options: argparse.Namespace, folder: Path, results: dict[str, Any]) -> None:
    from kinema.benchmarks.preparation_speed import compare_workers
    from kinema.benchmarks.throughput import prepare_bench_videos

    size = _size(options.sizes[0])
    videos = prepare_bench_videos(folder, num_videos=options.num_videos, seconds=options.seconds, size=size)
    rows = compare_workers(videos, folder, workers=options.workers, rounds=options.rounds)
    print(
        f"videos of {options.seconds} s, {options.sizes[0]}: how many times as fast as with {options.workers[0]} workers"
    )
    for row in rows:
        print(
            f"  {row.name:<22} {row.videos} videos, {row.workers} workers {row.wall_s:8.1f} s   {row.faster:.2f} times "
            f"[{row.faster_low:.2f}, {row.faster_high:.2f}]"
        )
    print()
    results["preparation"] = [asdict(row) for row in rows]


def _memory(options: argparse.Namespace, folder: Path, results: dict[str, Any]) -> None:
    from kinema.benchmarks import throughput
    from kinema.data.sampling import Segments
    from kinema.data.transforms import TrainTransform

    videos = throughput.prepare_bench_videos(folder, num_videos=options.num_videos, seconds=options.seconds)
    loader = throughput.kinema_loader(videos, Segments(8), TrainTransform(112, resize=128, crop="random"))
    memory = throughput.measure_memory(loader, num_clips=options.memory_clips)
    print(f"memory over {memory.clips[-1]} clips: {memory.growth_mib:+.1f} MiB of {memory.resident_mib[-1]:.0f} MiB")
    results["memory"] = asdict(memory)


def _size(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) >= 16 and int(part) % 2 == 0 for part in parts):
        raise ValueError(f"{text!r} is no size of a video; give even width and height from 16 on, such as 320x240")
    return int(parts[0]), int(parts[1])


def _print_rows(title: str, rows: Sequence[Any]) -> None:
    print(title)
    for row in rows:
        print(
            f"  {row.name:<28} {row.clips_per_s:8.1f} clips/s {row.cpu_ms_per_clip:8.1f} CPU ms/clip "
            f"  ratio {row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}]"
        )
    print()
