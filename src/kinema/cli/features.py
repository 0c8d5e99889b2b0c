"""`kinema features VIDEO... --run RUN --output FOLDER`: what a classifier sees along whole videos, for localization.

Clips of the classifier's length slide over each video; of each clip its features and class scores are written, with its
seconds, to one safetensors file per video. A video is decoded once, however much its clips overlap, and in the memory of a
clip, however long it is. At its ends, and where it is shorter than a clip, its first or last frame is repeated. Finished videos
are left as they are when the command runs again.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.cli.classifier import add_classifier, load_predictor, need_batch_size
from kinema.cli.messages import say

if TYPE_CHECKING:
    from kinema.data.frame_cache import OpenedVideo


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema features", description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="video files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where feature files go")
    parser.add_argument(
        "--stride", type=int, default=8, help="frames from one clip to the next; %(default)s when not given"
    )
    parser.add_argument("--clip-frames", type=int, help="frames of a clip; as many as the classifier took")
    parser.add_argument(
        "--frame-interval", type=int, help="frames from one frame of a clip to the next; that of the classifier"
    )
    parser.add_argument("--target-fps", type=float, help="frames per second these are meant at; those of each video")
    parser.add_argument(
        "--crops",
        type=int,
        choices=(1, 3),
        default=1,
        help="of each clip: the centre, or along a side; features of crops stand side by side, so three crops are three times "
        "as many channels",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="crops that go through the network together; %(default)s when not given",
    )
    parser.add_argument(
        "--frames", metavar="TEMPLATE", help="videos are folders of pictures with names such as {:05d}.jpg"
    )
    parser.add_argument("--frames-fps", type=float, default=30, help="pictures per second in such folders")
    add_classifier(parser, views=False)
    options = parser.parse_args(arguments[1:])

    from kinema.data.video_names import printable
    from kinema.localization.extraction import extract_all
    from kinema.training.extractor import Extractor
    from kinema.training.record import source_state

    try:
        need_batch_size(options.batch_size)
        videos = find_videos(options.videos, folders=options.frames is not None)
        predictor = load_predictor(options)
        for note in predictor.notes:
            print(f"note: {note}", file=sys.stderr)
        classifier = Extractor.of(
            predictor,
            stride=options.stride,
            clip_frames=options.clip_frames,
            frame_interval=options.frame_interval,
            target_fps=options.target_fps,
            num_crops=options.crops,
        )
        done = extract_all(
            videos,
            options.output,
            classifier.embed,
            classifier.grid,
            classifier.transform,
            opener=_opener(options),
            batch_size=options.batch_size,
            model=classifier.model,
            commit=source_state()[0],
            facts=classifier.facts | _picture_facts(options),
        )
    except (ValueError, OSError) as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on with the video it was at")
        return 130
    for name, reason in done.failed.items():
        say(f"{name} has no features: {reason}")
    for name, reason in done.broken.items():
        print(
            f"note: the features of {name} were there but not whole, and made anew: {printable(reason)}",
            file=sys.stderr,
        )
    for name in done.short:
        say(f"{name} is shorter than a clip; its first and last frame are repeated")
    print(f"{len(done.written)} written, {len(done.finished)} finished before, {len(done.failed)} failed")
    print(printable(options.output))
    return 1 if done.failed else 0


def find_videos(sources: Sequence[Path], *, folders: bool = False) -> list[Path]:
    """The files that are named, and those in the folders that are.

    Raises:
        ValueError: If a source does not exist, or there is no video.
    """
    from kinema.data.manifest import VIDEO_SUFFIXES

    absent = [str(source) for source in sources if not source.exists()]
    if absent:
        raise ValueError(f"there is no {' and no '.join(absent[:3])}; give video files, or folders of them")
    if folders:
        return list(sources)
    videos: list[Path] = []
    for source in sources:
        inside = source.rglob("*") if source.is_dir() else [source]
        videos += sorted(path for path in inside if path == source or path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise ValueError(f"no video in {sources[0]}; files ending in {sorted(VIDEO_SUFFIXES)} count")
    return videos


def _picture_facts(options: argparse.Namespace) -> dict[str, Any]:
    """How folders of pictures are read: other pictures, or another rate, make other features."""
    return {} if options.frames is None else {"pictures": {"template": options.frames, "fps": options.frames_fps}}


def _opener(options: argparse.Namespace) -> "Callable[[Path], AbstractContextManager[OpenedVideo]]":
    from kinema.data.decoding import open_video
    from kinema.data.decoding.frame_folder import FrameFolders

    return open_video if options.frames is None else FrameFolders(options.frames, options.frames_fps).open
