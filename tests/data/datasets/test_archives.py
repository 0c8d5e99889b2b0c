"""Readers of published annotation files: every sample where it lies with the right label, and what contradicts refused."""

import csv
import json
import random
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser

from kinema.data import datasets
from kinema.data.datamodule import VideoDataModule
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.archives import ARCHIVES, build_archive
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.manifest import ManifestError
from kinema.data.prepare import prepare_archive
from kinema.data.sampling import Segments, draw_clips
from kinema.data.shards.write import shard_videos

from archives import EPIC_COLUMNS, SOMETHING, epic_row, make_archive, write_csv, write_frames

OPTIONS = {"howto100m": {"min_videos": 2}}
CLIPS = {"num_frames": 4, "size": 32, "resize": 32, "batch_size": 2, "num_workers": 0, "train_crop": "center"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each archive, made once; tests that damage one copy it."""
    known: dict[str, ArchiveData] = {}

    def make(name):
        if name not in known:
            known[name] = make_archive(name, tmp_path_factory.mktemp(name), **OPTIONS.get(name, {}))
        return known[name]

    return make


@pytest.fixture
def copy(made, tmp_path):
    """A copy of an archive to damage; media are linked to."""

    def copied(name, **options):
        root = tmp_path / name
        shutil.copytree(made(name).root, root, copy_function=lambda a, b: Path(b).symlink_to(a))
        for path in root.rglob("*"):
            if path.suffix in (".csv", ".txt", ".json"):
                text = path.read_text()
                path.unlink()
                path.write_text(text)
        return build_archive(name, str(root), **{"subset": True} | OPTIONS.get(name, {}) | options)

    return copied


def edit(path, old, new, count=1):
    text = path.read_text()
    assert old in text, (old, text[:500])
    path.write_text(text.replace(old, new, count))


def labels_of(data):
    """Class name of each sample by the name of its file."""
    manifest = data.read_archive().manifest
    return {Path(record.path).stem: manifest.class_names[record.label] for record in manifest.records}


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_sample_is_found_and_makes_clips(made, name):
    data = made(name)
    manifest = data.read_archive().manifest
    assert len(manifest) >= 12 and "train" in manifest.splits
    assert all((data.root / record.path).exists() for record in manifest.records)
    again = build_archive(name, str(data.root), subset=True, **CLIPS, **OPTIONS.get(name, {}))
    again.setup()
    parts = again.manifests
    assert {part: len(records) > 0 for part, records in parts.items()} == {"train": True, "val": True, "test": True}
    paths = {part: {(record.path, record.start) for record in parts[part].records} for part in parts}
    assert not paths["train"] & (paths["val"] | paths["test"])
    for loader in (again.train_dataloader(), again.val_dataloader()):
        batch = next(iter(loader))
        assert batch["clip"].shape == (2, 3, 4, 32, 32) and batch["decoded"].all()
        assert batch["label"].shape == ((2, 2) if name == "epic100" else (2,))
        shown = [parts["train" if loader.batches.shuffle else "val"].records[index] for index in batch["video"]]
        assert torch.equal(batch["label"], torch.tensor([r.labels for r in shown]).reshape(batch["label"].shape))


def test_all_of_them_are_exported_with_their_options():
    classes = {kind for kind, _ in ARCHIVES.values()}
    assert len(ARCHIVES) == 12 and len(classes) == 10
    assert classes <= {getattr(datasets, name) for name in datasets.__all__}
    for kind in classes:
        parser = LightningArgumentParser()
        parser.add_lightning_class_args(kind, "data")
        keys = set(parser.get_defaults().keys())
        assert {
            "data.root",
            "data.annotations",
            "data.subset",
            "data.prepared",
            "data.num_frames",
            "data.frames",
        } <= keys
        assert not {"data.manifest", "data.train"} & keys, "the lists are the archive's"


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_part_of_a_release_is_taken_on_purpose_only(made, name):
    data = build_archive(name, str(made(name).root), **OPTIONS.get(name, {}))
    with pytest.raises(ManifestError, match=r"has [345] classes, .*(has \d+; .*subset=True)"):
        data.read_archive()


@pytest.mark.parametrize(
    ("name", "number"), [("jester", 27), ("ssv1", 174), ("ssv2", 174), ("ucf101", 101), ("hmdb51", 51)]
)
def test_a_release_has_its_number_of_classes(made, name, number):
    with pytest.raises(ManifestError, match=rf" has {number}; "):
        build_archive(name, str(made(name).root)).read_archive()


def test_brackets_in_the_lists_of_something_v1_are_no_part_of_a_class(copy):
    data = copy("ssv1")
    before = labels_of(data)
    for part in ("labels", "train"):
        for path in data.root.rglob(f"something-something-v1-{part}.csv"):
            edit(path, "Holding something next to something", "Holding [something] next to [something]", -1)
    assert (
        labels_of(data) == before and "Holding something next to something" in data.read_archive().manifest.class_names
    )


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_every_split_has_a_prepared_list_of_its_own(made, name):
    root = str(made(name).root)
    names = [build_archive(name, root, subset=True, split=split).archive_name for split in (1, 2, 3)]
    assert names == [f"{name}-split{split}" for split in (1, 2, 3)]


@pytest.mark.parametrize("name", ARCHIVES)
def test_annotations_elsewhere(copy, made, tmp_path, name):
    data = copy(name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in data.read_archive().files:
        path.rename(elsewhere / path.name)
    with pytest.raises(
        ManifestError, match=r"no annotation file .* copy it there from the release, or name its folder"
    ):
        data.read_archive()
    for annotations in (str(elsewhere), "../elsewhere"):
        data.annotations = annotations
        assert data.read_archive().manifest == made(name).read_archive().manifest
    data.annotations = "none"
    with pytest.raises(ManifestError, match=r"the folder of annotations is neither .*none nor none; correct"):
        data.read_archive()


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_missing_video_keeps_its_place_in_the_list(copy, made, name):
    data = copy(name)
    whole = made(name).read_archive().manifest
    lost = whole.records[0]
    path = data.root / lost.path
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    records = data.read_archive().manifest.records
    assert len(records) == len(whole)
    assert not (data.root / records[0].path).exists() and records[0].labels == lost.labels
    assert Path(records[0].path).stem.removeprefix("v_") == Path(lost.path).stem.removeprefix("v_")


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_same_sample_twice(copy, name):
    data = copy(name)
    first, *_ = [path for path in data.read_archive().files if "train" in path.name.lower()] or [
        path for path in data.read_archive().files if path.name.startswith(("HACS", "HowTo", "brush"))
    ]
    if first.suffix == ".json":
        entries = json.loads(first.read_text())
        first.write_text(json.dumps([*entries, entries[0]]))
    else:
        lines = first.read_text().splitlines()
        first.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(ManifestError, match=r"stands in .* and again in .*; a sample counts once"):
        data.read_archive()


def test_kinetics_names_and_classes(made):
    labels = labels_of(made("kinetics400"))
    assert labels["-a_B0000002_000014_000024"] == "air drumming"
    manifest = made("kinetics400").read_archive().manifest
    assert manifest.class_names == ["abseiling", "air drumming", "zumba"]
    assert {record.split for record in manifest.records} == {"train", "val", "test"}
    assert all(record.start is None and record.end is None for record in manifest.records), "the files are cut already"


def test_kinetics_of_another_version(copy):
    data = copy("kinetics600", subset=False)
    rows = [["label", "youtube_id", "time_start", "time_end", "split"]]
    rows += [[f"class {number:03d}", f"video{number:06d}", 0, 10, "train"] for number in range(400)]
    write_csv(data.root / "train.csv", rows)
    with pytest.raises(
        ManifestError, match="has 400 classes, Kinetics-600 has 600; give version=400, or give the annot"
    ):
        data.read_archive()
    with pytest.raises(ValueError, match="version=500 was given"):
        datasets.Kinetics(str(data.root), version=500)


def test_kinetics_clips_of_one_video(copy):
    data = copy("kinetics400")
    line = "abseiling,-a_B0000000,{},{},{},0\n"
    with (data.root / "val.csv").open("a") as file:
        file.write(line.format(5, 15, "val"))
    with pytest.raises(
        ManifestError, match=r"0 to 10 s .*5 to 15 s .* of the splits train and val overlap; correct one"
    ):
        data.read_archive()
    edit(data.root / "val.csv", line.format(5, 15, "val"), line.format(10, 20, "val"))
    assert len(data.read_archive().manifest) == 19, "clips that only touch do not overlap"
    with (data.root / "train.csv").open("a") as file:
        file.write(line.format(9, 10, "train"))
    with pytest.raises(ManifestError, match="overlap; correct one of them, or allow it with overlaps='count'"):
        data.read_archive()
    data.overlaps = "count"
    assert data.read_archive().notes == ["1 pairs of samples share a stretch of their video"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (
            "label,youtube_id,time_start",
            "label,youtube_id,start",
            "time_start not found; its first line has label, youtube",
        ),
        ("-a_B0000000,0,10", "-a_B0000000,10,0", r"train.csv line 2: the range 10 to 0 is empty or reversed"),
        ("-a_B0000000,0,10", "-a_B0000000,10,10", "is empty or reversed"),
        ("-a_B0000000,0,10", "-a_B0000000,zero,10", "the start 'zero' is no time"),
        ("-a_B0000000,0,10", "-a_B0000000,-1,10", "the start '-1' is no time"),
        (",0,10,train,0", ",0,10,val,0", "the split is 'val' in the list of train"),
        (",0,10,train,0", ",0,10,train", "6 columns were expected .*, found 5"),
    ],
)
def test_kinetics_lists_that_are_wrong(copy, old, new, match):
    data = copy("kinetics400")
    edit(data.root / "train.csv", old, new)
    with pytest.raises(ManifestError, match=match):
        data.read_archive()


def test_kinetics_labels_without_a_class_and_test_videos_without_labels(copy):
    data = copy("kinetics700")
    lines = (data.root / "test.csv").read_text().splitlines()
    write_csv(data.root / "test.csv", [row[1:] for row in csv.reader(lines)])
    assert data.read_archive().manifest.splits == ["train", "val"]
    edit(data.root / "val.csv", "zumba", "rumba")
    with pytest.raises(ManifestError, match=r"val.csv line 6: the label 'rumba' is none of the 3 classes"):
        data.read_archive()


def test_two_videos_of_one_name(copy):
    data = copy("kinetics400")
    path = data.root / data.read_archive().manifest.records[0].path
    (data.root / "val" / "zumba").mkdir(exist_ok=True)
    (data.root / "val" / "zumba" / path.name).symlink_to(path)
    assert data.read_archive().manifest.records[0].path.startswith("train/abseiling/"), "its split and class decide"
    (data.root / "train" / "abseiling" / path.with_suffix(".webm").name).symlink_to(path)
    with pytest.raises(ManifestError, match=r"two videos are called -a_B0000000_000000_000010: "):
        data.read_archive()


def test_links_in_a_circle_are_followed_once(copy):
    data = copy("kinetics400")
    (data.root / "train" / "again").symlink_to(data.root)
    assert len(data.read_archive().manifest) == 18


def test_a_class_list_of_another_order(copy):
    data = copy("ssv2", classes="classes.txt", **CLIPS)
    names = data.read_archive().manifest.class_names
    (data.root / "classes.txt").write_text("\n".join(names))
    data.read_manifests()
    (data.root / "classes.txt").write_text("\n".join(sorted(SOMETHING, reverse=True)).replace("[", "").replace("]", ""))
    with pytest.raises(
        ManifestError, match=r"has the 3 classes in another order: class 0 is 'Pulling .* right to left' there"
    ):
        data.read_manifests()
    (data.root / "classes.txt").write_text("\n".join(sorted(SOMETHING)))
    with pytest.raises(
        ManifestError, match=r"has 3 classes and the annotations 3; only in the list: \['Holding \[something"
    ):
        data.read_manifests()


def test_something_v2_labels_are_the_templates_without_brackets(made):
    labels = labels_of(made("ssv2"))
    assert labels["78687"] == "Pulling something from left to right"
    assert labels["78691"] == "Holding something next to something"


def test_something_v2_ids_come_from_its_list(copy):
    data = copy("ssv2")
    names = data.read_archive().manifest.class_names
    path = data.root / "something-something-v2-labels.json"
    path.write_text(json.dumps(dict(zip(names, ("2", "0", "1"), strict=True))))
    assert data.read_archive().manifest.class_names == [names[1], names[2], names[0]], (
        "by id, not as they stand in the file"
    )
    path.write_text(json.dumps({name: str(index + 1) for index, name in enumerate(names)}))
    with pytest.raises(ManifestError, match=r"ids of its 3 classes should be 0 to 2, each once, found \['3'\]"):
        data.read_archive()
    path.write_text(json.dumps(names))
    with pytest.raises(ManifestError, match="a mapping from class name to id was expected, found a list"):
        data.read_archive()
    path.write_text(json.dumps({names[0]: "0"}))
    with pytest.raises(ManifestError, match=r"train.json entry 0: the label 'Pulling .*' is none of the 1 classes"):
        data.read_archive()


def test_something_v2_lists_of_another_version(copy):
    data = copy("ssv2")
    path = data.root / "something-something-v2-train.json"
    whole = path.read_text()
    path.write_text("100218;Something falling like a feather or paper\n")
    with pytest.raises(ManifestError, match="is no whole JSON file"):
        data.read_archive()
    path.write_text(whole.replace('"template"', '"templates"'))
    with pytest.raises(
        ManifestError, match=r"entry 0: the fields template \(str\) were expected, found \['id', 'label', 'pl"
    ):
        data.read_archive()


@pytest.mark.parametrize(
    ("name", "option"), [("ssv1", "Holding something next to something"), ("jester", "Drumming Fingers")]
)
def test_two_orders_of_classes(made, name, option):
    root = str(made(name).root)
    by_name, listed = (build_archive(name, root, subset=True, class_order=order) for order in ("sorted", "listed"))
    assert by_name.read_archive().manifest.class_names[0] == option
    assert listed.read_archive().manifest.class_names[2] == option
    assert labels_of(by_name) == labels_of(listed)
    assert by_name.archive_name != listed.archive_name, "their prepared manifests must not be mixed up"


def test_something_v1_counts_twelve_frames_a_second(made):
    data = made("ssv1")
    (record, *_) = data.read_archive().manifest.records
    video = data.folders.open(data.root / record.path)
    assert video.num_frames == 12 and video.fps == 12
    assert labels_of(data)["100218"] == "Pulling something from left to right"


def test_something_v1_lists_that_are_wrong(copy):
    data = copy("ssv1")
    path = data.root / "something-something-v1-train.csv"
    whole = path.read_text()
    path.write_text(whole.replace(";", ","))
    with pytest.raises(ManifestError, match=r"line 1: 2 columns were expected \(id;label\), found 1"):
        data.read_archive()
    path.write_text(whole.replace("Holding", "Folding"))
    with pytest.raises(ManifestError, match="the label 'Folding something next to something' is none of the 3 classes"):
        data.read_archive()
    path.write_text("")
    with pytest.raises(ManifestError, match="lists nothing"):
        data.read_archive()


def test_mirrored_clips_that_would_keep_a_wrong_label_are_refused(made):
    data = build_archive("ssv1", str(made("ssv1").root), subset=True, flip=0.5, **CLIPS)
    data.setup()
    with pytest.raises(
        ValueError, match="then shows 'Pulling something from right to left', labelled as before; set flip_pairs"
    ):
        data.train_dataloader()
    wanted = build_archive("ssv1", str(made("ssv1").root), subset=True, flip=0.5, flip_pairs=[], **CLIPS)
    wanted.setup()
    assert wanted.train_dataloader() is not None
    harmless = build_archive("ucf101", str(made("ucf101").root), subset=True, flip=0.5, **CLIPS)
    harmless.setup()
    assert harmless.train_dataloader() is not None


def test_flip_pairs_of_an_archive(made):
    data = build_archive("ssv1", str(made("ssv1").root), subset=True, flip=0.5, flip_pairs="auto", **CLIPS)
    data.setup()
    assert data.train_dataloader().dataset.cut.transform.flip_pairs == ((1, 2),)


def test_epic_times_and_labels(made):
    data = made("epic100")
    manifest = data.read_archive().manifest
    assert manifest.tasks["verb"] == manifest.class_names == ["take", "put", "wash", "open"]
    second = manifest.records[1]
    assert (second.path, second.start, second.end) == ("P01/videos/P01_01.MP4", Fraction("0.36"), Fraction("0.84"))
    assert (manifest.class_names[second.label], manifest.tasks["noun"][second.further_labels[0]]) == ("put", "plate")
    assert second.subject == "P01" and second.metadata["narration_id"] == "P01_01_1"
    assert data.read_archive().notes == [], "what overlaps there is of other classes"


def test_epic_frames_of_folders_are_those_of_the_list(copy):
    root = copy("epic100").root
    rows = [EPIC_COLUMNS]
    rows += [epic_row(f"P{number:02d}_01", 0, 0.14, 0.37, 1, 1) for number in (1, 2)]
    for number, name in ((0, "train"), (1, "validation")):
        write_csv(root / f"EPIC_100_{name}.csv", [rows[0], rows[number + 1]])
        frames = [np.full((32, 32, 3), 6 * index, np.uint8) for index in range(1, 41)]  # the number of the file shows
        write_frames(root / "rgb_frames" / f"P{number + 1:02d}_01", frames, "frame_{:010d}.jpg")
    data = build_archive("epic100", str(root), subset=True, frames="frame_{:010d}.jpg", **CLIPS | {"num_frames": 15})
    assert data.archive_name == "epic100-frames"
    data.setup()
    (record,) = data.manifests["val"].records
    video = data.folders.open(data.root / record.path)
    sample = range(video.frame_at(record.start), video.frame_at(record.end))
    (clip,) = draw_clips(Segments(15), sample, fps=video.fps, kind="constant_clips_per_video", rng=random.Random(0))
    shown = (video.decode(clip.indices).float().mean((1, 2, 3)) / 6).round().int().tolist()
    assert shown == list(range(8, 23)), "frames 8 to 22, the last included"


def test_epic_frames_have_the_rate_of_their_video(copy):
    root = copy("epic100").root
    header = EPIC_COLUMNS
    write_csv(root / "EPIC_100_train.csv", [header, epic_row("P01_01", 0, 0.14, 0.37, 1, 1)])
    write_csv(root / "EPIC_100_validation.csv", [header, epic_row("P02_101", 0, 0.14, 0.37, 1, 1)])
    for name in ("P01_01", "P02_101"):
        write_frames(root / "rgb_frames" / name, np.zeros((40, 32, 32, 3), np.uint8), "frame_{:010d}.jpg")
    write_csv(root / "EPIC_100_video_info.csv", [["video_id", "duration", "fps"], ["P02_101", 0.8, "50.0"]])
    data = build_archive("epic100", str(root), subset=True, frames="frame_{:010d}.jpg", **CLIPS)
    data.setup()
    for split, name, fps in (("train", "P01_01", 60), ("val", "P02_101", 50)):
        (record,) = data.manifests[split].records
        assert data.folders.open(data.root / record.path).fps == fps, name
        assert (record.start * fps, record.end * fps) == (7, 22), "frames 8 to 22, counted from 1"
    edit(root / "EPIC_100_video_info.csv", "50.0", "fast")
    again = build_archive("epic100", str(root), subset=True, frames="frame_{:010d}.jpg", **CLIPS)
    with pytest.raises(ManifestError, match=r"EPIC_100_video_info.csv.*'fast' is no number"):
        again.setup()


def test_epic_frames_keep_the_rate_of_their_video_when_prepared_and_in_shards(copy, tmp_path):
    root = copy("epic100").root
    for name, number in (("train", 1), ("validation", 2)):
        write_csv(root / f"EPIC_100_{name}.csv", [EPIC_COLUMNS, epic_row(f"P{number:02d}_101", 0, 0.14, 0.37, 1, 1)])
        pictures = [np.full((32, 32, 3), 6 * index, np.uint8) for index in range(1, 41)]
        write_frames(root / "rgb_frames" / f"P{number:02d}_101", pictures, "frame_{:010d}.jpg")
    rates = [["video_id", "duration", "fps"], ["P01_101", 0.8, "50.0"], ["P02_101", 0.8, "29.97"]]
    write_csv(root / "EPIC_100_video_info.csv", rates)
    options = CLIPS | {"subset": True, "frames": "frame_{:010d}.jpg", "num_frames": 15, "batch_size": 1}

    def shown(where, **more):
        data = build_archive("epic100", str(where), **options, **more)
        data.setup()
        batch = next(iter(data.val_dataloader()))
        return (batch["clip"].float().mean((0, 1, 3, 4)) / 6).round().int().tolist()

    assert shown(root) == list(range(8, 23)), "frames 8 to 22, counted from 1"
    prepared = prepare_archive(build_archive("epic100", str(root), **options), num_workers=1, progress=False)
    shard_videos(
        [prepared.manifest], root, str(tmp_path / "out"), folders=FrameFolders("frame_{:010d}.jpg", 60), progress=False
    )
    (root / "EPIC_100_video_info.csv").unlink()  # the lists lie elsewhere, and are not named
    assert shown(root) == list(range(8, 23))
    assert shown("nowhere", shards=str(tmp_path / "out")) == list(range(8, 23))


def test_an_empty_label_is_no_class(copy):
    data = copy("kinetics400")
    path = next(data.root.rglob("*train.csv"))
    label = path.read_text().splitlines()[1].partition(",")[0]
    edit(path, f"\n{label},", "\n,")
    with pytest.raises(ManifestError, match=r"train\.csv.*the label is empty; write the class"):
        data.read_archive()


def test_epic_overlaps(copy):
    data = copy("epic100")
    with (data.root / "EPIC_100_train.csv").open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(epic_row("P01_01", 9, 0.2, 0.3, 0, 0))
    assert data.read_archive().notes == ["1 pairs of samples share a stretch of their video"]
    data.overlaps = "refuse"
    with pytest.raises(ManifestError, match="overlap; correct one of them, or allow it"):
        data.read_archive()
    data.overlaps = "count"
    with (data.root / "EPIC_100_validation.csv").open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(epic_row("P01_01", 10, 1.0, 1.2, 3, 3))
    with pytest.raises(ManifestError, match="of the splits train and val overlap"):
        data.read_archive()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (
            "00:00:00.00,00:00:00.48",
            "00:00:00.48,00:00:00.00",
            "the range 00:00:00.48 to 00:00:00.00 is empty or reversed",
        ),
        (",0,28,", ",28,0,", "the frames 28 to 0 are reversed"),
        ("verb_class", "verb_id", "verb_class not found"),
        ("take,0,tap,0", "take,4,tap,0", "verb_class 4 is none of the 4 verbs"),
        ("take,0,tap,0", "take,0,tap,x", "noun_class should be a whole number from 0 on, found 'x'"),
    ],
)
def test_epic_lists_that_are_wrong(copy, old, new, match):
    data = copy("epic100")
    edit(data.root / "EPIC_100_train.csv", old, new)
    with pytest.raises(ManifestError, match=match):
        data.read_archive()


def test_epic_classes_of_another_order(copy):
    data = copy("epic100")
    edit(data.root / "EPIC_100_noun_classes.csv", "0,tap", "1,tap")
    with pytest.raises(
        ManifestError, match="line 2: the id 0 was expected, found 1; the classes stand in another order"
    ):
        data.read_archive()


def test_ucf_splits(made):
    root = str(made("ucf101").root)
    parts = [build_archive("ucf101", root, subset=True, split=split).read_archive().manifest for split in (1, 2, 3)]
    tested = [{record.path for record in part.where(split="test").records} for part in parts]
    assert [len(paths) for paths in tested] == [6, 6, 6] and len(set.union(*tested)) == 18
    assert labels_of(made("ucf101"))["v_Archery_g05_c01"] == "Archery"
    with pytest.raises(ValueError, match="split=4 was given"):
        build_archive("ucf101", root, split=4)


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        (
            "classInd.txt",
            "1 ApplyEyeMakeup\n2 ApplyLipstick",
            "1 ApplyLipstick\n2 ApplyEyeMakeup",
            "in different orders",
        ),
        ("classInd.txt", "1 Apply", "0 Apply", "'1 <class>' was expected, found '0 ApplyEyeMakeup'; ids count from 1"),
        ("testlist01.txt", "Archery/", "Bowling/", "the label 'Bowling' is none of the 3 classes"),
    ],
)
def test_ucf_lists_that_are_wrong(copy, file, old, new, match):
    data = copy("ucf101")
    edit(data.root / "ucfTrainTestlist" / file, old, new)
    with pytest.raises(ManifestError, match=match):
        data.read_archive()


def test_ucf_test_videos_in_training(copy):
    data = copy("ucf101")
    folder = data.root / "ucfTrainTestlist"
    tested = (folder / "testlist01.txt").read_text().splitlines()[0]
    with (folder / "trainlist01.txt").open("a") as file:
        file.write(f"{tested} 1\n")
    with pytest.raises(
        ManifestError, match=r"stands in .*trainlist01.txt line 13 and again in .*testlist01.txt line 1"
    ):
        data.read_archive()


def test_hmdb_flags(made, copy):
    manifest = made("hmdb51").read_archive().manifest
    assert [len(manifest.where(split=split)) for split in ("train", "test", "")] == [6, 6, 0]
    labels = {record.path: (record.split, record.label) for record in manifest.records}
    assert labels["brush_hair/April_0_brush_hair_u_nm_np1_ba_goo_0.avi"] == ("test", 0)
    assert labels["cartwheel/April_8_cartwheel_u_nm_np1_ba_goo_0.avi"] == ("train", 1)
    data = copy("hmdb51", split=2)
    assert data.read_archive().manifest.where(split="test").records != manifest.where(split="test").records
    edit(data.root / "testTrainMulti_7030_splits" / "cartwheel_test_split2.txt", ".avi 1", ".avi 3")
    with pytest.raises(ManifestError, match=r"'<video> 0\|1\|2' was expected, found 'April_\d+_cartwheel.*avi 3'"):
        data.read_archive()


def test_diving_versions_and_ranges(copy):
    data = copy("diving48")
    assert data.read_archive().manifest.class_names[0] == "Back 15som 05Twis FREE"
    train = data.root / "Diving48_V2_train.json"
    whole = train.read_text()
    train.write_text(whole.replace('"start_frame": 0, "end_frame": 12', '"start_frame": 12, "end_frame": 3', 1))
    with pytest.raises(ManifestError, match="the frames 12 to 3 are empty or reversed"):
        data.read_archive()
    train.write_text(whole.replace('"label": 2', '"label": 3', 1))
    with pytest.raises(ManifestError, match=r"the label 3 is none of the 3 classes of Diving48_vocab.json"):
        data.read_archive()
    train.rename(data.root / "Diving48_train.json")
    with pytest.raises(
        ManifestError, match="is version 1 of the annotations, whose labels were corrected in version 2"
    ):
        data.read_archive()


def test_hacs_takes_what_is_seen_from_clips_or_whole_videos(copy):
    data = copy("hacs")
    (first, *others) = data.read_archive().manifest.records
    assert len(others) == 11 and (first.start, first.end) == (Fraction("0.1"), Fraction("0.3"))
    assert labels_of(data)["v_y-000000002"] == "BMX"
    path = data.root / first.path
    path.rename(path.with_name("y-000000000_0.1.mp4"))
    (clip, *_) = data.read_archive().manifest.records
    assert clip.path == "Archery/y-000000000_0.1.mp4" and clip.start is None and clip.end is None
    table = data.root / "HACS_clips_v1.1.1.csv"
    whole = table.read_text()
    edit(table, "Archery,y-000000000,training", "Archery,y-000000000,training2")
    with pytest.raises(ManifestError, match="the subset 'training2' is none of training, validation, testing"):
        data.read_archive()
    table.write_text(whole + "Archery,y-000000000,training,0.2,0.4,1\n")
    with pytest.raises(ManifestError, match="overlap; correct one of them"):
        data.read_archive()
    table.write_text(whole + "Archery,y-000000000,training,0.2,0.4,-1\n")
    assert len(data.read_archive().manifest) == 12


def test_howto_keeps_frequent_tasks_and_splits_by_name(made, copy):
    manifest = made("howto100m").read_archive().manifest
    assert manifest.class_names == ["Make Tea", "Fold a Shirt", "Paint a Wall"], "tasks in the order of their ids"
    assert labels_of(made("howto100m"))["v0000000008"] == "Paint a Wall"
    assert {record.label for record in manifest.where(split="test").records} == {0, 1, 2}
    data = copy("howto100m")
    (data.root / "videos").rename(data.root / "moved")
    moved = data.read_archive().manifest
    assert [record.split for record in moved.records] == [record.split for record in manifest.records]
    data.min_videos = 9
    with pytest.raises(ManifestError, match="no task has 9 videos, the most is 8"):
        data.read_archive()
    edit(data.root / "task_ids.csv", "103\tPaint a Wall\n", "")
    with pytest.raises(ManifestError, match="the label '103' is none of the 3 classes"):
        data.read_archive()


def test_names_that_leave_the_root(copy):
    data = copy("ssv2", **CLIPS)
    edit(data.root / "something-something-v2-train.json", '"78687"', '"../../78687"')
    with pytest.raises(ManifestError, match="leaves the data root"):
        data.setup()


def test_no_root_and_no_such_data_set(tmp_path):
    with pytest.raises(ManifestError, match="is not a folder; give the folder"):
        build_archive("kinetics400", str(tmp_path / "none")).setup()
    with pytest.raises(ValueError, match="there is no data set 'kinetics'; known are diving48, epic100"):
        build_archive("kinetics", str(tmp_path))
    with pytest.raises(ValueError, match=r"ucf101: .*versions.* see 'kinema fit --data.help UCF101'"):
        build_archive("ucf101", str(tmp_path), versions=2)


def test_they_are_video_data_modules():
    assert all(issubclass(kind, VideoDataModule) for kind, _ in ARCHIVES.values())
