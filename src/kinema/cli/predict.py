"""`kinema predict VIDEO... --run RUN`: the best guesses for your own files, over time and in pictures too."""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kinema.cli.classifier import add_classifier, load_predictor
from kinema.cli.messages import say
from kinema.cli.written_files import need_other_files
from kinema.data.decoding import DecodeError
from kinema.data.progress import progress_bar

if TYPE_CHECKING:
    from kinema.deployment.prediction import Prediction
    from kinema.training.restore import Predictor


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema predict", description=__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, and folders of them")
    add_classifier(parser)
    parser.add_argument("--top", type=int, default=5, help="guesses for each video")
    parser.add_argument(
        "--json", metavar="FILE", help="write everything there; - for the output, in place of the tables"
    )
    parser.add_argument("--csv", metavar="FILE", help="write one row a guess there; - for the output")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="draw frames, where it looked, and scores over time"
    )
    parser.add_argument(
        "--over-time", action="store_true", help="also score clips that slide over the video, for --json"
    )
    parser.add_argument("--windows", type=int, default=16, help="how many such clips")
    parser.add_argument(
        "--window-seconds",
        type=float,
        help="their length where the run takes frames from the whole video; 2 s, at most half of it, when not given",
    )
    options = parser.parse_args(arguments[1:])

    from kinema.data.decoding.frame_folder import FrameFolders
    from kinema.deployment.prediction import find_videos, over_time

    try:
        _check(options)
        _need_some(options.videos)
        predictor = load_predictor(options)
        over_time(predictor.clips, options.windows, options.window_seconds)
        videos = find_videos(options.videos, pictures=isinstance(predictor.clips.cache, FrameFolders))
        need_other_files(_written(options), videos)
    except (ValueError, TypeError, OSError) as error:
        say(error)
        return 1
    for note in predictor.notes:
        say(note)
    # Printed behind the bar, and not while it runs: on a terminal it takes what is printed, and sends it to the error stream.
    found: list[Prediction] = []
    with progress_bar(len(videos) > 1) as bar:
        for video in bar.track(videos, description="predicting"):
            found.append(_predict(predictor, video, options, taken={each.picture for each in found}))
    _tell(found, predictor, options)
    for note in _notes_over_time(found):
        say(note)
    failed = [each for each in found if each.error]
    for each in failed:
        say(each.error if each.video in each.error else f"{each.video}: {each.error}")
    if failed:
        say(f"{len(failed)} of {len(found)} videos could not be decoded or scored")
    return 1 if failed else 0


def _check(options: argparse.Namespace) -> None:
    """Refuse what would be found out only behind hours of predicting."""
    if options.top < 1:
        raise ValueError(f"--top {options.top} shows nothing; give at least 1")
    if options.json == "-" and options.csv == "-":
        raise ValueError("--json - and --csv - would mix on the output; give one of them a file")
    for file in (options.json, options.csv):
        if file not in (None, "-") and not Path(file).absolute().parent.is_dir():
            raise ValueError(f"there is no folder for {file}; make it first")
    need_other_files(_written(options), [])
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)


def _written(options: argparse.Namespace) -> dict[str, Path | None]:
    files = {"--json": options.json, "--csv": options.csv}
    return {option: None if file in (None, "-") else Path(file) for option, file in files.items()}


def _need_some(videos: Sequence[str]) -> None:
    """Refuse names of nothing before the network is loaded; one that is missing among others is told with them."""
    if not any(Path(video).exists() for video in videos):
        raise ValueError(f"there is no file or folder {', '.join(videos)}; give videos, or folders of them")


def _predict(predictor: "Predictor", video: Path, options: argparse.Namespace, taken: set[str]) -> "Prediction":
    from kinema.deployment.picture import draw_video
    from kinema.deployment.prediction import Prediction, scores_over_time
    from kinema.training.restore import NonFiniteScoresError

    scores, timeline, picture = None, None, ""
    try:
        scores = predictor(video)
        if options.over_time or options.pictures is not None:
            timeline = scores_over_time(predictor, video, num_windows=options.windows, seconds=options.window_seconds)
        if options.pictures is not None and timeline is not None:
            picture = str(_free_name(options.pictures, video, taken))
            draw_video(predictor, video, scores, timeline, top=options.top).savefig(picture)
    except (DecodeError, NonFiniteScoresError) as error:
        return Prediction(str(video), scores, str(error))
    return Prediction(str(video), scores, timeline=timeline, picture=picture)


def _free_name(folder: Path, video: Path, taken: set[str]) -> Path:
    """A name for the picture: that of the video, with the folder's in front where two videos share theirs."""
    name = folder / f"{video.stem}.png"
    if str(name) in taken:
        name = folder / f"{video.parent.name}-{video.stem}.png"
    number = 2
    while str(name) in taken:
        name = folder / f"{video.stem}-{number}.png"
        number += 1
    return name


def _tell(found: Sequence["Prediction"], predictor: "Predictor", options: argparse.Namespace) -> None:
    from kinema.data.video_names import printable
    from kinema.deployment.prediction import CSV_COLUMNS, as_facts, as_rows, best_guesses
    from kinema.training.record import source_state

    names = predictor.class_names
    if "-" not in (options.json, options.csv):
        print(f"weights of {printable(predictor.checkpoint)}")
        console = Console(highlight=False)
        for each in found:
            if each.scores is not None:
                print(printable(each.video))  # by itself: a table would break long paths
                console.print(_table(best_guesses(each.scores, names, options.top)))
    if options.json is not None:
        facts = {
            "model": predictor.module.model_name,
            "checkpoint": printable(predictor.checkpoint),
            "commit": source_state()[0],
            "notes": [printable(note) for note in [*predictor.notes, *_notes_over_time(found)]],
            "videos": [as_facts(each, names, options.top) for each in found],
        }
        _write(options.json, json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    if options.csv is not None:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(CSV_COLUMNS)
        rows.writerows(row for each in found for row in as_rows(each, names, options.top))
        _write(options.csv, text.getvalue())


def _notes_over_time(found: Sequence["Prediction"]) -> list[str]:
    """What to know of the windows of the first video that has such; the others' stands beside their scores."""
    notes = [
        f"{each.video}: {each.timeline.note}" for each in found if each.timeline is not None and each.timeline.note
    ]
    return notes[:1] if len(notes) < 2 else [f"{notes[0]}; windows of {len(notes) - 1} other videos are shorter, too"]


def _write(file: str, text: str) -> None:
    from kinema.training.record import write_atomically

    if file == "-":
        print(text, end="")
    else:
        write_atomically(Path(file), text)


def _table(guesses: Sequence[Any]) -> Table:
    table = Table(box=None, show_header=False)
    for guess in guesses:
        table.add_row(f"{guess.score:6.1%}", Text(guess.name), "█" * round(guess.score * 30))
    return table
