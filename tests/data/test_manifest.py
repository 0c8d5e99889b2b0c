"""Manifests: what they say, and every way they can be wrong."""

from fractions import Fraction
from pathlib import Path

import pytest

from kinema.data.manifest import ManifestError, VideoRecord, read_manifest, resolve, split_by_path


def write(tmp_path, text, name="list.csv"):
    (tmp_path / name).write_text(text)
    return read_manifest(name, root=tmp_path)


def test_names_are_sorted_into_ids_and_other_columns_kept(tmp_path):
    manifest = write(
        tmp_path, "path,label,start,end,split,subject,fps\nb.mp4,walk,0.5,3.25,train,p1,30\na.mp4,jump,,,val,p2,25\n"
    )
    assert manifest.class_names == ["jump", "walk"]
    assert manifest.records[0] == VideoRecord("b.mp4", 1, Fraction(1, 2), Fraction(13, 4), "train", "p1", {"fps": "30"})
    assert manifest.records[1].start is None
    assert [record.path for record in manifest.where(split="val").records] == ["a.mp4"]
    assert [record.path for record in manifest.where(subjects=["p1"]).records] == ["b.mp4"]


def test_integer_labels_are_ids(tmp_path):
    manifest = write(tmp_path, "path,label\na.mp4,10\nb.mp4,2\n")
    assert [record.label for record in manifest.records] == [10, 2]
    assert manifest.class_names == [str(index) for index in range(11)]


