"""`kinema data motion | untrimmed | check | prepare | reencode | shard`: built-in and published data sets, damaged videos."""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli import reencode, shard
from kinema.cli.messages import say

if TYPE_CHECKING:
    from kinema.data.inspection import VideoFacts


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
    untrimmed = commands.add_parser(
        "untrimmed",
        help="make the built-in set of long videos with annotated segments",
        description="Make the built-in set of long videos with annotated segments. Every second validation video is the "
        "reversal in time of the one before it.",
    )
    untrimmed.add_argument("--root", type=Path, help="folder to make it in; beside the motion set by default")
    untrimmed.add_argument("--level", choices=("easy", "hard"), default="easy", help="how it looks; %(default)s")
    untrimmed.add_argument("--num-train", type=int, default=32, help="training videos; %(default)s")
    untrimmed.add_argument(
        "--num-val", type=int, default=16, help="validation videos: half of them, and their reversals; %(default)s"
    )
    untrimmed.add_argument(
        "--seconds", type=int, nargs=2, default=(60, 90), help="length of the shortest and of the longest video; 60 90"
    )
    untrimmed.add_argument("--seed", type=int, default=0, help="another seed makes another set; %(default)s")
    check = commands.add_parser("check", help="decode every video and say which are damaged")
    check.add_argument(
        "source", type=Path, help="a video, a folder of videos, a manifest, or a folder of the motion set"
    )
    check.add_argument(
        "--frames", metavar="TEMPLATE", help="videos are folders of pictures with names such as {:05d}.jpg"
    )
    check.add_argument("--frames-fps", type=float, default=30, help="pictures per second in such folders; 30")
    check.add_argument("--root", type=Path, help="data root of a manifest; its folder when not given")
    check.add_argument("--workers", type=int, default=None, help="processes; one per core when not given")
    check.add_argument("--csv", type=Path, help="also write what was found to this file")
    prepare = commands.add_parser(
        "prepare", help="check a published data set against its annotation files and write its manifest"
    )
    prepare.add_argument("name", metavar="NAME", help="such as kinetics400, ssv2, epic100; another one lists them all")
    prepare.add_argument("--root", type=Path, required=True, help="folder that the archive was unpacked to")
    prepare.add_argument(
        "--annotations",
        help="folder of the annotation files, if they are not below the root: absolute, or seen from the root or from here",
    )
    prepare.add_argument("--out", type=Path, metavar="CSV", help="manifest; where training looks for it when not given")
    prepare.add_argument("--workers", type=int, default=None, help="processes; one per core when not given")
    prepare.add_argument(
        "--allow-missing", type=float, default=0.01, metavar="SHARE", help="of a split that may be unusable; 0.01"
    )
    prepare.add_argument(
        "--quick", action="store_true", help="decode the first and last frame of a video, not every one"
    )
    prepare.add_argument("--no-hash", action="store_true", help="do not hash the videos")
    prepare.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the data set, such as split=2; repeatable",
    )
    reencode.add_arguments(
        commands.add_parser("reencode", help="encode videos again, small and with keyframes close together")
    )
    shard.add_arguments(
        commands.add_parser("shard", help="write videos and their lists into large files, also of an object store")
    )
    options = parser.parse_args(arguments[1:])
    run_command = {
        "motion": _motion,
        "untrimmed": _untrimmed,
        "check": _check,
        "prepare": _prepare,
        "reencode": reencode.reencode,
        "shard": shard.shard,
    }
    return run_command[options.command](options)


