"""`kinema data motion | check`: make the built-in data set; look for videos that cannot be read."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    motion = commands.add_parser("motion", help="make the built-in motion set, or complete it")
    motion.add_argument("--root", type=Path, help="folder to make it in; where the quickstart looks for it by default")
    motion.add_argument("--level", choices=("easy", "hard"), default="easy")
    motion.add_argument("--num-train", type=int, default=2400)
    motion.add_argument("--num-val", type=int, default=480)
    motion.add_argument("--seed", type=int, default=0)
    motion.add_argument("--preview", type=Path, metavar="PNG", help="also draw eight frames of each class")
    check = commands.add_parser("check", help="decode every video and say which are damaged")
    check.add_argument("source", type=Path, help="a video, a folder of videos, a manifest, or a folder of the motion set")
    check.add_argument("--root", type=Path, help="data root of a manifest; its folder when not given")
    check.add_argument("--workers", type=int, default=None, help="processes; one per core when not given")
    check.add_argument("--csv", type=Path, help="also write what was found to this file")
    options = parser.parse_args(arguments[1:])
    return _motion(options) if options.command == "motion" else _check(options)


def _motion(options: argparse.Namespace) -> int:
    from kinema.data.datasets.motion import default_root
    from kinema.data.motion import prepare_motion, preview

    try:
        folder = prepare_motion(
            options.root or default_root(),
            level=options.level,
            seed=options.seed,
            num_train=options.num_train,
            num_val=options.num_val,
        )
    except (ValueError, OSError) as error:
        print(f"kinema: {error}", file=sys.stderr)
        return 1
    if options.preview:
        preview(folder, options.preview)
    print(folder)
    return 0
