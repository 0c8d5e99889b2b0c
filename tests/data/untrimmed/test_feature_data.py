"""The data module of feature files: what it yields, leaves out, counts and refuses."""

import json
from dataclasses import replace

import pytest
import torch

from kinema.data.untrimmed import feature_data, feature_files
from kinema.data.untrimmed.feature_data import FeatureData
from kinema.data.untrimmed.feature_files import FeatureError, read, read_video
from kinema.data.untrimmed.feature_writing import write
from kinema.data.untrimmed.segments import AnnotationError

from made import CLASSES, made_set


@pytest.fixture
def made(tmp_path):
    features, annotations = made_set(tmp_path, num_videos=4)

    def data(**options):
        module = FeatureData(str(features), str(annotations), **({"num_bins": 15, "max_bins": 10} | options))
        module.setup("fit")
        return module

    data.features, data.annotations = features, annotations
    return data


def batches(loader):
    return list(loader)


def test_training_windows_hold_features_and_their_segments(made):
    data = made(batch_size=2)
    assert (data.dim, data.class_names, data.num_classes, data.tasks) == (8, CLASSES, (3,), {})
    (batch, rest) = batches(data.train_dataloader())
    assert batch["features"].shape == (2, 8, 15) and rest["features"].shape == (1, 8, 15)
    found = {}
    for one in (batch, rest):
        for name, segments, labels, columns in zip(
            one["names"], one["segments"], one["labels"], one["features"], strict=True
        ):
            found[name] = (segments.tolist(), labels.tolist())
            for (start, end), (label,) in zip(segments.tolist(), labels.tolist(), strict=True):
                middle = int((start + end) / 2)
                assert columns[:, middle].argmax() == label
    # video0: 3 to 9 s is jump, 15 to 19 s is run; a bin is 2 s.
    assert found["video0 from 0 s"] == ([[1.5, 4.5], [7.5, 9.5]], [[0], [1]]) and len(found) == 3


def test_sliding_windows_without_a_whole_segment_are_counted(made):
    data = made(bin_s=1.0, num_bins=8, max_bins=8)
    names = [name for batch in batches(data.train_dataloader()) for name in batch["names"]]
    assert len(names) == len(set(names)) < 12
    assert any(f"{12 - len(names)} training windows without a whole" in note for note in data.notes)
    with pytest.raises(FeatureError, match=r"none of .* training windows holds a whole segment; windows of 1 s"):
        made(bin_s=0.25, num_bins=4, max_bins=4)


def test_evaluation_yields_whole_videos_in_order(made):
    (video,) = (batch[0] for batch in batches(made(bin_s=1.0, num_bins=16, max_bins=8).val_dataloader()))
    assert video["name"] == "video3" and video["features"].shape == (4, 8, 16) and len(video["windows"]) == 4
    assert [w.start for w in video["windows"]] == [0, 8, 16, 24]
    assert [len(s) for s in video["segments"]] == [1, 1, 1, 0] and video["file"].duration == 30
    moved = made().transfer_batch_to_device([video], torch.device("meta"), 0)[0]
    assert moved["features"].device.type == "meta" and moved["name"] == "video3"


