"""Segments as files, a picture and a page."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

from kinema.data.untrimmed.segments import Segment
from kinema.localization.page import write_page
from kinema.localization.results import write_results
from kinema.localization.segment_files import FoundSegment, clock
from kinema.localization.timeline import draw_timeline

EVIL = """<script>alert("x")</script> & 'both' $\\frac$"""
FOUND = [
    FoundSegment(61.25, 63.5, "grow", 0.75),
    FoundSegment(2, 4.125, EVIL, 0.5),
    FoundSegment(3, 4, "grow", 1 / 3),
    FoundSegment(70, 71, "fade in", -0.1),
]


class Read(HTMLParser):
    """What a browser would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.scripts, self.inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.text).append(data)

    def handle_endtag(self, tag):
        self.inside = ""

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def written(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    video = tmp_path / "in" / "50% <b>#1?.mp4"
    video.write_bytes(b"video")
    page = write_results(tmp_path / "out", video, 80.0, FOUND, top=3, facts={"classifier": {"model": "tsm"}})
    return video, page


def test_files_hold_all_segments_best_first(written):
    video, page = written
    whole = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert whole["video"] == video.name and whole["duration"] == 80 and whole["classifier"] == {"model": "tsm"}
    assert [FoundSegment(**row) for row in whole["segments"]] == FOUND
    with page.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["start"]), float(row["end"]), row["label"]) for row in rows] == [
        (each.start, each.end, each.label) for each in FOUND
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([each.score for each in FOUND], abs=1e-6)


def test_the_page_shows_the_best_in_the_order_of_time(written):
    page = Read(written[1].read_text(encoding="utf-8"))
    times = [(float(each["data-start"]), float(each["data-end"])) for each in page.of("button") if "data-start" in each]
    bars, rows = times[:3], times[3:]
    assert rows == [(2, 4.125), (3, 4), (61.25, 63.5)] and sorted(bars) == sorted(rows)
    assert "0:02.0 to 0:04.1" in page.text and "1:01.2 to 1:03.5" in page.text
    assert "fade in" not in "".join(page.text)
    (now,) = [each for each in page.of("div") if each.get("id") == "now"]
    assert float(now["data-duration"]) == 80


def test_labels_and_names_are_text(written):
    page = Read(written[1].read_text(encoding="utf-8"))
    assert len(page.scripts) == 1 and "alert" not in page.scripts[0] and not page.of("b")
    assert page.text.count(EVIL) == 2, "beside its bar and in the list"
    assert EVIL in next(each["title"] for each in page.of("button") if EVIL in each.get("title", ""))
    assert any("50% <b>#1?.mp4" in text for text in page.text)


def test_the_video_is_found_from_the_page(written):
    from urllib.parse import unquote

    video, path = written
    (player,) = Read(path.read_text(encoding="utf-8")).of("video")
    assert re.fullmatch(r"[\w./%-]+", player["src"]), "nothing that an address would read as something else"
    assert (path.parent / unquote(player["src"])).resolve() == video.resolve()
    assert not re.search(r"(src|href)=\"https?:", path.read_text(encoding="utf-8")), "nothing is fetched"


def test_bars_lie_where_their_times_say(written):
    page = Read(written[1].read_text(encoding="utf-8"))
    for each in page.of("button"):
        if "style" in each and "data-start" in each:
            left, width = (float(re.search(rf"{name}:([\d.]+)%", each["style"])[1]) for name in ("left", "width"))
            start, end = float(each["data-start"]), float(each["data-end"])
            assert left == pytest.approx(100 * start / 80, abs=0.01)
            assert width == pytest.approx(100 * (end - start) / 80, abs=0.01)


def test_nothing_found(tmp_path):
    video = tmp_path / "video.mp4"
    page = write_results(tmp_path, video, 5.0, [])
    assert "No segment was found" in page.read_text() and page.with_suffix(".png").stat().st_size > 1000
    assert page.with_suffix(".csv").read_text() == "start,end,label,score\n"


def test_a_title_and_a_note(tmp_path):
    write_page(tmp_path / "page.html", tmp_path / "v.mp4", 5.0, [], title="a < b", note="c & d")
    page = Read((tmp_path / "page.html").read_text())
    assert "a < b" in page.text and "c & d" in page.text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0:00.0"),
        (4.04, "0:04.0"),
        (59.96, "1:00.0"),
        (62.25, "1:02.2"),
        (3599.99, "1:00:00.0"),
        (7325.4, "2:02:05.4"),
    ],
)
def test_seconds_as_people_read_them(seconds, told):
    assert clock(seconds) == told


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw, and give the bars: (row, start, end, filled, opacity), and the names of the rows."""
    from matplotlib.figure import Figure

    def draw(*args, **options):
        kept = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, path: kept.append(figure))
        draw_timeline(tmp_path / "t.png", *args, **options)
        (axes,) = kept[0].axes
        names = [
            (place, name.get_text()) for place, name in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        ]
        bars = [
            (
                min(names, key=lambda name: abs(name[0] - bar.get_y() - bar.get_height() / 2))[1],
                bar.get_x(),
                bar.get_x() + bar.get_width(),
                bar.get_fill(),
                bar.get_alpha(),
            )
            for bar in axes.patches
        ]
        return bars, axes

    return draw


def test_every_segment_is_a_bar_in_the_row_of_its_class_the_surer_the_darker(drawn):
    bars, axes = drawn(80.0, FOUND)
    assert sorted((row, start, end) for row, start, end, *_ in bars) == sorted(
        (each.label if each.label != EVIL else f"{EVIL[:27]}…", each.start, each.end) for each in FOUND
    )
    shades = {start: shade for _, start, _, _, shade in bars}
    assert shades[61.25] > shades[2] > shades[3] > shades[70] > 0 and axes.get_xlim() == (0, 80)


def test_what_is_annotated_is_outlined_in_the_rows_of_its_class(drawn):
    truth = [Segment("v", 60.0, 64.0, 1), Segment("v", 8.0, 9.0, 0)]
    bars, axes = drawn(80.0, FOUND[:1], truth=truth, truth_names=["fade in", "grow"])
    outlined = [(row, start, end) for row, start, end, filled, _ in bars if not filled]
    assert outlined == [("grow", 60, 64), ("fade in", 8, 9)] and "outlined" in axes.get_xlabel()


def test_a_picture_with_a_title_still_says_what_its_colours_mean(drawn):
    _, axes = drawn(80.0, FOUND, title="val.mp4")
    assert axes.get_title() == "val.mp4" and axes.get_xlabel() == f"{len(FOUND)} segments, the surer the darker"


def test_segments_of_a_class_that_overlap_stand_in_lanes(drawn):
    found = [FoundSegment(start, 20 + start, "grow", 0.9 - start / 10) for start in range(6)]
    bars, axes = drawn(40.0, [*found, FoundSegment(30, 34, "grow", 0.7), FoundSegment(30, 30.5, "grow", 0.1)])
    heights = [round(bar.get_y() + bar.get_height() / 2, 3) for bar in axes.patches]
    lanes = {start: height for (_, start, *_), height in zip(bars, heights, strict=True)}
    assert len(set(heights)) == 4 and lanes[0] < lanes[1] < lanes[2] < lanes[3] == lanes[4] == lanes[5]
    assert all(tuple(bar.get_edgecolor())[:3] == (1, 1, 1) for bar in axes.patches)
    told = [text.get_text() for text in axes.texts]
    assert "0.90" in told and "0.70" in told and "0.10" not in told, "too narrow"


@pytest.mark.parametrize("duration", [0.0123, 0.1, 0.9, 3.0, 61.0, 4000.0])
def test_the_ticks_of_time_differ(duration, drawn):
    _, axes = drawn(duration, [])
    told = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(told)) == len(told) >= 3


def test_a_video_without_length():
    with pytest.raises(ValueError, match="lasts 0"):
        draw_timeline("t.png", 0.0, [])
