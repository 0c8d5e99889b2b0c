"""`kinema data reencode ROOT OUT`: encode a set of videos again so that training reads them faster."""

import argparse
from pathlib import Path

from kinema.cli.messages import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="ROOT", help="folder of the videos")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to, beside it")
    parser.add_argument("--short-side", type=int, default=256, metavar="PIXELS", help="of the videos written; 256")
    parser.add_argument("--gop", type=int, default=12, metavar="FRAMES", help="from one keyframe to the next; 12")
    parser.add_argument("--fps", type=float, help="constant frame rate; that of each video when not given")
    parser.add_argument("--quality", type=int, default=20, help="constant rate factor of x264, lower is better; 20")
    parser.add_argument("--workers", type=int, help="videos at a time; one per core when not given")


def reencode(options: argparse.Namespace) -> int:
    from kinema.data.reencoding import UNREADABLE, Encoding, ReencodingError, reencode_set

    try:
        encoding = Encoding(options.short_side, options.gop, options.fps, options.quality)
        done = reencode_set(options.source, options.out, encoding, num_workers=options.workers)
    except (ValueError, ReencodingError) as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with it")
        return 130
    for path, reason in sorted(done.unreadable.items())[:20]:
        print(f"{path}: {reason}")
    lost = f"; {len(done.unreadable)} cannot be read, see {options.out / UNREADABLE}" if done.unreadable else ""
    print(f"{options.out}: {done.written} videos encoded, {done.kept} were there{lost}")
    print("next: copy the annotation files there too, and run 'kinema data prepare' on it")
    return 1 if done.unreadable else 0
