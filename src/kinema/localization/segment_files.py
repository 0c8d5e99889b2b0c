"""Segments that were found in a video, as files that other programs read: JSON and CSV."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kinema.data.video_names import printable


@dataclass(frozen=True)
class FoundSegment:
    """One segment that was found.

    Args:
        start: Second at which it begins.
        end: Second at which it ends.
        label: Name of what happens.
        score: How sure the network is.
    """

    start: float
    end: float
    label: str
    score: float


def write_json(
    path: Path, video: str, duration: float, segments: Sequence[FoundSegment], facts: Mapping[str, Any]
) -> None:
    """Write what was found, and by what.

    Args:
        path: File to write.
        video: Name of the video.
        duration: Its length in seconds.
        segments: What was found, best first.
        facts: Which networks found it; JSON.
    """
    whole = {"video": printable(video), "duration": duration, **facts, "segments": [asdict(each) for each in segments]}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, segments: Sequence[FoundSegment]) -> None:
    """Write what was found: start,end,label,score, a segment a line, best first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(FoundSegment))
        writer.writerows((f"{each.start:.3f}", f"{each.end:.3f}", each.label, f"{each.score:.6f}") for each in segments)


def clock(seconds: float) -> str:
    """Seconds as people read them: 1:02.3, and 1:02:03.4 from an hour on."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"
