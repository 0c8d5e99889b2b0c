"""Clips from manifests: the same whatever the worker, all forms of listing videos, and what must be refused."""

import shutil

import pytest
import torch

from kinema.data.clips import collate
from kinema.data.datasets import UTDMHADDepth
from kinema.data.manifest import ManifestError

from motion_module import module


def epoch_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.batches.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("sampling", ["segment", "dense"])
def test_batches_are_the_same_for_any_number_of_workers(motion, sampling):
    alone = epoch_of(module(motion, sampling=sampling, stride_frames=3))
    shared = epoch_of(module(motion, sampling=sampling, stride_frames=3, num_workers=2))
    assert len(alone) == 9
    for one, two in zip(alone, shared, strict=True):
        assert one["names"] == two["names"]
        assert torch.equal(one["clip"], two["clip"])
        assert one["clip"].shape == (4, 3, 8, 32, 32) and one["clip"].dtype == torch.uint8


def test_epochs_and_seeds_change_the_pixels(motion):
    def pixels(seed, epoch):
        dataset = module(motion, seed=seed).train_dataloader().dataset
        return dataset[epoch, 3]["clip"]

    assert torch.equal(pixels(5, 0), pixels(5, 0))
    assert not torch.equal(pixels(5, 0), pixels(5, 1))
    assert not torch.equal(pixels(5, 0), pixels(6, 0))


def test_sampling_leaves_the_global_generators_alone(motion, monkeypatch):
    dataset = module(motion).train_dataloader().dataset
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for accelerator in (torch.cuda, torch.xpu, torch.mps):  # their draws belong to the network, dropout's for one
        for seed in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(accelerator, seed, lambda _: pytest.fail("seeds an accelerator"), raising=False)
    dataset[0, 3]
    assert torch.equal(torch.get_rng_state(), before)


def test_all_views_of_a_video_come_together(motion):
    (sample,) = (module(motion, num_clips=2, num_crops=3, eval_batch_size=1).val_dataloader().dataset[0],)
    assert sample["view"].tolist() == list(range(6)) and sample["num_views"].tolist() == [6] * 6
    assert len({tuple(clip.flatten().tolist()) for clip in sample["clip"]}) >= 3
    assert sample["clip"].shape == (6, 3, 8, 32, 32)


def test_start_and_end_choose_part_of_the_video(motion, tmp_path):
    name = sorted(path.name for path in (motion / "videos").rglob("*.mp4"))[0]
    path = next((motion / "videos").rglob(name)).relative_to(motion)
    for part in ("train", "val"):
        (tmp_path / f"{part}.csv").write_text(f"path,label,start,end\n{path},a,0,0.2\n{path},b,0.4,0.6\n")
    shutil.copytree(motion / "videos", tmp_path / "videos")
    dataset = module(tmp_path, batch_size=2, sampling="segment", num_frames=4).val_dataloader().dataset
    assert dataset[0]["end"][0] <= 0.25
    assert not torch.equal(dataset[0]["clip"], dataset[1]["clip"])


def test_a_folder_per_class_is_split_by_itself(motion, tmp_path):
    for index, path in enumerate(sorted((motion / "videos").rglob("*.mp4"))[:20]):
        target = tmp_path / ("walk" if index % 2 else "run") / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    data = module(tmp_path)
    assert data.class_names == ["run", "walk"]
    assert (len(data.manifests["train"]), len(data.manifests["val"])) == (16, 4)


def test_options_are_chosen_on_videos_held_out_of_training(motion):
    whole, part = module(motion), module(motion, hold_out=0.25)
    paths = {name: {record.path for record in part.manifests[name].records} for name in ("train", "val", "test")}
    assert paths["train"] | paths["val"] == {record.path for record in whole.manifests["train"].records}
    assert not paths["train"] & paths["val"] and paths["test"] == paths["val"]
    assert {record.label for record in part.manifests["val"].records} == set(range(len(whole.class_names)))
    with pytest.raises(ValueError, match=r"hold_out=1.5 is no share of the training videos"):
        module(motion, hold_out=1.5)


def test_one_manifest_with_a_split_column(motion, tmp_path):
    rows = ["path,label,split"]
    for part in ("train", "val"):
        lines = (motion / f"{part}.csv").read_text().splitlines()[1:6]
        rows += [f"{line.split(',')[0]},{line.split(',')[1]},{part}" for line in lines]
    shutil.copytree(motion / "videos", tmp_path / "videos")
    (tmp_path / "all.csv").write_text("\n".join(rows) + "\n")
    data = module(tmp_path, manifest="all.csv")
    assert len(data.manifests["train"]) == 5 and data.manifests["test"] is data.manifests["val"]


def test_a_label_that_training_does_not_have(motion, tmp_path):
    shutil.copytree(motion / "videos", tmp_path / "videos")
    line = (motion / "train.csv").read_text().splitlines()[1].split(",")[0]
    (tmp_path / "train.csv").write_text(f"path,label\n{line},a\n")
    (tmp_path / "val.csv").write_text(f"path,label\n{line},b\n")
    with pytest.raises(ManifestError, match=r"the label 'b' is none of the 1 classes"):
        module(tmp_path)


def test_wrong_roots_and_missing_files_are_refused(motion, tmp_path):
    with pytest.raises(ManifestError, match="is not a folder; give the folder of your videos"):
        module(tmp_path / "nowhere")
    shutil.copy(motion / "train.csv", tmp_path / "train.csv")
    with pytest.raises(ManifestError, match="no 'val' beside them"):
        module(tmp_path)
    shutil.copy(motion / "val.csv", tmp_path / "val.csv")
    with pytest.raises(ManifestError, match=r"36 of 36 'train' videos are missing"):
        module(tmp_path)


