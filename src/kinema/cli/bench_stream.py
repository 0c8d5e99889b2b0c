"""`kinema bench stream`: what one more frame costs a causal network, and whether that lasts."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinema.cli.profile import network_options, split_options

_SETS = (
    ("tsn_mobilenetv2", "tsm_mobilenetv2:causal=true"),
    ("tada2d_r50:routing=none,aggregation=none", "tada2d_r50:causal=true"),
)


def add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="NAME[:OPTION=VALUE,...]",
        help="a frame-wise network, then causal ones that are compared with it; when none is named, "
        + " and ".join(f"{causal} with {baseline}" for baseline, causal in _SETS),
    )
    parser.add_argument("--window", type=int, default=8, help="frames computed anew for each frame without a step")
    parser.add_argument(
        "--frames", type=int, default=10_000, help="of a long stream of the first causal network; 0: none"
    )
    parser.add_argument("--frames-a-round", type=int, default=4, help="frames timed at once")
    parser.add_argument("--rounds", type=int, default=15, help="each round times every contender once")
    parser.add_argument("--size", type=int, default=224, help="side of the square frames, in pixels")
    parser.add_argument("--num-classes", type=int, default=400)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as 'kinema fit' does on a CPU")
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def bench_stream(
    options: argparse.Namespace, results: dict[str, Any], written: Callable[[dict[str, Any], Path | None], int]
) -> int:
    import torch

    from kinema.benchmarks.stream_speed import as_results, compare_steps, stream_table, stream_title, sustain
    from kinema.training.memory import keep_freed_memory

    if len(options.models) == 1:
        raise ValueError(
            f"{options.models[0]} alone is compared with nothing; name a frame-wise network in front of it"
        )
    if options.keep_memory:
        keep_freed_memory()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    first, *others = options.models or [None]
    pairs = [(first, causal) for causal in others] or list(_SETS)
    results |= {"threads": torch.get_num_threads(), "size": options.size}
    results |= {"channels_last": options.channels_last, "keep_memory": options.keep_memory}
    rows, sustained = [], []
    for baseline, causal in pairs:
        rows.append(
            compare_steps(
                (baseline, _network(baseline, options)),
                (causal, _network(causal, options)),
                window=options.window,
                frames=options.frames_a_round,
                size=options.size,
                rounds=options.rounds,
            )
        )
    if options.frames:
        causal = pairs[0][1]
        sustained.append(sustain(causal, _network(causal, options), frames=options.frames, size=options.size))
    print(stream_table(rows, sustained, stream_title(results)))
    return written(results | as_results(rows, sustained), options.json)


def _network(text: str, options: argparse.Namespace) -> Any:
    import torch

    from kinema import create_model
    from kinema.memory_format import to_channels_last

    name, _, rest = text.partition(":")
    torch.manual_seed(0)
    others: dict[str, Any] = network_options(split_options(rest))
    network = create_model(name, options.num_classes, **others).eval()
    if options.channels_last:
        to_channels_last(network)
    return network
