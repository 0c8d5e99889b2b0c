"""Segments of EPIC-KITCHENS-100 (Damen et al. 2022, arXiv:2006.13256, section 4.3): a verb and a noun for each.

Lists are `EPIC_100_{train,validation}.csv`, one narrated segment a line, `EPIC_100_{verb,noun}_classes.csv`, and, where it is
beside them, `EPIC_100_video_info.csv` with the durations. Without it durations come from the feature files.
"""

from collections import defaultdict
from pathlib import Path

from kinema.data.datasets.annotations import AnnotationFolder, Row, read_table
from kinema.data.datasets.checks import time_range
from kinema.data.manifest import ManifestError
from kinema.data.untrimmed.segments import AnnotatedVideo, Annotations, Faults, Segment, checked, refuse_or_count

_COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
TASKS = ("verb", "noun")


def read_epic(folder: str | Path, *, faults: Faults = "refuse") -> Annotations:
    """Read the segments of training and validation; their labels are (verb, noun).

    Times are the time stamps in seconds, to the hundredth as the lists give them.

    Args:
        folder: Folder of the annotation files, or one above `epic-kitchens-100-annotations`.
        faults: As for `kinema.data.untrimmed.segments.checked`; an unknown class is a fault too.

    Raises:
        ManifestError: If a file or a column is missing, or a time is no time.
        AnnotationError: If there are faults.
    """
    lists = AnnotationFolder(Path(folder), None, ("epic-kitchens-100-annotations",))
    tasks = {task: _classes(lists.need(f"EPIC_100_{task}_classes.csv")) for task in TASKS}
    info = lists.find("EPIC_100_video_info.csv")
    durations = {} if info is None else {row["video_id"]: float(row["duration"]) for row in _durations(info)}
    videos: dict[str, AnnotatedVideo] = {}
    segments: list[Segment] = []
    found: dict[str, list[str]] = defaultdict(list)
    for subset, name in (("train", "train"), ("val", "validation")):
        for row in read_table(lists.need(f"EPIC_100_{name}.csv"), _COLUMNS):
            video = row["video_id"]
            other = videos.setdefault(video, AnnotatedVideo(durations.get(video), subset)).subset
            if other != subset:
                raise ManifestError(f"{row.where}: {video} is of {other} already; a video is of one subset")
            label = tuple(_number(row, f"{task}_class") for task in TASKS)
            strange = [task for task, part in zip(TASKS, label, strict=True) if part >= len(tasks[task])]
            if strange:
                found["of unknown classes"].append(f"{strange[0]} {label[TASKS.index(strange[0])]} ({row.where})")
                continue
            try:
                start, end = time_range(row["start_timestamp"], row["stop_timestamp"], row.where)
            except ManifestError as error:
                if "reversed" not in str(error):
                    raise
                found["empty or reversed"].append(row.where)
                continue
            segments.append(Segment(video, float(start), float(end), label))
    notes = refuse_or_count(found, faults)
    return checked(Annotations(videos, segments, tasks["verb"], tasks, notes), faults=faults)


def _classes(path: Path) -> list[str]:
    rows = read_table(path, ("id", "key"))
    for place, row in enumerate(rows):
        if row["id"] != str(place):
            raise ManifestError(
                f"{row.where}: the id {place} was expected, found {row['id']}; in the release ids count from 0"
            )
    return [row["key"] for row in rows]


def _durations(path: Path) -> list[Row]:
    rows = read_table(path, ("video_id", "duration"))
    for row in rows:
        try:
            float(row["duration"])
        except ValueError:
            raise ManifestError(f"{row.where}: the duration '{row['duration']}' is no number of seconds") from None
    return rows


def _number(row: Row, column: str) -> int:
    if not row[column].isdigit():
        raise ManifestError(f"{row.where}: {column} should be a whole number from 0 on, found '{row[column]}'")
    return int(row[column])