def test_flip_pairs_are_named_classes(motion):
    with pytest.raises(ManifestError, match="flip_pairs names the class 'walk'"):
        module(motion, flip=0.5, flip_pairs=[("walk", "move_left")]).train_dataloader()


def test_clips_of_different_shapes_do_not_make_a_batch(motion):
    small, large = (module(motion, size=size).val_dataloader().dataset[0] for size in (32, 36))
    with pytest.raises(ValueError, match="clips of different shapes"):
        collate([small, large])


def test_utd_mhad_holds_out_one_training_subject_for_development(tmp_path):
    rows = ["path,label,split,subject,trial,frames"]
    for subject in range(1, 8):
        split = "train" if subject in (1, 3, 5, 7) else "val"
        rows += [f"videos/{name}_{subject}.mp4,{name},{split},{subject},1,60" for name in ("sit", "stand")]
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    whole = UTDMHADDepth(str(tmp_path)).read_manifests()
    part = UTDMHADDepth(str(tmp_path), protocol="development").read_manifests()
    assert {record.subject for record in whole["val"].records} == {"2", "4", "6"}
    assert {record.subject for record in part["train"].records} == {"1", "3", "5"}
    assert {record.subject for record in part["val"].records} == {"7"}
    with pytest.raises(ValueError, match="held_out must be a training subject"):
        UTDMHADDepth(str(tmp_path), held_out="2")


def folders_of_classes(motion, root, places):
    for index, path in enumerate(sorted((motion / "videos").rglob("*.mp4"))[: 4 * len(places)]):
        target = root / places[index % len(places)] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def test_test_videos_without_training_videos_are_not_passed_over(motion, tmp_path):
    folders_of_classes(motion, tmp_path, ["run", "walk"])
    (tmp_path / "mine.csv").write_text(f"path,label\nrun/{next((tmp_path / 'run').iterdir()).name},run\n")
    for option in ({"test": "mine.csv"}, {"val": "mine.csv"}):
        with pytest.raises(ManifestError, match=r"mine.csv is there for '\w+', and nothing says which .* training"):
            module(tmp_path, **option)
    (tmp_path / "mine.csv").rename(tmp_path / "val.csv")
    with pytest.raises(ManifestError, match=r"val.csv is there for 'val'"):
        module(tmp_path)


def test_a_class_may_be_called_test_and_a_split_may_not_become_one(motion, tmp_path):
    folders_of_classes(motion, tmp_path / "a", ["rest", "test"])
    assert module(tmp_path / "a").class_names == ["rest", "test"]
    folders_of_classes(motion, tmp_path / "b", ["training/run", "validation/run"])
    with pytest.raises(ManifestError, match=r"\['training', 'validation'\] in .* are named as parts of a data set"):
        module(tmp_path / "b")
    folders_of_classes(motion, tmp_path / "c", ["run", "test/run"])
    with pytest.raises(ManifestError, match="test is there for 'test'"):
        module(tmp_path / "c")


def test_a_manifest_and_lists_beside_it_are_not_both_read(motion):
    with pytest.raises(ValueError, match=r"manifest=all.csv says by its column split what test=mine.csv says too"):
        module(motion, manifest="all.csv", test="mine.csv")


def test_another_word_for_a_split_is_refused(motion, tmp_path):
    lines = [line.split(",")[:2] for line in (motion / "train.csv").read_text().splitlines()[1:7]]
    splits = ["train", "train", "val", "val", "testing", "testing"]
    rows = [",".join([*line, split]) for line, split in zip(lines, splits, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    with pytest.raises(ManifestError, match=r"must say train, val or test, .*it says \['testing', 'train', 'val'\]"):
        module(tmp_path, manifest="all.csv")


def test_it_is_known_that_tests_are_those_of_validation(motion, tmp_path):
    assert module(motion).test_is_validation and module(motion, hold_out=0.25).test_is_validation
    assert not module(motion, test="val.csv").test_is_validation


def test_mirrored_crops_of_sided_classes_are_refused(motion):
    for pairs in (None, "auto", [("move_left", "move_right")]):
        with pytest.raises(ValueError, match=r"num_crops=10 scores five mirrored crops, and one of 'move_left' shows"):
            module(motion, num_crops=10, flip_pairs=pairs).test_dataloader()
    batch = next(iter(module(motion, num_crops=10, flip_pairs=[]).val_dataloader()))
    assert batch["num_views"][0] == 10


def test_a_class_that_has_no_other_video_is_replaced_by_one_of_another_class(motion, tmp_path):
    folders_of_classes(motion, tmp_path, ["run", "walk"])
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "only.mp4").write_bytes(b"no video")
    data = module(tmp_path, max_error_rate=0.5)
    dataset = data.train_dataloader().dataset
    broken = next(i for i, record in enumerate(data.manifests["train"].records) if record.path.endswith("only.mp4"))
    sample = dataset[0, broken]
    assert [name for name, _ in sample["failures"]] == ["alone/only.mp4"] and sample["label"][0] != 0


def test_substitutes_are_files_that_were_not_tried(motion, tmp_path):
    folders_of_classes(motion, tmp_path, ["run", "walk"])
    for path in sorted((tmp_path / "run").iterdir())[:-1]:
        path.write_bytes(b"no video")
    data = module(tmp_path, max_error_rate=1.0, val_fraction=0.1)
    dataset = data.train_dataloader().dataset
    for epoch in range(20):
        for index in range(len(dataset)):
            names = [name for name, _ in dataset[epoch, index]["failures"]]
            assert len(set(names)) == len(names)
