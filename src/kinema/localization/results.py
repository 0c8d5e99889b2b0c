"""The results of localizing one video: two files for programs, a picture and a page for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.data.untrimmed.segments import Annotations
from kinema.data.video_names import printable
from kinema.localization.page import write_page
from kinema.localization.segment_files import FoundSegment, write_csv, write_json
from kinema.localization.timeline import draw_timeline


def write_results(
    folder: Path,
    video: Path,
    duration: float,
    segments: Sequence[FoundSegment],
    *,
    top: int = 20,
    facts: Mapping[str, Any] | None = None,
    annotations: Annotations | None = None,
) -> Path:
    """Write `<video>.json`, `.csv`, `.png` and `.html` into a folder; returns the page.

    Args:
        folder: Where they go; it must exist.
        video: The video file; the page leads to where it lies.
        duration: Its length in seconds.
        segments: What was found, best first.
        top: How many of them picture and page show, in the order of time.
        facts: What the JSON file says beside them.
        annotations: What happens in videos of this name is outlined in the picture.
    """
    write_json(folder / f"{video.stem}.json", video.name, duration, segments, facts or {})
    write_csv(folder / f"{video.stem}.csv", segments)
    shown = sorted(segments[:top], key=lambda each: (each.start, each.end, -each.score))
    truth = [] if annotations is None else annotations.by_video().get(video.stem, [])
    names = [] if annotations is None else annotations.classes
    picture = folder / f"{video.stem}.png"
    draw_timeline(picture, duration, shown, truth=truth, truth_names=names, title=printable(video.name))
    page = folder / f"{video.stem}.html"
    note = f"The {len(shown)} surest of {len(segments)} segments, in the order of time; the surer, the darker."
    write_page(page, video, duration, shown, note=note)
    return page