def _prepare(options: argparse.Namespace) -> int:
    from kinema.cli.profile import network_options
    from kinema.data.datasets.archives import build_archive
    from kinema.data.prepare import prepare_archive

    try:
        read = network_options(options.option)
        data = build_archive(options.name, str(options.root), annotations=options.annotations, **read)
        prepared = prepare_archive(
            data,
            out=options.out,
            num_workers=options.workers,
            allow_missing=options.allow_missing,
            every_frame=not options.quick,
            sha256=not options.no_hash,
        )
    except (ValueError, OSError, RuntimeError) as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    for split, counts in prepared.counts.items():
        parts = ", ".join(f"{number} {status}" for status, number in sorted(counts.items(), key=lambda item: -item[1]))
        print(f"{split}: {sum(counts.values())} samples, {parts}")
    rates = ", ".join(f"{rate} ({number})" for rate, number in prepared.frame_rates.items())
    mixed = "; clips of dense sampling last for unequal times" if len(prepared.frame_rates) > 1 else ""
    print(f"frames per second (videos): {rates}{mixed}")
    for note in prepared.notes:
        print(f"note: {note}")
    if any(status != "ok" for counts in prepared.counts.values() for status in counts):
        print(f"what is not ok is listed in {prepared.problems}")
    print(prepared.manifest)
    return 0


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
        say(error)
        return 1
    if options.preview:
        preview(folder, options.preview)
    print(folder)
    return 0


def _untrimmed(options: argparse.Namespace) -> int:
    from kinema.data.home import data_home
    from kinema.data.motion import prepare_untrimmed

    try:
        folder = prepare_untrimmed(
            options.root or data_home() / "untrimmed",
            level=options.level,
            seed=options.seed,
            num_train=options.num_train,
            num_val=options.num_val,
            seconds=tuple(options.seconds),
        )
    except (ValueError, OSError) as error:
        say(error)
        return 1
    print(folder)
    return 0


def _check(options: argparse.Namespace) -> int:
    from kinema.data.decoding.frame_folder import FrameFolders
    from kinema.data.inspection import inspect_videos
    from kinema.data.manifest import VIDEO_SUFFIXES, read_manifest, resolve

    source: Path = options.source
    try:
        folders = None if options.frames is None else FrameFolders(options.frames, options.frames_fps)
        if source.is_file() and source.suffix == ".csv":
            root = options.root or source.parent
            manifest = read_manifest(source.absolute(), root=root)
            paths = list(dict.fromkeys(resolve(record, root) for record in manifest.records))
            print(f"{source}: {len(manifest)} samples of {len(manifest.class_names)} classes in {len(paths)} files")
        elif source.is_dir() and folders is not None:
            suffix = Path(folders.template).suffix
            # Whatever its pictures are called: a folder with a wrong name in it shall be told of, not passed over.
            paths = sorted({path.parent for path in source.rglob(f"*{suffix}")})
        elif source.is_dir():
            paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        elif not source.exists():
            say(f"there is no file or folder {source}")
            return 1
        else:
            paths = [source]
    except ValueError as error:
        say(error)
        return 1
    if not paths:
        counting = (
            f"files ending in {sorted(VIDEO_SUFFIXES)} count, and with --frames folders of pictures"
            if folders is None
            else f"folders of pictures such as {folders.template.format(1)} count"
        )
        say(f"no video below {source}; {counting}")
        return 1
    found = inspect_videos(paths, folders=folders, num_workers=options.workers)
    if options.csv:
        _write(options.csv, found)
    num_problems = sum(facts.status != "ok" for facts in found)
    if source.is_dir() and (source / "manifest.json").is_file():
        from kinema.data.motion import verify_motion

        for problem in verify_motion(source):
            print(problem)
            num_problems += 1
    for facts in (facts for facts in found if facts.status != "ok"):
        print(f"{facts.path}: {facts.status}: {facts.reason}")
    frames, seconds = sum(facts.num_frames for facts in found), float(sum(facts.duration for facts in found))
    counts = ", ".join(
        f"{sum(facts.status == status for facts in found)} {status}" for status in ("ok", "damaged", "undecodable")
    )
    print(f"{len(found)} video{'s' if len(found) > 1 else ''}: {counts}; {frames} frames, {seconds / 60:.1f} minutes")
    return 1 if num_problems else 0


def _write(path: Path, found: Sequence["VideoFacts"]) -> None:
    names = [field.name for field in fields(found[0])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for facts in found:
            values = {name: getattr(facts, name) for name in names}
            writer.writerow([float(value) if isinstance(value, Fraction) else value for value in values.values()])
