"""What happens when in long videos: segments, their classes, and the lists they are read from.

Read and written here is the form of ActivityNet, which HACS Segments shares: `{"database": {video: {"duration", "subset",
"annotations": [{"label", "segment": [start, end]}]}}}`, times in seconds. Lists of EPIC-KITCHENS-100 are read by
`kinema.data.datasets.epic_segments`.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Label = int | tuple[int, ...]
"""The id of a class; one id per task, as a verb and a noun, where a segment has several."""

Faults = Literal["refuse", "count"]

_SUBSETS = {"training": "train", "validation": "val", "testing": "test"}


class AnnotationError(ValueError):
    """Annotations that cannot be used as they are; the text counts the faults and shows the first of each kind."""


@dataclass(frozen=True)
class Segment:
    """One stretch of a video in which something happens.

    Args:
        video: Name of the video.
        start: Second at which it begins.
        end: Second at which it ends.
        label: What happens.
    """

    video: str
    start: float
    end: float
    label: Label

    def __str__(self) -> str:
        return f"{self.video} from {self.start:g} to {self.end:g} s"


@dataclass(frozen=True)
class AnnotatedVideo:
    """One video of a list.

    Args:
        duration: Its length in seconds; None where the list does not say it.
        subset: `train`, `val`, `test`, or what the list calls it.
    """

    duration: float | None
    subset: str


@dataclass(frozen=True)
class Annotations:
    """The segments of many videos.

    Args:
        videos: All videos of the list by their names, also those in which nothing happens.
        segments: What happens in them, in no order.
        classes: Names of the classes by id; those of the first task where segments have several labels.
        tasks: Where segments have several labels: what each tells ("verb", "noun"), in the order of `Segment.label`, and
            its class names by id. Empty where they have one.
        notes: What was counted while they were read, one sentence each.
    """

    videos: dict[str, AnnotatedVideo]
    segments: list[Segment]
    classes: list[str]
    tasks: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def by_video(self) -> dict[str, list[Segment]]:
        """The segments of each video, in the order of time; an empty list where nothing happens."""
        found: dict[str, list[Segment]] = {video: [] for video in self.videos}
        for segment in sorted(self.segments, key=lambda segment: (segment.start, segment.end)):
            found[segment.video].append(segment)
        return found

    def of_videos(self, names: Iterable[str]) -> "Annotations":
        """These videos alone and their segments; classes stay as they are."""
        videos = {name: self.videos[name] for name in names}
        return replace(self, videos=videos, segments=[segment for segment in self.segments if segment.video in videos])

    def where(self, *, subset: str) -> "Annotations":
        """The videos of a subset and their segments; classes stay as they are.

        Raises:
            AnnotationError: If the subset has no video.
        """
        videos = {name: video for name, video in self.videos.items() if video.subset == subset}
        if not videos:
            known = sorted({video.subset for video in self.videos.values()})
            raise AnnotationError(f"no video is of the subset '{subset}'; the subsets are {', '.join(known) or 'none'}")
        return replace(self, videos=videos, segments=[segment for segment in self.segments if segment.video in videos])

    def name_of(self, label: Label) -> str:
        """What a label is called; with several tasks the names with a space between them."""
        if isinstance(label, int):
            return self.classes[label]
        return " ".join(names[part] for names, part in zip(self.tasks.values(), label, strict=True))

    def with_durations(self, durations: Mapping[str, float], *, faults: Faults = "refuse") -> "Annotations":
        """Fill in durations that the list did not give, and check the segments of these videos against them.

        Raises:
            AnnotationError: As `checked`.
        """
        videos = {
            name: replace(video, duration=durations.get(name)) if video.duration is None else video
            for name, video in self.videos.items()
        }
        return checked(replace(self, videos=videos), faults=faults)


def checked(annotations: Annotations, *, faults: Faults = "refuse", slack_s: float = 0.5) -> Annotations:
    """Annotations whose segments all lie in their videos, the right way round.

    Published lists round durations, so a segment may stick out of its video by up to `slack_s` seconds: it is cut at the
    edge of the video, and counted. Everything else is a fault.

    Args:
        annotations: What was read.
        faults: Whether to refuse the list because of a fault, or to leave the segment out and count it in `notes`.
        slack_s: Seconds that a segment may stick out.

    Raises:
        AnnotationError: If there are faults and `faults` is "refuse": segments that are empty, reversed, no numbers, of no
            video of the list, or outside of theirs.
    """
    found: dict[str, list[str]] = defaultdict(list)
    kept, cut = [], 0
    for segment in annotations.segments:
        video = annotations.videos.get(segment.video)
        if video is None:
            found["of videos that the list does not have"].append(str(segment))
            continue
        duration = math.inf if video.duration is None else video.duration
        if not (math.isfinite(segment.start) and math.isfinite(segment.end)):
            found["with times that are no numbers"].append(str(segment))
        elif segment.end <= segment.start:
            found["empty or reversed"].append(str(segment))
        elif segment.start < -slack_s or segment.end > duration + slack_s or segment.start >= duration:
            found["outside of their video"].append(f"{segment}, which lasts {duration:g} s")
        elif segment.start < 0 or segment.end > duration:
            cut += 1
            kept.append(replace(segment, start=max(segment.start, 0.0), end=min(segment.end, duration)))
        else:
            kept.append(segment)
    notes = refuse_or_count(found, faults)
    if cut:
        notes.append(f"{cut} segments stuck out of their video by up to {slack_s:g} s and were cut at its edge")
    return replace(annotations, segments=kept, notes=[*annotations.notes, *notes])


def refuse_or_count(found: Mapping[str, Sequence[str]], faults: Faults, *, of: str = "segments") -> list[str]:
    """One sentence per kind of fault, with its number and first example.

    Raises:
        AnnotationError: With these sentences, if there are any and `faults` is "refuse".
    """
    told = [f"{len(examples)} {of} {kind}, such as {examples[0]}" for kind, examples in found.items() if examples]
    if told and faults == "refuse":
        raise AnnotationError(
            f"{'; '.join(told)}. Correct the list, or leave them out with faults='count' (--data.faults count)"
        )
    return [f"{sentence}: left out" for sentence in told]


def read_activitynet(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    subsets: Iterable[str] = (),
    faults: Faults = "refuse",
) -> Annotations:
    """Read annotations in ActivityNet's form, which is that of HACS Segments.

    Subsets are called train, val and test afterwards.

    Args:
        path: The JSON file.
        classes: Names of the classes by id; those that segments have, sorted, when None.
        subsets: Subsets that are known beside training, validation and testing, or train, val and test.
        faults: As for `checked`; an unknown class is a fault too, and a video of an unknown subset, perhaps a misspelt one.

    Raises:
        FileNotFoundError: If there is no such file.
        AnnotationError: If it is no such JSON, or has faults.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there are no annotations {path}; give the JSON file of the release")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise AnnotationError(f"{path} is no whole JSON file ({error}); copy it again from the release") from error
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        found = sorted(content)[:6] if isinstance(content, dict) else type(content).__name__
        raise AnnotationError(f"{path}: a mapping 'database' of videos was expected, found {found}")
    videos, rows = {}, []
    for name, entry in database.items():
        videos[name] = _video(entry, f"{path}, video {name}")
        rows += [(name, *_row(row, f"{path}, video {name}")) for row in entry.get("annotations") or []]
    known = {*_SUBSETS.values(), *subsets}
    strange = [name for name, video in videos.items() if video.subset not in known]
    told = [f"{name} of '{videos[name].subset}'" for name in strange]
    kind = f"of unknown subsets (known are {', '.join([*_SUBSETS, *sorted(known)])})"
    notes = refuse_or_count({kind: told}, faults, of="videos")
    videos = {name: video for name, video in videos.items() if video.subset in known}
    rows = [row for row in rows if row[0] in videos]
    names = sorted({label for *_, label in rows}) if classes is None else list(classes)
    if not names:
        raise AnnotationError(f"{path}: no segment is annotated, so there is no class; give annotations with labels")
    ids = {name: number for number, name in enumerate(names)}
    unknown = [f"'{label}' ({name})" for name, _, _, label in rows if label not in ids]
    notes += refuse_or_count({f"of classes that are none of the {len(names)}": unknown}, faults)
    segments = [Segment(name, start, end, ids[label]) for name, start, end, label in rows if label in ids]
    return checked(Annotations(videos, segments, names, notes=notes), faults=faults)


