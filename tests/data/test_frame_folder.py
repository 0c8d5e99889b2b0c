"""Folders of pictures behind the interface of a video: the right picture for a number, and what is wrong by its name."""

import pickle
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from kinema.data.datamodule import VideoDataModule
from kinema.data.decoding import DecodeError
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.inspection import inspect_pictures

from archives import write_frames
from painted import numbers_in, paint

FRAMES = np.stack([paint(number) for number in range(20)])


@pytest.fixture
def folder(tmp_path):
    return write_frames(tmp_path / "video", FRAMES)


@pytest.mark.parametrize(
    ("template", "first"),
    [("{:05d}.jpg", 1), ("img_{:05d}.jpg", 1), ("frame_{:010d}.png", 0), ("{:d}.jpeg", 1), ("{}.jpg", 0)],
)
def test_the_picture_of_a_number(tmp_path, template, first):
    path = write_frames(tmp_path / "video", FRAMES, template, first)
    with FrameFolders(template, 12).open(path) as video:
        assert video.num_frames == 20 and video.fps == 12 and video.duration == Fraction(20, 12)
        frames = video.decode([7, 0, 19, 7])
    assert numbers_in(frames) == [7, 0, 19, 7]
    assert frames.dtype == torch.uint8 and frames.shape == (4, 3, 64, 96)
    assert frames.is_contiguous(memory_format=torch.channels_last)
    red = frames[0, :, -4, -4].tolist()
    assert red[0] > 180 and max(red[1:]) < 80, "channels are RGB"


def test_each_picture_is_read_once(folder, monkeypatch):
    from kinema.data.decoding import frame_folder

    read, real = [], frame_folder.read_picture
    monkeypatch.setattr(frame_folder, "read_picture", lambda path: (read.append(path.name), real(path))[1])
    FrameFolders("{:05d}.jpg").open(folder).decode([3, 3, 1, 3])
    assert read == ["00002.jpg", "00004.jpg"]


def test_no_frames_and_frames_outside(folder):
    video = FrameFolders("{:05d}.jpg").open(folder)
    assert video.decode([]).shape == (0, 3, 64, 96)
    for wrong in (-1, 20):
        with pytest.raises(IndexError, match=rf"frames \[{wrong}\] were asked for, but the video has 20"):
            video.decode([0, wrong])


def test_grey_pictures_become_rgb(tmp_path):
    (tmp_path / "v").mkdir()
    Image.fromarray(FRAMES[0]).convert("L").save(tmp_path / "v" / "1.jpg")
    assert FrameFolders("{}.jpg").open(tmp_path / "v").decode([0]).shape == (1, 3, 64, 96)


def test_a_number_left_out_is_named(folder):
    (folder / "00007.jpg").unlink()
    with pytest.raises(DecodeError, match=r"00007\.jpg is missing, the pictures go on to number 20"):
        FrameFolders("{:05d}.jpg").open(folder)
    for number in range(1, 7):
        (folder / f"{number:05d}.jpg").unlink()
    with pytest.raises(DecodeError, match=r"00001\.jpg is missing"):
        FrameFolders("{:05d}.jpg").open(folder)


def test_a_picture_that_goes_missing_after_the_folder_was_listed(folder):
    video = FrameFolders("{:05d}.jpg").open(folder)
    (folder / "00003.jpg").unlink()
    assert numbers_in(video.decode([0])) == [0]
    with pytest.raises(DecodeError, match=r"00003\.jpg is missing"):
        video.decode([0, 2])


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "gif"])
def test_a_damaged_picture_is_named(folder, damage):
    path = folder / "00005.jpg"
    if damage == "gif":
        Image.fromarray(FRAMES[0]).save(path, format="GIF")
    else:
        path.write_bytes({"cut": path.read_bytes()[:-400], "text": b"no picture", "empty": b""}[damage])
    video = FrameFolders("{:05d}.jpg").open(folder)
    with pytest.raises(DecodeError, match=r"00005\.jpg cannot be decoded as JPEG or PNG"):
        video.decode([3, 4])
    facts = inspect_pictures(folder, FrameFolders("{:05d}.jpg"))
    assert facts.status == "undecodable" and "00005.jpg" in facts.reason


