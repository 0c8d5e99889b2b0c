"""Feature files: read back as written, and refused where they are not whole."""

import os
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from kinema.data.untrimmed.feature_files import (
    FeatureError,
    FeatureFile,
    describe,
    feature_path,
    read,
    read_video,
)
from kinema.data.untrimmed.feature_writing import feature_rows, write


def made(logits=None, count=4, dim=3):
    centers = torch.arange(count, dtype=torch.float64) / 3 + 0.1
    times = (centers - 0.05, centers, centers + 0.05)
    return FeatureFile("P01_01", torch.randn(count, dim), *times, 1.9, 29.97, 8, 16, "tada2d_r50", "c0ffee", logits)


@pytest.mark.parametrize("logits", [None, torch.randn(4, 5), {"verb": torch.randn(4, 2), "noun": torch.randn(4, 7)}])
def test_what_is_written_is_read(tmp_path, logits):
    file = made(logits)
    path = write(tmp_path / "new", file)
    assert path == tmp_path / "new" / "P01_01.safetensors" and [p.name for p in path.parent.iterdir()] == [path.name]
    got = read_video(tmp_path / "new", "P01_01")
    for name in ("features", "starts", "centers", "ends"):
        assert (
            torch.equal(getattr(got, name), getattr(file, name))
            and getattr(got, name).dtype == getattr(file, name).dtype
        )
    for name in ("video", "duration", "fps", "stride", "clip_frames", "model", "commit", "tasks"):
        assert getattr(got, name) == getattr(file, name)
    assert got.tensors_of_logits().keys() == file.tensors_of_logits().keys()
    assert all(torch.equal(value, file.tensors_of_logits()[name]) for name, value in got.tensors_of_logits().items())
    facts = describe(path)
    widths = {None: {}, torch.Tensor: {"": 5}, dict: {"verb": 2, "noun": 7}}
    assert facts.num_classes == widths[None if logits is None else type(logits)]
    assert (facts.video, facts.dim, facts.duration) == ("P01_01", 3, 1.9) and torch.equal(facts.centers, file.centers)


@pytest.mark.parametrize("counts", [(4,), (1, 2, 1), (0, 3, 0, 1)])
def test_clip_by_clip_it_is_the_same_file(tmp_path, counts):
    file = made({"verb": torch.randn(4, 2), "noun": torch.randn(4, 7)})
    whole = write(tmp_path / "whole", file).read_bytes()
    facts, done = describe(tmp_path / "whole" / "P01_01.safetensors"), 0
    facts = replace(facts, num_classes={"verb": 2, "noun": 7})
    with feature_rows(tmp_path, facts, model=file.model, commit=file.commit) as rows:
        for count in counts:
            place = slice(done, done + count)
            rows.add(file.features[place], {task: part[place] for task, part in file.logits.items()})
            done += count
        assert not (tmp_path / "P01_01.safetensors").exists()
    assert (tmp_path / "P01_01.safetensors").read_bytes() == whole
    loaded = safetensors.torch.load(whole)
    assert torch.equal(loaded["features"], file.features) and torch.equal(loaded["logits.noun"], file.logits["noun"])
    assert torch.equal(loaded["ends"], file.ends) and (int.from_bytes(whole[:8], "little") + 8) % 8 == 0


def test_a_file_that_is_not_written_to_the_end_is_none(tmp_path):
    write(tmp_path / "whole", file := made(torch.randn(4, 5)))
    facts = describe(tmp_path / "whole" / "P01_01.safetensors")
    one = {"": file.logits[:1]}
    with pytest.raises(FeatureError, match="3 of 4 clips were added; add all"), feature_rows(tmp_path, facts) as rows:
        rows.add(file.features[:3], {"": file.logits[:3]})
    for features, logits, text in (
        (file.features[:1, :2], one, "'features': 2"),
        (file.features[:1], {}, "columns of 4 clips were told"),
        (file.features[:2], one, r"of \[1, 2\] clips were added to 1"),
        (file.features, {"": file.logits}, "added to 1"),
        (file.features[:1] * float("nan"), one, "features of 1 clips are not finite, first of clip 1"),
        (file.features[:1], {"": one[""] * float("inf")}, "logits of 1 clips are not finite, first of clip 1"),
    ):
        with pytest.raises(FeatureError, match=text), feature_rows(tmp_path, facts) as rows:
            rows.add(file.features[:1], one)
            rows.add(features, logits)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
def test_others_may_read_them_as_other_files(tmp_path):
    (tmp_path / "other").touch()
    assert write(tmp_path, made()).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_tasks_come_back_verb_first(tmp_path):
    write(tmp_path, made({"noun": torch.zeros(4, 7), "verb": torch.zeros(4, 2)}))
    assert read_video(tmp_path, "P01_01").tasks == ["verb", "noun"]


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"features": torch.zeros(0, 3)}, "at least one of each"),
        ({"features": torch.zeros(4)}, "at least one of each"),
        ({"features": torch.full((4, 3), float("nan"))}, "features of 4 clips are not finite"),
        ({"logits": torch.full((4, 3), float("inf"))}, "logits of 4 clips are not finite"),
        ({"logits": torch.zeros(3, 5)}, "one row of class scores per clip"),
        ({"centers": torch.tensor([0.1, 0.4, 0.4, 0.9])}, "rise from clip to clip"),
        ({"starts": torch.tensor([0.3, 0.1, 0.2, 0.4])}, "rise from clip to clip"),
        ({"ends": torch.zeros(4)}, "start before its middle"),
        ({"centers": torch.zeros(3)}, "one second per clip"),
        ({"duration": 0.0}, "duration is 0.0"),
        ({"fps": float("nan")}, "fps is nan"),
    ],
)
def test_what_cannot_be_is_refused(changes, text):
    with pytest.raises(FeatureError, match=text):
        replace(made(), **changes)


def test_files_that_are_not_whole_are_refused(tmp_path):
    path = write(tmp_path, made())
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(FeatureError, match="damaged"):
        read(path)
    safetensors.torch.save_file({"features": torch.zeros(2, 2)}, path)
    with pytest.raises(FeatureError, match="centers, clip_frames, duration, ends, fps, starts, stride, video missing"):
        read(path)
    with pytest.raises(FeatureError, match="missing"):
        describe(path)
    path.write_bytes(whole)
    path.rename(tmp_path / "P02.safetensors")
    with pytest.raises(FeatureError, match="is of the video 'P01_01'; it was renamed"):
        read_video(tmp_path, "P02")
    with pytest.raises(FileNotFoundError, match="kinema features"):
        read_video(tmp_path, "P03")
    tensors = {name: getattr(made(), name) for name in ("features", "starts", "centers", "ends")}
    facts = {"video": "a", "duration": "long", "fps": "30", "stride": "8", "clip_frames": "16"}
    safetensors.torch.save_file(tensors, path, facts)
    with pytest.raises(FeatureError, match="duration is 'long'; a number"):
        read(path)


@pytest.mark.parametrize("video", ["", "..", "a/b", "../a"])
def test_names_that_lead_elsewhere_are_refused(video):
    with pytest.raises(FeatureError, match="no name of a video"):
        feature_path("folder", video)
