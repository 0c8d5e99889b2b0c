"""`kinema bench model | data`: measure side by side, in one run, and print ratios."""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kinema.cli.profile import network_options


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_model(commands.add_parser("model", help="time of networks; the first named is the baseline"))
    options = parser.parse_args(arguments[1:])
    try:
        return _model(options)
    except (ValueError, TypeError, RuntimeError) as error:
        print(f"kinema: {error}", file=sys.stderr)
        return 1


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="NAME[:OPTION=VALUE,...]",
        help="such as tsn_r50 tsm_r50 tsm_r50:shift_fraction=0.5",
    )
    parser.add_argument("--mode", choices=("forward", "forward_backward", "both"), default="both")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="side of the square frames, in pixels")
    parser.add_argument("--num-classes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=10, help="each round times every network once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as 'kinema fit' does on a CPU")
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def _model(options: argparse.Namespace) -> int:
    import torch

    from kinema import create_model
    from kinema.evaluation.latency import compare_latency, latency_table
    from kinema.training.memory import keep_freed_memory
    from kinema.training.record import source_state

    if options.keep_memory:
        keep_freed_memory()
    networks = {}
    for name in options.models:
        model, _, pairs = name.partition(":")
        torch.manual_seed(0)
        networks[name] = create_model(
            model,
            options.num_classes,
            options.num_frames,
            **network_options([pair for pair in pairs.split(",") if pair]),
        )
    shape = (options.batch_size, 3, options.num_frames, options.size, options.size)
    commit, changes = source_state()
    results: dict[str, Any] = {
        "command": ["kinema", "bench", *sys.argv[2:]],
        "commit": commit,
        "uncommitted_changes": bool(changes),
        "machine": torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor() or "cpu",
        "threads": options.threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "clip_shape": shape,
    }
    modes = ("forward", "forward_backward") if options.mode == "both" else (options.mode,)
    for mode in modes:
        rows = compare_latency(
            networks,
            shape,
            mode=mode,
            rounds=options.rounds,
            baseline=options.models[0],
            device=options.device,
            dtype=getattr(torch, options.dtype),
            channels_last=options.channels_last,
            compile=options.compile,
            num_threads=options.threads,
        )
        print(
            f"{mode.replace('_', ' + ')}, clip {' x '.join(map(str, shape))}, {options.dtype}, {options.rounds} rounds"
        )
        print(latency_table(rows), end="\n\n")
        results[mode] = [asdict(row) for row in rows]
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0
