"""`kinema bench model | layers | growth | data | localization | sweep | ...`: measure side by side, and print ratios."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from kinema.cli.bench_data import add_data, bench_data
from kinema.cli.bench_export import add_export, bench_export
from kinema.cli.bench_features import add_features, bench_features
from kinema.cli.bench_localization import add_localization, bench_localization
from kinema.cli.bench_stream import add_stream, bench_stream
from kinema.cli.messages import say
from kinema.cli.profile import network_options, split_options
from kinema.training.record import processor_name

_LAYERS = {
    "calibrated": ["64x56", "128x28", "256x14", "512x7"],
    "operators": ["64x56", "128x28", "256x14", "512x7"],
    "depthwise": ["64x56x5", "64x56x3", "128x28x5", "128x28x3", "320x14x3", "512x7x3"],
}


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_model(commands.add_parser("model", help="time of networks; the first named is the baseline"))
    _add_layers(commands.add_parser("layers", help="single layers against the form that other code gives them"))
    _add_growth(commands.add_parser("growth", help="time and memory of networks over the frames of a clip"))
    add_stream(
        commands.add_parser("stream", help="a frame of a stream against a frame-wise network and a whole window")
    )
    add_data(commands.add_parser("data", help="clips per second: against other loaders, by source; RandAugment"))
    add_features(commands.add_parser("features", help="sliding over a video against decoding it clip by clip"))
    _add_sweep(commands.add_parser("sweep", help="what a sweep costs beside its runs, and what a second worker brings"))
    add_export(commands.add_parser("export", help="networks as files: parity with the network, and speed beside it"))
    add_localization(
        commands.add_parser("localization", help="boundary matching, and Soft-NMS with evaluation, against loops")
    )
    options, extra = parser.parse_known_args(arguments[1:])
    if extra and options.command != "sweep":
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    measure = {
        "model": _model,
        "layers": _layers,
        "growth": _growth,
        "stream": lambda options: bench_stream(options, _facts(), _written),
        "data": lambda options: bench_data(options, _facts(), _written),
        "features": lambda options: bench_features(options, _facts(), _written),
        "localization": lambda options: bench_localization(options, _facts(), _written),
        "sweep": partial(_sweep, extra=extra),
        "export": lambda options: bench_export(options, _facts(), _written),
    }
    try:
        return measure[options.command](options)
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        say(error)
        return 1


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="NAME[@FRAMES][:OPTION=VALUE,...]",
        help="such as tsn_r50 tsm_r50 tsm_r50:shift_fraction=0.5 tada2d_r50:routing=none,aggregation=none (its plain form)",
    )
    parser.add_argument(
        "--grouped",
        action="store_true",
        help="also time each calibrated network with a kernel per frame, as 'NAME grouped'",
    )
    parser.add_argument(
        "--explicit-attention",
        action="store_true",
        help="also time each transformer with all attention scores formed in memory, as 'NAME explicit'",
    )
    _add_measuring(parser)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="side of the square frames, in pixels")
    parser.add_argument("--num-classes", type=int, default=400)
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as 'kinema fit' does on a CPU")


def _add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sizes",
        nargs="*",
        metavar="CHANNELSxSIDE[xKERNEL]",
        help="such as 256x14; those of TAda2D-R50 or UniFormer-S by default",
    )
    parser.add_argument(
        "--kind",
        choices=tuple(_LAYERS),
        default="calibrated",
        help="calibrated 3 x 3 convolutions and the authors' grouped form, a 3 x 3 convolution with every operator over "
        "time, or depthwise 3-D ones and PyTorch's forms",
    )
    _add_measuring(parser)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=2)


def _add_growth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="NAME[:OPTION=VALUE,...]", help="as for model")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 32, 64, 96], metavar="T")
    parser.add_argument("--size", type=int, default=224, help="side of the square frames, in pixels")
    parser.add_argument("--warmup", type=int, default=1, help="calls of each before those that are timed")
    parser.add_argument("--memory", type=float, metavar="GIB", help="what one network may take; most of what is free")
    _add_measuring(parser)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=("forward", "forward_backward", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=10, help="each round times every contender once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compute the first runs of a sweep with one worker and with two, in turns and behind a run that does not count: "
        "seconds that the sweep takes beside training, and what the second worker brings. Nothing is recorded."
    )
    parser.add_argument("file", type=Path, help="a sweep; options such as --trainer.max_epochs=2 go to all its runs")
    parser.add_argument(
        "--runs", type=int, default=4, help="its first variants, one run each; %(default)s when not given"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        help="each runs all of them with one worker and with two; %(default)s when not given",
    )
    parser.add_argument(
        "--root", type=Path, default=Path("runs/bench"), help="folder of the runs while they are needed"
    )
    parser.add_argument("--json", type=Path, help="also write the rows, commit and machine to this file")


def _model(options: argparse.Namespace) -> int:
    import torch

    from kinema import create_model
    from kinema.benchmarks.explicit_attention import has_attention, with_explicit_attention
    from kinema.benchmarks.grouped_form import has_grouped_form, in_grouped_form
    from kinema.evaluation.latency import compare_latency, latency_table
    from kinema.training.memory import keep_freed_memory

    if options.keep_memory:
        keep_freed_memory()
    networks = {}
    shape = (options.batch_size, 3, options.num_frames, options.size, options.size)
    shapes: dict[str, Sequence[int]] = {}
    for name in options.models:
        model, others = _network(name)
        model, frames = _frames(model, options.num_frames)
        torch.manual_seed(0)
        networks[name] = create_model(model, options.num_classes, frames, **others)
        if options.grouped and has_grouped_form(networks[name]):
            networks[f"{name} grouped"] = in_grouped_form(networks[name])
        if options.explicit_attention and has_attention(networks[name]):
            networks[f"{name} explicit"] = with_explicit_attention(networks[name])
        shapes |= {each: (*shape[:2], frames, *shape[3:]) for each in networks if each not in shapes}
    results = _facts() | {"threads": options.threads or torch.get_num_threads(), "clip_shape": shape}
    results |= {"compile": options.compile, "dtype": options.dtype, "channels_last": options.channels_last}
    results["keep_memory"] = options.keep_memory
    for mode in _modes(options):
        rows = compare_latency(
            networks, shapes, mode=mode, baseline=options.models[0], compile=options.compile, **_measuring(options)
        )
        print(
            f"{mode.replace('_', ' + ')}, clip {' x '.join(map(str, shape))}, {options.dtype}, {options.rounds} rounds"
        )
        print(latency_table(rows), end="\n\n")
        results[mode] = [asdict(row) for row in rows]
    return _written(results, options.json)


def _network(text: str) -> tuple[str, dict[str, Any]]:
    model, _, pairs = text.partition(":")
    return model, network_options(split_options(pairs))


def _frames(model: str, default: int) -> tuple[str, int]:
    """Name and frames of "uniformer_s@16"."""
    name, at, frames = model.partition("@")
    if at and not frames.isdigit():
        raise ValueError(f"{model!r}: behind @ stands a number of frames, such as {name}@16")
    return name, int(frames) if at else default


def _growth(options: argparse.Namespace) -> int:
    import torch

    from kinema.benchmarks.growth import GrowthRow, growth_table, measure_growth

    networks = {name: _network(name) for name in options.models}
    results = _facts() | {"threads": options.threads or torch.get_num_threads(), "size": options.size}
    earlier = _stopped(results, options.json)
    for mode in _modes(options):

        def keep(rows: Sequence[GrowthRow], mode: str = mode) -> None:
            results[mode] = [asdict(row) for row in rows]
            _written(results, options.json)

        rows = measure_growth(
            networks,
            options.frames,
            mode=mode,
            size=options.size,
            memory_gib=options.memory,
            warmup=options.warmup,
            known=[GrowthRow(**row) for row in earlier.get(mode, [])],
            on_row=keep,
            **_measuring(options),
        )
        print(growth_table(rows, mode.replace("_", " + ")), end="\n\n")
    return _written(results, options.json)


def _stopped(facts: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """What the same command had measured before it was stopped; nothing if the source or the machine is another."""
    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if all(found.get(name) == value for name, value in facts.items()) else {}


def _layers(options: argparse.Namespace) -> int:
    import torch

    from kinema import profile
    from kinema.benchmarks.depthwise_forms import depthwise_forms
    from kinema.benchmarks.grouped_form import one_layer
    from kinema.benchmarks.operator_forms import operator_forms
    from kinema.evaluation.latency import compare_latency, latency_table

    forms_of = {"calibrated": one_layer, "operators": operator_forms, "depthwise": depthwise_forms}[options.kind]

    results = _facts() | {"threads": options.threads or torch.get_num_threads(), "kind": options.kind, "layers": {}}
    for size in options.sizes or _LAYERS[options.kind]:
        channels, side, kernel = _size(size)
        shape = (options.batch_size, channels, options.num_frames, side, side)
        torch.manual_seed(0)
        forms = forms_of(channels, kernel)
        costs = {name: profile(form, shape) for name, form in forms.items()}
        results["layers"][size] = {
            "clip_shape": shape,
            "cost": {name: {"params": cost.params, "macs": cost.macs} for name, cost in costs.items()},
        }
        for mode in _modes(options):
            rows = compare_latency(
                forms, shape, mode=mode, input_gradient=True, baseline=next(iter(forms)), **_measuring(options)
            )
            print(f"{mode.replace('_', ' + ')}, {size}, features {' x '.join(map(str, shape))}")
            print(latency_table(rows), end="\n\n")
            results["layers"][size][mode] = [asdict(row) for row in rows]
    return _written(results, options.json)


def _size(text: str) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) not in (2, 3) or not all(part.isdigit() for part in parts):
        raise ValueError(
            f"{text!r} is no layer; give channels, side of the features and, if not 3, of the kernel: 256x14x5"
        )
    channels, side, kernel = map(int, [*parts, "3"][:3])
    if kernel % 2 == 0:
        raise ValueError(f"{text!r} has a kernel of {kernel}, which has no centre; give an odd number")
    return channels, side, kernel


def _modes(options: argparse.Namespace) -> tuple[Any, ...]:
    return ("forward", "forward_backward") if options.mode == "both" else (options.mode,)


def _measuring(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {
        "rounds": options.rounds,
        "device": options.device,
        "dtype": getattr(torch, options.dtype),
        "channels_last": options.channels_last,
        "num_threads": options.threads,
    }


def _sweep(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from kinema.benchmarks.sweep_speed import measure_sweep
    from kinema.cli import main
    from kinema.sweeps.grid import read_sweep

    rows = measure_sweep(
        read_sweep(options.file), main, options.root, num_runs=options.runs, rounds=options.rounds, extra=extra
    )
    for row in rows:
        print(
            f"{row.workers} workers, {row.runs} runs: {row.wall_s:.0f} s, {row.beside_s:.1f} s a run beside training, "
            f"{row.faster:.2f} times as fast as {rows[0].workers}"
        )
    return _written(_facts() | {"sweep": [asdict(row) for row in rows]}, options.json)


def _facts() -> dict[str, Any]:
    """What a table of measurements must say of its run."""
    import torch

    from kinema.training.record import source_state

    commit, changes = source_state()
    return {
        "command": "kinema " + shlex.join(sys.argv[1:]),
        "commit": commit,
        "uncommitted_changes": bool(changes),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }


def _written(results: dict[str, Any], path: Path | None) -> int:
    if path is not None:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0
