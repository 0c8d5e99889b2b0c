"""Annotations of segments: forms of ActivityNet and EPIC-KITCHENS-100, and what is refused or counted."""

import json

import pytest

from kinema.data.datasets.epic_segments import read_epic
from kinema.data.manifest import ManifestError
from kinema.data.untrimmed.segments import (
    AnnotatedVideo,
    AnnotationError,
    Annotations,
    Segment,
    checked,
    durations_of,
    read_activitynet,
    write_activitynet,
)


def listed(tmp_path, database):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"version": "1", "database": database}))
    return path


def entry(*segments, subset="training", duration=20.0):
    rows = [{"label": label, "segment": [start, end]} for start, end, label in segments]
    return {"duration": duration, "subset": subset, "url": "", "annotations": rows}


def test_activitynet_s_form_is_read_and_written(tmp_path):
    database = {"b": entry((3, 5.5, "run"), (1, 2, "jump")), "a": entry((0, 20, "sit"), subset="validation")}
    database["c"] = entry(subset="testing")
    read = read_activitynet(listed(tmp_path, database))
    assert read.classes == ["jump", "run", "sit"] and not read.notes
    assert read.segments == [Segment("b", 3, 5.5, 1), Segment("b", 1, 2, 0), Segment("a", 0, 20, 2)]
    assert read.videos == {
        "b": AnnotatedVideo(20.0, "train"),
        "a": AnnotatedVideo(20.0, "val"),
        "c": AnnotatedVideo(20.0, "test"),
    }
    assert [s.start for s in read.by_video()["b"]] == [1, 3] and read.by_video()["c"] == []
    assert read.where(subset="val").segments == [Segment("a", 0, 20, 2)] and read.name_of(1) == "run"
    write_activitynet(tmp_path / "again.json", read)
    again = read_activitynet(tmp_path / "again.json")
    assert again.videos == read.videos and again.by_video() == read.by_video() and again.classes == read.classes
    other = read_activitynet(listed(tmp_path, database), classes=["sit", "jump", "run", "fly"])
    assert other.segments[0].label == 2 and len(other.classes) == 4
    with pytest.raises(AnnotationError, match="no video is of the subset 'dev'; the subsets are test, train, val"):
        read.where(subset="dev")


FAULTS = [
    ((5, 5, "run"), "1 segments empty or reversed, such as b from 5 to 5 s"),
    ((6, 5, "run"), "empty or reversed"),
    ((19, 21, "run"), "1 segments outside of their video, such as b from 19 to 21 s, which lasts 20 s"),
    ((-1, 2, "run"), "outside of their video"),
    ((20, 20.4, "run"), "outside of their video"),
    ((1, 2, "swim"), r"1 segments of classes that are none of the 2, such as 'swim' \(b\)"),
]


@pytest.mark.parametrize("fault, text", FAULTS)
def test_faulty_segments_are_refused_or_counted(tmp_path, fault, text):
    path = listed(tmp_path, {"b": entry((1, 2, "run"), fault, (3, 4, "sit"))})
    with pytest.raises(AnnotationError, match=text + r".*faults='count' \(--data.faults count\)"):
        read_activitynet(path, classes=["run", "sit"])
    read = read_activitynet(path, classes=["run", "sit"], faults="count")
    assert [(s.start, s.end) for s in read.segments] == [(1, 2), (3, 4)]
    assert len(read.notes) == 1 and "left out" in read.notes[0]


def test_videos_of_unknown_subsets_are_refused_or_counted(tmp_path):
    database = {"a": entry((1, 2, "run")), "b": entry((1, 2, "fly"), subset="trainig"), "c": entry(subset="val")}
    path = listed(tmp_path, database)
    with pytest.raises(
        AnnotationError, match=r"1 videos of unknown subsets \(known are training, .*such as b of 'trainig'"
    ):
        read_activitynet(path)
    read = read_activitynet(path, faults="count")
    assert list(read.videos) == ["a", "c"] and read.classes == ["run"] and len(read.segments) == 1
    assert len(read.notes) == 1 and "b of 'trainig'" in read.notes[0] and "left out" in read.notes[0]
    assert read_activitynet(path, subsets=["trainig"]).videos["b"].subset == "trainig"


def test_what_sticks_out_by_little_is_cut_and_counted(tmp_path):
    read = read_activitynet(listed(tmp_path, {"b": entry((18, 20.4, "run"), (-0.3, 2, "run"))}))
    assert [(s.start, s.end) for s in read.segments] == [(18, 20), (0, 2)]
    assert read.notes == ["2 segments stuck out of their video by up to 0.5 s and were cut at its edge"]


