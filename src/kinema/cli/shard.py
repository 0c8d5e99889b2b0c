"""`kinema data shard LIST ... --root ROOT --output DIR_OR_URL`: write videos and their lists into shards."""

import argparse
from pathlib import Path

from kinema.cli.messages import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "lists", type=Path, nargs="+", metavar="LIST", help="CSV files, or folders with one folder per class"
    )
    parser.add_argument(
        "--root", type=Path, help="data root of their paths; the folder of the first list when not given"
    )
    parser.add_argument("--output", required=True, metavar="DIR_OR_URL", help="a folder, or such as s3://bucket/folder")
    parser.add_argument("--chunk-mib", type=float, default=32, metavar="MIB", help="size of a chunk; 32")
    parser.add_argument("--frames", metavar="TEMPLATE", help="videos are folders of pictures, such as {:05d}.jpg")
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="encode again, at this short side")
    parser.add_argument("--gop", type=int, metavar="FRAMES", help="encode again, with so many frames to a keyframe")
    parser.add_argument("--fps", type=float, help="encode again, at this rate")
    parser.add_argument("--quality", type=int, help="encode again, with this constant rate factor of x264; 20")
    parser.add_argument("--workers", type=int, help="chunks at a time; one per core when not given")


def shard(options: argparse.Namespace) -> int:
    from kinema.data.decoding.frame_folder import FrameFolders
    from kinema.data.reencoding import Encoding
    from kinema.data.shards.write import shard_videos

    given = {
        "short_side": options.short_side,
        "keyframe_interval": options.gop,
        "fps": options.fps,
        "quality": options.quality,
    }
    given = {name: value for name, value in given.items() if value is not None}
    first: Path = options.lists[0]
    try:
        done = shard_videos(
            options.lists,
            options.root or (first if first.is_dir() else first.absolute().parent),
            options.output,
            chunk_mib=options.chunk_mib,
            encoding=Encoding(**given) if given else None,
            folders=None if options.frames is None else FrameFolders(options.frames),
            num_workers=options.workers,
        )
    except (ValueError, OSError) as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with it")
        return 130
    for path, reason in sorted(done.unreadable.items())[:20]:
        print(f"{path}: {reason}")
    lost = f"; {len(done.unreadable)} videos are not in them, see unreadable.csv" if done.unreadable else ""
    kept = f", {done.kept} were there" if done.kept else ""
    print(f"{done.videos} videos in {done.chunks} shards of {done.num_bytes / (1 << 20):.0f} MiB together{kept}{lost}")
    print(options.output)
    return 1 if done.unreadable else 0