def write_activitynet(path: str | Path, annotations: Annotations) -> None:
    """Write annotations in ActivityNet's form; `read_activitynet` reads them back.

    Raises:
        AnnotationError: If the duration of a video is unknown.
    """
    theirs = {ours: name for name, ours in _SUBSETS.items()}
    database = {}
    for name, segments in annotations.by_video().items():
        video = annotations.videos[name]
        if video.duration is None:
            raise AnnotationError(f"the duration of {name} is unknown; fill it in with Annotations.with_durations")
        rows = [{"label": annotations.name_of(s.label), "segment": [s.start, s.end]} for s in segments]
        subset = theirs.get(video.subset, video.subset)
        database[name] = {"duration": video.duration, "subset": subset, "annotations": rows}
    Path(path).write_text(json.dumps({"version": "kinema", "database": database}, indent=1) + "\n", encoding="utf-8")


def durations_of(videos: Iterable[str], annotations: Annotations) -> dict[str, float]:
    """The lengths of these videos in seconds.

    Raises:
        AnnotationError: If one is unknown.
    """
    durations = {name: annotations.videos[name].duration for name in videos}
    unknown = [name for name, duration in durations.items() if duration is None]
    if unknown:
        raise AnnotationError(
            f"the durations of {len(unknown)} videos are unknown, such as {unknown[0]}; fill them in with "
            "Annotations.with_durations"
        )
    return {name: duration for name, duration in durations.items() if duration is not None}


def _video(entry: Any, where: str) -> AnnotatedVideo:
    if not isinstance(entry, dict) or "subset" not in entry:
        raise AnnotationError(f"{where}: 'duration', 'subset' and 'annotations' were expected, found {entry!r:.80}")
    duration = entry.get("duration")
    if duration is not None and not (_is_number(duration) and duration > 0):
        raise AnnotationError(f"{where}: the duration is {duration!r}; seconds above 0 were expected")
    subset = str(entry["subset"])
    return AnnotatedVideo(None if duration is None else float(duration), _SUBSETS.get(subset, subset))


def _row(row: Any, where: str) -> tuple[float, float, str]:
    times = row.get("segment") if isinstance(row, dict) else None
    label = row.get("label") if isinstance(row, dict) else None
    if not isinstance(label, str) or not isinstance(times, list) or len(times) != 2 or not all(map(_is_number, times)):
        raise AnnotationError(
            f"{where}: 'label' and 'segment' [start, end] in seconds were expected, found {row!r:.80}"
        )
    return float(times[0]), float(times[1]), label


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
