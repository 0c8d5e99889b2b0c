"""A page with the video and its segments, to be clicked: one file that works where it lies, without a server."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from kinema.data.video_names import printable
from kinema.localization.segment_files import FoundSegment, clock

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; color: #222; }}
h1 {{ font-size: 1.2rem; overflow-wrap: anywhere; }}
video {{ width: 100%; max-height: 60vh; background: #111; }}
#bars {{ position: relative; margin: .8rem 0; border-left: 1px solid #bbb; border-right: 1px solid #bbb; }}
.row {{ position: relative; height: 1.3rem; border-top: 1px solid #eee; }}
.row > span {{ position: absolute; left: .3rem; font-size: .75rem; color: #666; pointer-events: none; z-index: 1; }}
.row > button {{ position: absolute; top: .15rem; bottom: .15rem; border: 0; padding: 0; background: #1f77b4; }}
button {{ cursor: pointer; }}
#now {{ position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #d62728; left: 0; z-index: 2; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .15rem .5rem; border-bottom: 1px solid #eee; }}
td button {{ font: inherit; border: 0; background: none; color: #0645ad; padding: 0; text-align: left; }}
.playing {{ background: #fff3cd; }}
</style>
</head>
<body>
"""

# No text of a video or a label gets in here: what a button plays stands in its attributes.
_SCRIPT = """<script>
"use strict";
const video = document.querySelector("video"), now = document.getElementById("now");
const buttons = [...document.querySelectorAll("button[data-start]")];
let stop = null;
for (const button of buttons) {
  button.addEventListener("click", () => {
    video.currentTime = Number(button.dataset.start);
    stop = Number(button.dataset.end);
    video.play();
  });
}
video.addEventListener("timeupdate", () => {
  if (stop !== null && video.currentTime >= stop) { video.pause(); stop = null; }
  now.style.left = 100 * video.currentTime / Number(now.dataset.duration) + "%";
  for (const button of buttons) {
    const inside = video.currentTime >= Number(button.dataset.start) && video.currentTime < Number(button.dataset.end);
    button.closest("tr")?.classList.toggle("playing", inside);
  }
});
video.addEventListener("error", () => { document.getElementById("missing").hidden = false; }, true);
</script>
"""


def write_page(
    path: Path, video: Path, duration: float, segments: Sequence[FoundSegment], *, title: str = "", note: str = ""
) -> None:
    """Write an HTML page: the video, a bar for each segment, and a list of them; a click plays a segment to its end.

    The video is not copied: the page names it by its path from the page, so both can be moved together. Whatever labels and
    names hold is shown as text.

    Args:
        path: File to write.
        video: Where the video lies.
        duration: Its length in seconds.
        segments: What was found, in the order of the list.
        title: Heading; the name of the video when empty.
        note: A line below it.
    """
    heading = escape(printable(title or video.name))
    parts = [
        _HEAD.format(title=heading),
        f"<h1>{heading}</h1>\n",
        f"<p>{escape(note)}</p>\n" if note else "",
        f'<video controls preload="metadata" src="{escape(_address(video, path.parent))}"></video>\n',
        '<p id="missing" hidden>The browser cannot play the video: it was moved, or is of a kind it does not know.</p>\n',
        _bars(segments, duration),
        _table(segments),
        _SCRIPT,
        "</body>\n</html>\n",
    ]
    path.write_text("".join(parts), encoding="utf-8")


def _address(video: Path, folder: Path) -> str:
    """The video as seen from the page; in full where no relative path leads there (another drive)."""
    try:
        relative = Path(os.path.relpath(video.absolute(), folder.absolute()))
    except ValueError:
        return video.absolute().as_uri()
    # A name such as "a:b.mp4" would be read as an address of its own.
    return quote(os.fsencode(f"./{relative.as_posix()}"))


def _bars(segments: Sequence[FoundSegment], duration: float) -> str:
    best = max((each.score for each in segments), default=0) or 1
    rows = []
    for label in sorted({each.label for each in segments}):
        bars = [
            f'<button {_times(each)} title="{escape(_told(each))}" style="left:{100 * each.start / duration:.3f}%;'
            f'width:{100 * (each.end - each.start) / duration:.3f}%;opacity:{0.2 + 0.8 * max(0.0, each.score / best):.2f}">'
            "</button>"
            for each in segments
            if each.label == label
        ]
        rows.append(f'<div class="row"><span>{escape(label)}</span>{"".join(bars)}</div>')
    lines = "\n".join([*rows, f'<div id="now" data-duration="{duration:.3f}"></div>'])
    return f'<div id="bars">\n{lines}\n</div>\n'


def _table(segments: Sequence[FoundSegment]) -> str:
    rows = [
        f"<tr><td><button {_times(each)}>{clock(each.start)} to {clock(each.end)}</button></td>"
        f"<td>{escape(each.label)}</td><td>{each.score:.3f}</td></tr>"
        for each in segments
    ]
    if not rows:
        return "<p>No segment was found.</p>\n"
    head = "<tr><th>when</th><th>what</th><th>score</th></tr>"
    return "\n".join(["<table>", head, *rows, "</table>", ""])


def _times(each: FoundSegment) -> str:
    return f'data-start="{each.start:.3f}" data-end="{each.end:.3f}"'


def _told(each: FoundSegment) -> str:
    return f"{each.label}, {clock(each.start)} to {clock(each.end)}, {each.score:.3f}"
