"""`kinema predict VIDEO... --run RUN`: the best guesses for your own files."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from kinema.data.decoding import DecodeError


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema predict", description=__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files")
    parser.add_argument("--run", required=True, help="folder of a run, or of several; then the newest is taken")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which checkpoint of the run")
    parser.add_argument("--top", type=int, default=5, help="guesses shown for each video")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda:0")
    options = parser.parse_args(arguments[1:])

    from kinema.training.restore import Predictor

    console = Console(highlight=False)
    try:
        predictor = Predictor.from_run(options.run, which=options.checkpoint, device=options.device)
    except (ValueError, FileNotFoundError) as error:
        print(f"kinema: {error}", file=sys.stderr)
        return 1
    print(f"weights of {predictor.checkpoint}")
    failed = 0
    for video in options.videos:
        try:
            scores = predictor(video)
        except DecodeError as error:
            print(f"kinema: {error}", file=sys.stderr)
            failed += 1
            continue
        print(video)  # by itself: a table would break long paths
        console.print(_table(scores.topk(min(options.top, len(scores))), predictor.class_names))
    if failed:
        print(f"kinema: {failed} of {len(options.videos)} videos could not be decoded", file=sys.stderr)
    return 1 if failed else 0


def _table(best, names: Sequence[str]) -> Table:
    table = Table(box=None, show_header=False)
    for score, label in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        table.add_row(f"{score:6.1%}", names[label], "█" * round(score * 30))
    return table