def test_segments_of_no_video_and_times_that_are_no_numbers_are_faults():
    videos = {"a": AnnotatedVideo(None, "train")}
    strange = [Segment("z", 0, 1, 0), Segment("a", 0, float("inf"), 0), Segment("a", 0, 1, 0)]
    with pytest.raises(
        AnnotationError, match=r"of videos that the list does not have, such as z.*no numbers, such as a"
    ):
        checked(Annotations(videos, strange, ["run"]))
    assert checked(Annotations(videos, strange, ["run"]), faults="count").segments == strange[2:]


def test_durations_that_come_later_are_checked_too():
    annotations = Annotations({"a": AnnotatedVideo(None, "train")}, [Segment("a", 5, 9, 0)], ["run"])
    with pytest.raises(AnnotationError, match="durations of 1 videos are unknown"):
        durations_of(["a"], annotations)
    with pytest.raises(AnnotationError, match="outside of their video"):
        annotations.with_durations({"a": 7.0})
    assert durations_of(["a"], annotations.with_durations({"a": 9.0})) == {"a": 9.0}
    with pytest.raises(AnnotationError, match="the duration of a is unknown"):
        write_activitynet("nowhere.json", annotations)


@pytest.mark.parametrize(
    "content, text",
    [
        ("{", "no whole JSON"),
        ('{"results": {}}', r"'database' of videos was expected, found \['results'\]"),
        ('{"database": {"a": {"annotations": []}}}', "'subset'"),
        ('{"database": {"a": {"subset": "training", "duration": -1}}}', "seconds above 0"),
        ('{"database": {"a": {"subset": "train", "duration": 1, "annotations": [{"label": "x"}]}}}', r"\[start, end\]"),
        (
            '{"database": {"a": {"subset": "train", "annotations": [{"label": "x", "segment": [1, "2"]}]}}}',
            "in seconds",
        ),
        ('{"database": {"a": {"subset": "training", "duration": 3, "annotations": []}}}', "no segment is annotated"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, content, text):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(AnnotationError, match=text):
        read_activitynet(tmp_path / "list.json")


HEAD = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)


def row(number, video, start, end, verb, noun):
    return (
        f"{video}_{number},P01,{video},00:00:01.0,{start},{end},8,202,open door,open,{verb},door,{noun},door,[{noun}]"
    )


@pytest.fixture
def epic(tmp_path):
    def call(train, val, info=None, verbs=3):
        (tmp_path / "EPIC_100_train.csv").write_text("\n".join([HEAD, *train]))
        (tmp_path / "EPIC_100_validation.csv").write_text("\n".join([HEAD, *val]))
        (tmp_path / "EPIC_100_verb_classes.csv").write_text(
            "id,key\n" + "\n".join(f"{n},verb{n}" for n in range(verbs))
        )
        (tmp_path / "EPIC_100_noun_classes.csv").write_text("id,key\n" + "\n".join(f"{n},noun{n}" for n in range(4)))
        if info:
            (tmp_path / "EPIC_100_video_info.csv").write_text("video_id,duration,fps,resolution\n" + "\n".join(info))
        return tmp_path

    return call


def test_epic_kitchens_is_read(epic):
    train = [row(0, "P01_01", "00:00:00.14", "00:00:03.37", 2, 3), row(1, "P01_01", "00:01:01.5", "01:00:02", 0, 1)]
    val = [row(0, "P02_01", "00:00:00.00", "00:00:01.00", 1, 0)]
    read = read_epic(epic(train, val, ["P01_01,4000.5,50,1920x1080"]))
    assert read.segments[:2] == [Segment("P01_01", 0.14, 3.37, (2, 3)), Segment("P01_01", 61.5, 3602.0, (0, 1))]
    assert read.videos == {"P01_01": AnnotatedVideo(4000.5, "train"), "P02_01": AnnotatedVideo(None, "val")}
    assert read.tasks == {"verb": ["verb0", "verb1", "verb2"], "noun": ["noun0", "noun1", "noun2", "noun3"]}
    assert read.name_of((2, 3)) == "verb2 noun3" and read.classes == read.tasks["verb"]


def test_faults_of_epic_kitchens_are_refused_or_counted(epic):
    good = row(9, "P01_01", "00:00:01", "00:00:02", 0, 0)
    strange = [row(0, "P01_01", "00:00:03", "00:00:01", 0, 0), row(1, "P01_01", "00:00:00", "00:00:01", 7, 0)]
    val = [row(0, "P02_01", "00:00:00.00", "00:00:01.00", 1, 0)]
    folder = epic([good, *strange], val)
    with pytest.raises(
        AnnotationError, match=r"1 segments empty or reversed.*1 segments of unknown classes, such as verb 7"
    ):
        read_epic(folder)
    read = read_epic(folder, faults="count")
    assert len(read.segments) == 2 and len(read.notes) == 2
    with pytest.raises(ManifestError, match="P01_01 is of train already"):
        read_epic(epic([good], [good]))
    with pytest.raises(ManifestError, match="is no number of seconds"):
        read_epic(epic([good], val, ["P01_01,long,50,a"]))
