"""`kinema bench features`: clips that slide over a video, each frame decoded once, against clip by clip."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="where the videos are written; beside the built-in set by default")
    parser.add_argument("--seconds", type=int, default=10, help="length of the videos")
    parser.add_argument("--keyframes", type=int, nargs="+", default=[250, 12], help="frames from keyframe to keyframe")
    parser.add_argument("--clip-frames", type=int, default=64)
    parser.add_argument("--frame-interval", type=int, default=1)
    parser.add_argument("--stride", type=int, default=8, help="frames from one clip to the next")
    parser.add_argument("--size", type=int, default=224, help="side of the square frames, in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="each round measures both ways once")
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def bench_features(
    options: argparse.Namespace, results: dict[str, Any], written: Callable[[dict[str, Any], Path | None], int]
) -> int:
    from kinema.benchmarks.extraction_speed import measure_extraction
    from kinema.benchmarks.throughput import prepare_bench_videos
    from kinema.data.datasets.motion import default_root
    from kinema.data.transforms import EvalTransform
    from kinema.data.untrimmed.clip_grid import ClipGrid

    folder = options.folder or default_root().parent / "bench"
    grid = ClipGrid(options.clip_frames, options.frame_interval, options.stride)
    results |= {"grid": asdict(grid), "size": options.size}
    print(f"clips of {grid.clip_frames} frames every {grid.stride}, decoded and resized to {options.size}")
    for interval in options.keyframes:
        videos = prepare_bench_videos(folder, num_videos=1, seconds=options.seconds, keyframe_interval=interval)
        rows = measure_extraction(videos, grid, EvalTransform(options.size), rounds=options.rounds)
        name = f"{options.seconds} s of 320 x 240, a keyframe every {interval} frames"
        print(name)
        for row in rows:
            print(
                f"  {row.name:<16} {row.clips_per_s:8.1f} clips/s {row.cpu_ms_per_clip:8.1f} CPU ms/clip "
                f"  ratio {row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}]"
            )
        results[name] = {"ways": [asdict(row) for row in rows]}
    return written(results, options.json)