def test_a_picture_of_another_size_is_named(folder):
    Image.fromarray(FRAMES[4][:, :90]).save(folder / "00005.jpg")
    with pytest.raises(DecodeError, match=r"00005\.jpg is 90 x 64 pixels and 00001\.jpg is 96 x 64"):
        FrameFolders("{:05d}.jpg").open(folder).decode([4, 0])
    facts = inspect_pictures(folder, FrameFolders("{:05d}.jpg"))
    assert facts.status == "undecodable" and "90 x 64" in facts.reason
    assert inspect_pictures(folder, FrameFolders("{:05d}.jpg"), every_frame=False).status == "ok"


def test_other_names_and_no_folder(folder, tmp_path):
    with pytest.raises(DecodeError, match=r"holds 00001.jpg, 00002.jpg, 00003.jpg and no file such as img_00001\.jpg"):
        FrameFolders("img_{:05d}.jpg").open(folder)
    with pytest.raises(DecodeError, match="cannot be read as a folder of pictures"):
        FrameFolders("{:05d}.jpg").open(tmp_path / "none")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "1.jpg").write_bytes(b"not of the template")
    assert FrameFolders("{:05d}.jpg").open(folder).num_frames == 20


@pytest.mark.parametrize(
    "template", ["frame.jpg", "{:05d}", "{:05d}_{:05d}.jpg", "{name}.jpg", "../{:05d}.jpg", "{:05d}.gif"]
)
def test_what_is_no_template(template):
    with pytest.raises(ValueError, match="is no template of file names"):
        FrameFolders(template)


def test_rates(folder):
    assert FrameFolders("{:d}.jpg", 29.97).fps == Fraction(2997, 100)
    with pytest.raises(ValueError, match="fps=0 was given"):
        FrameFolders("{:d}.jpg", 0)


def test_the_listing_is_remembered_until_the_folder_changes_and_travels_to_workers(folder, monkeypatch):
    from pathlib import Path

    folders = FrameFolders("{:05d}.jpg", 12)
    assert folders.open(folder).num_frames == 20
    copy = pickle.loads(pickle.dumps(folders))
    assert copy.open(folder).num_frames == 20 and copy.fps == 12
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda self: pytest.fail("listed again"))
        assert folders.open(folder).num_frames == 20
    (folder / "00020.jpg").unlink()
    assert folders.open(folder).num_frames == 19


def test_facts_and_hash_of_a_folder(folder):
    folders = FrameFolders("{:05d}.jpg", 12)
    facts = inspect_pictures(folder, folders, sha256=True)
    assert (facts.status, facts.num_frames, facts.fps, facts.width, facts.height) == ("ok", 20, 12, 96, 64)
    assert facts.duration == Fraction(20, 12) and facts.codec == "jpg"
    assert facts.num_bytes == sum(path.stat().st_size for path in folder.iterdir())
    shutil.copy(folder / "00001.jpg", folder / "00002.jpg")
    assert inspect_pictures(folder, folders, sha256=True).sha256 != facts.sha256


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_from_folders(tmp_path, workers):
    rows = ["path,label,split,start,end"]
    for index in range(4):
        write_frames(tmp_path / f"v{index}", FRAMES)
        rows.append(f"v{index},{'ab'[index % 2]},{'train' if index < 2 else 'val'},{'' if index < 3 else '1,'}")
        rows[-1] += "," if index < 3 else ""
    rows[-1] = "v3,b,val,1,2"
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    options = {"num_frames": 4, "size": 64, "batch_size": 2, "num_workers": workers, "frames": "{:05d}.jpg"}
    data = VideoDataModule(str(tmp_path), manifest="list.csv", frames_fps=10, **options)
    data.setup()
    (batch,) = data.val_dataloader()
    assert batch["clip"].shape == (2, 3, 4, 64, 64) and batch["decoded"].all()
    times = list(zip(batch["start"].tolist(), batch["end"].tolist(), strict=True))
    assert times == [(0, 2), (1, 2)], "seconds of the folder, by the rate that was given"
    (train,) = data.train_dataloader()
    assert train["clip"].shape == (2, 3, 4, 64, 64)


def test_frame_cache_and_folders_exclude_one_another(tmp_path):
    with pytest.raises(ValueError, match=r"frames='\{\}.jpg' are pictures already"):
        VideoDataModule(str(tmp_path), frames="{}.jpg", frame_cache=True, train_crop="random")