def test_given_class_names_fix_the_ids(tmp_path):
    (tmp_path / "l.csv").write_text("path,label\na.mp4,walk\nb.mp4,0\n")
    manifest = read_manifest("l.csv", root=tmp_path, class_names=["run", "walk"])
    assert [record.label for record in manifest.records] == [1, 0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,class\na.mp4,walk\n", "lacks the column label; found"),
        ("path,label\n", "has a header but no rows"),
        ("", "lacks the column path and label"),
        ("path,label\na.mp4,\n", "line 2: path and label must both be given"),
        ("path,label\na.mp4,walk\na.mp4,walk\n", "lines 2 and 3 name the same sample"),
        ("path,label\n../b.mp4,walk\n", "leaves the data root"),
        ("path,label\n/etc/b.mp4,walk\n", "leaves the data root"),
        ("path,label,start,end\na.mp4,walk,3,2\n", "end 2 does not lie after start 3"),
        ("path,label,start\na.mp4,walk,soon\n", "start must be seconds such as 3.25, got 'soon'"),
        ("path,label,start\na.mp4,walk,-1\n", "must not be negative"),
        ("path,label\na.mp4,-1\n", "the label -1 is below 0"),
        (
            "path,label\na.mp4,lift it, then rest\n",
            "line 2 has 3 values for 2 columns, a.mp4 and so on; put .* into quotes",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, match):
    with pytest.raises(ManifestError, match=match):
        write(tmp_path, text)


def test_label_outside_the_given_classes(tmp_path):
    (tmp_path / "l.csv").write_text("path,label\na.mp4,7\n")
    with pytest.raises(ManifestError, match=r"line 2: the label '7' is none of the 2 classes; ids run from 0 to 1"):
        read_manifest("l.csv", root=tmp_path, class_names=["run", "walk"])


def test_missing_manifest(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        read_manifest("none.csv", root=tmp_path)


def test_same_file_twice_with_other_times_is_two_samples(tmp_path):
    manifest = write(tmp_path, "path,label,start,end\na.mp4,walk,0,1\na.mp4,walk,1,2\n")
    assert len(manifest) == 2


def test_folder_per_class(tmp_path):
    for name in ("walk/a.mp4", "walk/deep/b.MKV", "jump/c.avi", "jump/notes.txt", ".hidden/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    manifest = read_manifest(tmp_path, root=tmp_path)
    assert manifest.class_names == ["jump", "walk"]
    assert {(record.path, record.label) for record in manifest.records} == {
        ("jump/c.avi", 0),
        ("walk/a.mp4", 1),
        ("walk/deep/b.MKV", 1),
    }


def test_folder_without_videos(tmp_path):
    (tmp_path / "walk").mkdir()
    with pytest.raises(ManifestError, match="no video found"):
        read_manifest(tmp_path, root=tmp_path)


def test_split_keeps_every_class_on_both_sides_and_does_not_depend_on_the_order(tmp_path):
    text = "path,label\n" + "".join(f"{name}{i}.mp4,{name}\n" for name in ("jump", "walk") for i in range(10))
    manifest = write(tmp_path, text)
    train, val = split_by_path(manifest, val_fraction=0.2)
    assert len(val) == 4 and len(train) == 16
    assert {record.label for record in val.records} == {0, 1}
    assert not {record.path for record in val.records} & {record.path for record in train.records}
    lines = text.splitlines(keepends=True)
    again = split_by_path(write(tmp_path, lines[0] + "".join(reversed(lines[1:]))), val_fraction=0.2)
    assert {record.path for record in again[1].records} == {record.path for record in val.records}


def test_split_of_single_videos_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="at least two videos of a class"):
        split_by_path(write(tmp_path, "path,label\na.mp4,x\nb.mp4,y\n"), val_fraction=0.2)


def test_resolve_follows_dots_inside_the_root(tmp_path):
    assert resolve(VideoRecord("a/../b.mp4", 0), tmp_path) == tmp_path / "b.mp4"
    with pytest.raises(ManifestError, match="leaves the data root"):
        resolve(VideoRecord("a/../../b.mp4", 0), tmp_path)


def test_resolve_of_a_root_that_is_itself_written_with_dots(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert resolve(VideoRecord("a.mp4", 0), Path("../data")) == tmp_path / "data" / "a.mp4"
    with pytest.raises(ManifestError, match="leaves the data root"):
        resolve(VideoRecord("../here/a.mp4", 0), Path("../data"))


VERB_NOUN = "path,label.verb,label.noun,start,end\na.mp4,take,cup,0,1\na.mp4,put,cup,0,1\nb.mp4,take,knife,,\n"


def test_several_labels_have_a_column_each(tmp_path):
    manifest = write(tmp_path, VERB_NOUN)
    assert manifest.tasks == {"verb": ["put", "take"], "noun": ["cup", "knife"]}
    assert manifest.class_names == ["put", "take"]
    assert [record.labels for record in manifest.records] == [(1, 0), (0, 0), (1, 1)]
    assert manifest.records[0].metadata == {}
    train, val = split_by_path(manifest, val_fraction=0.5)
    assert train.tasks == val.tasks == manifest.where(split="").tasks == manifest.tasks


def test_names_of_several_labels_fix_their_ids(tmp_path):
    (tmp_path / "l.csv").write_text(VERB_NOUN)
    names = {"verb": ["take", "put"], "noun": ["knife", "fork", "cup"]}
    manifest = read_manifest("l.csv", root=tmp_path, class_names=names)
    assert [record.labels for record in manifest.records] == [(0, 2), (1, 2), (0, 0)]
    with pytest.raises(ManifestError, match=r"class names were given for one label, and .* has 'verb', 'noun'"):
        read_manifest("l.csv", root=tmp_path, class_names=["take", "put"])
    with pytest.raises(ManifestError, match=r"the label 'cup' is none of the 1 classes"):
        read_manifest("l.csv", root=tmp_path, class_names=names | {"noun": ["knife"]})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,label,label.noun\na.mp4,x,y\n", "has the columns label and label.noun; name each label"),
        ("path,label.verb,label.noun\na.mp4,x,\n", "line 2: path and label must both be given"),
        ("path,label.verb,label.noun\na.mp4,x,y\na.mp4,x,y\n", "lines 2 and 3 name the same sample"),
    ],
)
def test_what_is_wrong_with_several_labels(tmp_path, text, match):
    with pytest.raises(ManifestError, match=match):
        write(tmp_path, text)


def test_two_classes_of_one_name_are_refused(tmp_path):
    (tmp_path / "l.csv").write_text("path,label\na.mp4,walk\n")
    for names in (["walk", "run", "walk"], {"": ["walk", "run", "walk"]}):
        with pytest.raises(ManifestError, match="the names of the classes hold 'walk' twice"):
            read_manifest("l.csv", root=tmp_path, class_names=names)


def test_a_video_of_many_samples_stands_on_one_side(tmp_path):
    rows = [
        f"{video}.mp4,{(7 * video + part) % 5},{part},{part + 1}" for video in range(20) for part in range(video + 1)
    ]
    manifest = write(tmp_path, "path,label,start,end\n" + "\n".join(rows) + "\n")
    train, val = split_by_path(manifest, val_fraction=0.2)
    sides = [{record.path for record in side.records} for side in (train, val)]
    assert not sides[0] & sides[1] and len(sides[1]) == 4
    assert len(train) + len(val) == len(rows)


def test_samples_of_one_class_in_a_video_stay_together_class_by_class(tmp_path):
    rows = [f"{name}{i}.mp4,{name},{k},{k + 1}" for name in ("jump", "walk") for i in range(5) for k in range(3)]
    train, val = split_by_path(write(tmp_path, "path,label,start,end\n" + "\n".join(rows) + "\n"), val_fraction=0.2)
    assert {record.label for record in val.records} == {0, 1} and len(val) == 6
    assert not {record.path for record in val.records} & {record.path for record in train.records}


def test_names_of_samples_tell_the_seconds_of_a_part():
    names = [
        VideoRecord("a.mp4", 0, start, end).name
        for start, end in ((None, None), (Fraction(3, 2), Fraction(4)), (Fraction(1, 3), None), (None, Fraction(2)))
    ]
    assert names == ["a.mp4", "a.mp4#t=1.5,4", "a.mp4#t=0.3333333333", "a.mp4#t=,2"]
