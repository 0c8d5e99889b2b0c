"""`kinema bench export`: every network as a file, compared with the network and timed beside it."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kinema.cli.profile import network_options, split_options
from kinema.data.progress import progress_bar


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="NAME[:OPTION=VALUE,...]",
        help="all when none is named; one without options is made as small as it allows, see kinema.benchmarks.exports",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="networks that run frame by frame: of each the step, and the causal network on clips; all such when none is named",
    )
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="side of the square frames, in pixels")
    parser.add_argument(
        "--rounds", type=int, default=5, help="each round times every contender once; 0 for parity alone"
    )
    parser.add_argument("--threads", type=int, default=None, help="of PyTorch and of onnxruntime")
    parser.add_argument(
        "--json", type=Path, help="also write the rows, commit and machine to this file, and go on from it"
    )


def bench_export(options: argparse.Namespace, facts: dict[str, Any], write: Callable[..., int]) -> int:
    """Measure, print and write rows; those that the file has from this commit and machine are not measured again."""
    import torch

    from kinema.benchmarks.exports import (
        ExportRow,
        Mode,
        export_summary,
        export_table,
        measure_export,
        small_options,
        streaming_models,
    )
    from kinema.deployment.exported import need_packages
    from kinema.models import list_models

    need_packages("onnx", "onnxscript", "onnxruntime", extra="export")
    results = facts | {"threads": options.threads or torch.get_num_threads(), "exports": []}
    known = _earlier(facts, options.json)
    known_names = streaming_models() if options.stream else list_models()
    named = [_network(text) for text in options.models or known_names]
    two_way = [name for name, _ in named if name not in known_names and name in list_models()]
    if two_way:
        raise ValueError(
            f"{two_way[0]} has no causal form to run frame by frame; give some of {', '.join(known_names)}, or no --stream"
        )
    modes: tuple[Mode, ...] = ("frames", "clips") if options.stream else ("clips",)
    causal = {"causal": True} if options.stream else {}
    wanted = [
        (name, (others or small_options(name, options.size)) | causal, mode) for name, others in named for mode in modes
    ]
    rows: list[ExportRow] = []
    with progress_bar(len(wanted) > 1) as bar:
        for name, others, mode in bar.track(wanted, description="exporting"):
            row = known.get((name, json.dumps(others), mode))
            if row is None:
                row = measure_export(
                    name,
                    others,
                    mode=mode,
                    num_frames=options.num_frames,
                    size=options.size,
                    rounds=options.rounds,
                    num_threads=options.threads,
                )
            rows.append(row)
            results["exports"] = [asdict(each) for each in rows]
            write(results, options.json)
    print(export_table(rows))
    print(export_summary(rows))
    return 1 if any(row.failures for row in rows) else 0


def _network(text: str) -> tuple[str, dict[str, Any]]:
    name, _, pairs = text.partition(":")
    return name, network_options(split_options(pairs))


def _earlier(facts: dict[str, Any], path: Path | None) -> dict[tuple[str, str, str], Any]:
    """Rows that the same command had measured before it was stopped; none if the source or the machine is another."""
    from kinema.benchmarks.exports import ExportRow

    if path is None or not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if any(found.get(name) != value for name, value in facts.items()):
        return {}
    earlier: list[dict[str, Any]] = found.get("exports", [])
    rows = [ExportRow(**row) for row in earlier]
    return {(row.name, json.dumps(row.options), row.mode): row for row in rows}
