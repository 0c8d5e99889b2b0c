"""`kinema localize VIDEO... --classifier RUN --localizer RUN --output FOLDER`: what happens when, in your own videos.

The classifier (a run, a checkpoint, or with --model weights of its authors) slides over each video, the localizer proposes
segments from what it saw, and both are joined. Written are VIDEO.json and VIDEO.csv with all segments, VIDEO.png with the best
ones over time, and VIDEO.html, a page with the video and these segments to be clicked. A video that is shorter than a clip, has
another frame rate than those learnt on, or in which nothing is sure, is noted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kinema.cli.classifier import add_weights, load_predictor, need_batch_size
from kinema.cli.messages import say


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema localize", description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="video files, or folders of them")
    parser.add_argument(
        "--classifier",
        required=True,
        metavar="RUN",
        help="run whose features the localizer learnt on, a checkpoint of kinema, or with --model weights of its authors",
    )
    parser.add_argument(
        "--localizer", required=True, metavar="RUN", help="run of kinema.training.BMN, or a checkpoint of one"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where results go")
    parser.add_argument(
        "--features",
        type=Path,
        metavar="FOLDER",
        help="features the localizer learnt on; where its run found them by default",
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="JSON in ActivityNet's form: what happens in these videos is outlined in the pictures",
    )
    parser.add_argument("--top", type=int, default=20, help="segments in picture and page; the files have all")
    parser.add_argument("--min-score", type=float, default=0.0, help="leave out less sure segments everywhere")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="which checkpoint of the runs")
    parser.add_argument("--batch-size", type=int, default=8, help="crops that go through the classifier together")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda:0")
    add_weights(parser, "--classifier", views=False)
    options = parser.parse_args(arguments[1:])

    from kinema.cli.features import find_videos
    from kinema.data.decoding import DecodeError
    from kinema.data.progress import progress_bar
    from kinema.data.untrimmed.feature_files import FeatureError
    from kinema.data.untrimmed.segments import read_activitynet
    from kinema.data.video_names import printable
    from kinema.localization.inference import BrokenMapsError
    from kinema.localization.results import write_results
    from kinema.training.localizer import Localizer

    try:
        if options.top < 0:
            raise ValueError(f"--top {options.top} shows nothing; give 0 or more")
        need_batch_size(options.batch_size)
        videos = find_videos(options.videos)
        names = [path.stem for path in videos]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two videos are called {twice} and would share their results; localize them apart")
        annotations = None
        if options.annotations is not None:
            annotations = read_activitynet(options.annotations)
            unnamed = [name for name in names if name not in annotations.videos]
            if len(unnamed) == len(names):
                raise ValueError(
                    f"{options.annotations} has {len(annotations.videos)} videos, such as {next(iter(annotations.videos))}, "
                    f"and none of those given, such as {names[0]}; names must be equal, without the ending"
                )
            if unnamed:
                print(printable(f"note: {options.annotations} does not have {', '.join(unnamed[:3])}"), file=sys.stderr)
        # As --run or --checkpoint of other commands.
        file = Path(options.classifier).expanduser().is_file()
        options.run = None if file else options.classifier
        options.checkpoint = options.classifier if file else options.which
        predictor = load_predictor(options)
        for note in predictor.notes:
            print(f"note: {note}", file=sys.stderr)
        localizer = Localizer.of_runs(
            predictor,
            options.localizer,
            features=options.features,
            which=options.which,
            device=options.device,
        )
        options.output.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        say(error)
        return 1
    failed = 0
    with progress_bar(True) as bar:
        for path in videos:
            task = bar.add_task(printable(path.name), total=None)

            def told(done: int, of: int, task=task) -> None:
                bar.update(task, completed=done, total=of)

            try:
                file, segments = localizer(path, batch_size=options.batch_size, on_clips=told)
            except (DecodeError, FeatureError, BrokenMapsError) as error:
                reason = str(error) if path.stem in str(error) else f"{path}: {error}"
                say(reason)
                failed += 1
                continue
            for note in localizer.notes(file, segments):
                print(printable(f"note: {path.name}: {note}"), file=sys.stderr)
            kept = [segment for segment in segments if segment.score >= options.min_score]
            page = write_results(
                options.output,
                path,
                file.duration,
                kept,
                top=options.top,
                facts=localizer.facts,
                annotations=annotations,
            )
            print(printable(f"{path.name}: {len(kept)} segments, {page}"))
    if failed:
        say(f"{failed} of {len(videos)} videos have no segments, for the reasons above")
    return 1 if failed else 0
