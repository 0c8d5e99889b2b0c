"""`kinema bench localization`: boundary matching against the dense product, Soft-NMS and evaluation against loops."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_localization(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num-bins", type=int, default=100, help="bins T of a window")
    parser.add_argument("--max-bins", type=int, default=100, help="bins D of the longest proposal")
    parser.add_argument("--channels", type=int, default=256, help="of the features that are sampled")
    parser.add_argument("--outputs", type=int, default=512, help="of the convolution over samples")
    parser.add_argument("--batch-size", type=int, default=1, help="windows")
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--proposals", type=int, default=100, help="of each video")
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--mode", choices=("forward", "forward_backward"), default="forward")
    parser.add_argument("--rounds", type=int, default=3, help="each round measures every contender once")
    parser.add_argument("--device", default="cpu", help="of boundary matching")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", choices=("matching", "loops"), help="one of the two parts")
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def bench_localization(
    options: argparse.Namespace, facts: dict[str, Any], written: Callable[[dict[str, Any], Path | None], int]
) -> int:
    import torch

    from kinema.benchmarks.localization import compare_loops, held_mib, made_videos, matching_forms
    from kinema.evaluation.latency import compare_latency

    results = facts | {"threads": options.threads or torch.get_num_threads()}
    if options.only != "loops":
        torch.manual_seed(0)
        forms = matching_forms(options.num_bins, options.max_bins, options.channels, options.outputs)
        shape = (options.batch_size, options.channels, options.num_bins)
        rows = compare_latency(
            forms,
            shape,
            mode=options.mode,
            rounds=options.rounds,
            warmup=1,
            device=options.device,
            num_threads=options.threads,
            input_gradient=True,
        )
        print(f"boundary matching, {options.mode.replace('_', ' + ')}, features {' x '.join(map(str, shape))}")
        table: list[dict[str, Any]] = []
        for row in rows:
            held = held_mib(forms[row.name])
            table.append(asdict(row) | {"held_mib": held, "memory_mib": held + row.peak_memory_mib})
        base = table[0]
        for row in table:
            row["memory_ratio"] = row["memory_mib"] / base["memory_mib"]
            print(
                f"  {row['name']:<40} {row['median_ms']:9.1f} ms {row['memory_mib']:8.1f} MiB (weights {row['held_mib']:.1f})"
                f"  time {row['ratio']:.3f}, memory {row['memory_ratio']:.3f} of the dense product"
            )
        results["matching"] = {"features": shape, "mode": options.mode, "rows": table}
    if options.only != "matching":
        made = made_videos(options.videos, options.proposals, options.classes)
        loops = compare_loops(made, rounds=options.rounds)
        print(
            f"Soft-NMS and average mAP, {options.videos} videos x {options.proposals} proposals x {options.classes} classes"
        )
        for row in loops:
            print(
                f"  {row.name:<40} {row.median_s:9.3f} s   {row.faster:.1f} times as fast as plain loops, "
                f"average mAP {row.average_map:.6f}"
            )
        sizes = {"videos": options.videos, "proposals": options.proposals, "classes": options.classes}
        results["loops"] = {**sizes, "rows": [asdict(row) for row in loops]}
    return written(results, options.json)