def test_the_order_follows_the_seed_and_the_epoch(made):
    def names(seed, epoch):
        loader = made(batch_size=1, seed=seed).train_dataloader()
        loader.batches.set_epoch(epoch)
        return [batch["names"][0] for batch in loader]

    orders = {(seed, epoch): names(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert names(0, 0) == orders[0, 0] and len({tuple(order) for order in orders.values()}) > 1


def test_videos_without_a_file_are_refused_or_counted(made):
    (made.features / "video1.safetensors").unlink()
    with pytest.raises(
        FeatureError, match=r"1 of 3 'train' videos have no feature file .* video1.safetensors \(it holds 3"
    ):
        made()
    data = made(missing="count")
    assert "1 of 3 'train' videos have no feature file: left out" in data.notes
    assert set(data.annotations["train"].videos) == {"video0", "video2"}
    (made.features / "video3.safetensors").unlink()
    with pytest.raises(FeatureError, match="1 of 1 'val' videos have no feature file"):
        made(missing="count")


def test_names_may_have_a_prefix(made):
    for path in list(made.features.iterdir()):
        file = read(path)
        write(made.features, replace(file, video=f"v_{file.video}"))
        path.unlink()
    data = made(prefix="v_")
    assert data.file("video0").video == "v_video0" and set(data.annotations["val"].videos) == {"video3"}


def test_features_of_two_networks_or_of_other_classes_are_refused(made):
    file = read_video(made.features, "video2")
    write(made.features, replace(file, features=file.features[:, :4]))
    with pytest.raises(FeatureError, match="of video2 have 4 channels and those of video0 8"):
        made()
    write(made.features, replace(file, logits=torch.zeros(len(file), 5)))
    with pytest.raises(
        FeatureError, match=r"has scores of 5 classes and the annotations have 3 classes; .*--data.classes FILE"
    ):
        made()


def test_durations_are_those_of_the_files(made):
    database = json.loads(made.annotations.read_text())
    database["database"]["video0"]["duration"] = 60.0
    made.annotations.write_text(json.dumps(database))
    data = made()
    assert "video0 with 30 s in place of 60 s" in data.notes[0]
    assert next(w for w in data.windows.of(data.facts["video0"].duration)).length == pytest.approx(30)
    database["database"]["video0"]["annotations"][0]["segment"] = [40, 50]
    made.annotations.write_text(json.dumps(database))
    with pytest.raises(AnnotationError, match="video0 from 40 to 50 s, which lasts 30 s"):
        made()
    assert any("outside of their video" in note for note in made(faults="count").notes)


def test_classes_may_be_named_in_the_order_of_the_scores(made, tmp_path):
    (tmp_path / "classes.txt").write_text("sit\nrun\njump\n")
    data = made(classes=str(tmp_path / "classes.txt"))
    assert data.class_names == ["sit", "run", "jump"] and data.annotations["train"].segments[0].label == 2
    with pytest.raises(FileNotFoundError, match="write one name a line"):
        made(classes="nowhere.txt")


def test_classes_are_those_written_beside_the_features(made, tmp_path):
    (made.features / "classes.txt").write_text("sit\nrun\njump\n")
    data = made()
    assert data.class_names == ["sit", "run", "jump"] and data.annotations["train"].segments[0].label == 2
    (tmp_path / "classes.txt").write_text("run\nsit\njump\n")
    assert made(classes=str(tmp_path / "classes.txt")).class_names == ["run", "sit", "jump"]


def without_scores(folder):
    for path in folder.glob("*.safetensors"):
        write(folder, replace(read(path), logits=None))


@pytest.mark.parametrize("names", ["sit\nrun\nhop\n", "sit\nrun\n"])
def test_classes_that_the_scores_do_not_have_are_unknown(made, names):
    """Sorted names would stand for the columns of other classes: 'hop' for the scores of 'jump'."""
    (made.features / "classes.txt").write_text(names)
    with pytest.raises(AnnotationError, match=r"1 annotated classes not among the \d names of .*classes.txt.* 'jump'"):
        made()
    if "hop" in names:
        data = made(faults="count")
        assert data.class_names == ["sit", "run", "hop"] and "'jump': left out" in data.notes[0]
        assert any("segments of classes that are none of the 3, such as 'jump'" in note for note in data.notes)
    without_scores(made.features)
    data = made()
    assert data.class_names == ["jump", "run", "sit"] and "such as 'jump': it is not used" in data.notes[0]


@pytest.mark.parametrize("placing", ["time", "rows"])
def test_training_reads_the_rows_of_its_windows_alone(made, monkeypatch, placing):
    read_then = []

    def rows(*arguments, **options):
        read_then.append(len(found := feature_files.read_rows(*arguments, **options)))
        return found

    monkeypatch.setattr(feature_data, "read_rows", rows)
    options = {"bin_s": 0.5, "num_bins": 24, "max_bins": 8, "hop_bins": 12, "placing": placing}
    kept, data = made(in_memory=True, **options), made(**options)
    wanted = list(kept.train_dataloader())
    assert not read_then
    monkeypatch.setattr(feature_data, "read_video", None)  # nothing reads a whole file
    got = list(data.train_dataloader())
    windows = [len(batch["names"]) for batch in got]
    assert len(read_then) == sum(windows) and max(read_then) <= 26, "of 59 clips"
    for one, other in zip(wanted, got, strict=True):
        assert one["names"] == other["names"] and torch.equal(one["features"], other["features"])


def test_rows_that_are_broken_or_gone_are_refused(made):
    data = made()
    file = read_video(made.features, "video0")
    write(made.features, replace(file, features=file.features[:9], logits=None, **first(file, 9)))
    with pytest.raises(FeatureError, match=r"there were 59 clips and are 9 now; start again"):
        data.columns("video0", data.windows.of(30.0)[0])
    path = made.features / "video1.safetensors"
    (place,) = (path.read_bytes().find(read(path).features[k].numpy().tobytes()) for k in (7,))
    with path.open("r+b") as broken:
        broken.seek(place)
        broken.write(b"\xff\xff\xff\xff")
    with pytest.raises(FeatureError, match="video1: features of 1 clips are not finite, first of clip 7"):
        data.columns("video1", data.windows.of(30.0)[0])
    (made.features / "video2.safetensors").rename(path)
    with pytest.raises(FeatureError, match="is of the video 'video2'; it was renamed"):
        made(missing="count")


def first(file, count):
    return {name: getattr(file, name)[:count] for name in ("starts", "centers", "ends")}


def test_windows_that_show_no_clip_are_counted(made):
    file = read_video(made.features, "video3")
    few = {name: getattr(file, name)[::20] for name in ("starts", "centers", "ends", "features", "logits")}
    write(made.features, replace(file, **few))
    data = made(bin_s=0.5, num_bins=8, max_bins=4, hop_bins=4, faults="count", missing="count", batch_size=1)
    (told,) = [note for note in data.notes if "show no clip" in note]
    windows = data.windows.of(30.0)
    unseen = [
        w
        for w in windows
        if not any(a < w.end and b > w.start for a, b in zip(few["starts"], few["ends"], strict=True))
    ]
    assert (
        unseen
        and f"{len(unseen)} of {len(windows)} windows of 'val' videos show no clip and are left out, such as video3 from"
        in told
    )
    (video,) = next(iter(data.val_dataloader()))
    assert len(video["features"]) == len(video["windows"]) == len(windows) - len(unseen)


def test_files_are_kept_in_memory_only_if_asked_for(made):
    kept, read_anew = made(in_memory=True), made()
    assert kept.file("video0") is kept.file("video0")
    assert read_anew.file("video0") is not read_anew.file("video0")


def test_a_folder_that_does_not_exist_is_said(made):
    with pytest.raises(FeatureError, match="does not exist; write it with 'kinema features'"):
        FeatureData("nowhere", str(made.annotations)).setup()


def without_segments(annotations, *names):
    content = json.loads(annotations.read_text())
    for name in names:
        content["database"][name]["annotations"] = []
    annotations.write_text(json.dumps(content))


def test_a_video_in_which_nothing_is_annotated_has_no_targets(made):
    content = json.loads(made.annotations.read_text())
    content["database"]["video2"]["subset"] = "validation"
    made.annotations.write_text(json.dumps(content))
    without_segments(made.annotations, "video1", "video2")
    (made.features / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    data = made()
    (name,) = [name for batch in data.train_dataloader() for name in batch["names"]]
    assert name.startswith("video0") and any("1 training windows without a whole" in note for note in data.notes)
    labels = {batch[0]["name"]: batch[0]["labels"] for batch in data.val_dataloader()}
    (empty,) = labels["video2"]
    assert empty.shape == (0, 1) and empty.dtype == torch.int64 and len(labels["video3"][0]) == 2


def test_a_validation_part_in_which_nothing_is_annotated_is_refused(made):
    without_segments(made.annotations, "video3")
    with pytest.raises(FeatureError, match=r"none of the 1 'val' videos \(subset 'val'\) has a segment"):
        made()


def test_segments_that_no_window_holds_or_no_proposal_reaches_are_counted(made):
    data = made(bin_s=0.5, num_bins=20, max_bins=20)
    names = [name for batch in data.train_dataloader() for name in batch["names"]]
    held = sum(len(segments) for batch in data.train_dataloader() for segments in batch["segments"])
    assert 0 < held < 6 and len(names) <= held
    assert (
        f"{6 - held} of 6 training segments lie wholly in no window and are not learnt from, such as" in data.notes[-1]
    )
    told = "windows of 20 bins begin every 20: a segment of more than 0 bins may lie wholly in none; give a smaller"
    assert any(told in note for note in data.notes)
    data = made(bin_s=0.5, num_bins=24, max_bins=10, hop_bins=16)
    assert any("more than 8 bins may lie wholly in none; give --data.hop_bins 14 or less" in n for n in data.notes)
    assert any("3 of 6 'train' segments are longer than the longest proposal, 10 bins" in n for n in data.notes)
    assert any("1 of 2 'val' segments are longer" in n for n in data.notes)
    assert made(bin_s=0.5, num_bins=32, max_bins=12, hop_bins=16).notes[:-1] == []
    assert any("longer than the longest proposal, 2 bins" in note for note in made(max_bins=2).notes)
