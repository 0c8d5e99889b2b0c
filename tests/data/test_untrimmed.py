"""The built-in untrimmed set: what happens where it is annotated, nothing elsewhere, and nothing that one frame could tell."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from test_motion_scenes import CLEAN, measure, shows

from kinema.cli import main
from kinema.data.motion import MOTION_CLASSES, REVERSED, prepare_untrimmed, verify_motion
from kinema.data.motion.encoding import FRAMES_PER_SECOND
from kinema.data.motion.prepare_untrimmed import plan_videos, planned_actions
from kinema.data.motion.scenes import FRAME_SIZE, LEVELS
from kinema.data.motion.untrimmed import Scene, Stay, actions_of, draw_video, plan_video, reversed_actions
from kinema.data.untrimmed.segments import read_activitynet

SIZES = {"num_train": 2, "num_val": 2, "seconds": (9, 10), "progress": False}


def planned(seed, num_frames=2000):
    return plan_video(np.random.default_rng(seed), num_frames)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_frames", [225, 601, 2000])
def test_scenes_are_the_whole_video_and_stays_lie_in_them_with_room(seed, num_frames):
    scenes = planned(seed, num_frames)
    assert scenes[0].first == 0 and scenes[-1].end == num_frames
    assert all(before.end == behind.first for before, behind in pairwise(scenes))
    last = 0
    for scene in scenes:
        assert scene.first < scene.end
        for stay in scene.stays:
            start, end = stay.action
            assert scene.first <= stay.first < start < end < stay.end <= scene.end
            assert start - stay.first >= 10 and stay.end - end >= 10 and 24 <= end - start <= 60
            assert stay.first - last >= 6, "between objects there is background"
            last = stay.end
    assert actions_of(scenes), "no video is without an action"


def test_classes_are_balanced_and_some_objects_only_rest():
    stays = [stay for seed in range(12) for scene in planned(seed) for stay in scene.stays]
    counts = Counter(stay.motion for stay in stays)
    idle = counts.pop(None)
    assert set(counts) == set(MOTION_CLASSES) and max(counts.values()) - min(counts.values()) <= 12
    assert 0.15 < idle / len(stays) < 0.35
    share = sum(stay.action[1] - stay.action[0] for stay in stays if stay.motion) / (12 * 2000)
    assert 0.25 < share < 0.5, "most of a video is background"


def test_too_short_a_video():
    with pytest.raises(ValueError, match="100 frames are too few"):
        planned(0, 100)


def test_backwards():
    actions = actions_of(planned(3, 600))
    back = reversed_actions(actions, 600)
    assert reversed_actions(back, 600) == actions != back
    for here, there in zip(actions, reversed(back), strict=True):
        assert there.label == REVERSED[here.label]
        assert (there.start, there.end) == (600 - here.end, 600 - here.start)


@pytest.fixture(scope="module")
def clean():
    """A video with every class and an object that only rests, in two scenes, without what hides them; and its scenes."""
    stays, place = [], 20
    for motion in (*MOTION_CLASSES, None):
        stays.append(Stay(place, place + 52, (place + 12, place + 40), motion))
        place += 60
    scenes = [Scene(0, 370, tuple(stays[:5])), Scene(370, place, tuple(stays[5:]))]
    scenes[0] = replace(scenes[0], end=stays[5].first - 3)
    scenes[1] = replace(scenes[1], first=stays[5].first - 3)
    return scenes, draw_video(np.random.default_rng(4), scenes, CLEAN)


def test_an_action_shows_its_class_and_a_rest_nothing(clean):
    scenes, frames = clean
    assert frames.shape == (scenes[-1].end, FRAME_SIZE, FRAME_SIZE, 3) and frames.dtype == np.uint8
    for stay in (stay for scene in scenes for stay in scene.stays):
        start, end = stay.action
        rests = [frames[stay.first : start + 1], frames[end - 1 : stay.end]]
        if stay.motion is None:
            rests = [frames[stay.first : stay.end]]
        else:
            assert shows(stay.motion, frames[start:end]), stay
            assert not shows(REVERSED[stay.motion], frames[start:end])
        for rest in rests:
            assert (rest == rest[0]).all(), "without noise and shake, what rests does not change"


def test_motion_begins_and_ends_where_it_is_annotated(clean):
    scenes, frames = clean
    changes = (frames[1:] != frames[:-1]).any(axis=(1, 2, 3))  # between frame n and n + 1
    for stay in (stay for scene in scenes for stay in scene.stays if stay.motion):
        start, end = stay.action
        moving = changes[start : end - 1]
        assert moving[:2].any() and moving[-2:].any() and moving.mean() > 0.9, stay


def test_between_objects_the_scene_is_empty(clean):
    scenes, frames = clean
    there = np.zeros(len(frames), dtype=bool)
    for stay in (stay for scene in scenes for stay in scene.stays):
        there[stay.first : stay.end] = True
    flat = (frames == frames[:, :1, :1]).all(axis=(1, 2, 3))
    assert flat[~there].all()
    assert flat[there].mean() < 0.1, "a fading object may be invisible for a while"
    assert (frames[0] != frames[-1]).all(), "scenes have backdrops of their own"


def test_an_object_that_rests_is_in_any_state_of_the_way():
    """Else a frame of rest would tell that nothing is going to happen."""
    scene = Scene(0, 30, (Stay(0, 30, (1, 29), None),))
    drawn = [draw_video(np.random.default_rng(seed), [scene], CLEAN)[:1] for seed in range(40)]
    x = np.array([measure(frames)["x"][0] for frames in drawn])
    assert x.max() - x.min() > 25, "moving objects are met left and right"


def test_noise_shake_and_clutter_are_there():
    """What the level asks for is drawn, over the whole video."""
    scenes = planned(5, 300)
    frames = draw_video(np.random.default_rng(5), scenes, LEVELS["easy"])
    assert len(frames) == 300 and (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()
    again = draw_video(np.random.default_rng(5), scenes, LEVELS["easy"])
    assert (frames == again).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return prepare_untrimmed(tmp_path_factory.mktemp("untrimmed"), **SIZES)


def decode(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_annotations_are_read_back_and_cover_both_subsets(folder):
    annotations = read_activitynet(folder / "annotations.json")
    assert sorted(annotations.classes) == annotations.classes and set(annotations.classes) <= set(MOTION_CLASSES)
    assert {name: video.subset for name, video in annotations.videos.items()} == {
        "train_000": "train",
        "train_001": "train",
        "val_000a": "val",
        "val_000b": "val",
    }
    for name, video in annotations.videos.items():
        frames = decode(folder / "videos" / f"{name}.mp4")
        assert video.duration == len(frames) / FRAMES_PER_SECOND and 9 <= video.duration <= 10
        assert len(frames) % 8 == 0
    for video in plan_videos(0, 2, 2, (9, 10)):
        found = annotations.by_video()[video.name]
        assert [(annotations.name_of(s.label), s.start * 25, s.end * 25) for s in found] == [
            (each.label, pytest.approx(each.start), pytest.approx(each.end)) for each in planned_actions(video)
        ]


def test_a_validation_video_and_its_reversal_have_the_same_frames(folder):
    forward, backward = (decode(folder / "videos" / f"val_000{side}.mp4") for side in "ab")
    assert (forward == backward[::-1]).all() and (forward != backward).any()
    database = json.loads((folder / "annotations.json").read_text())["database"]
    ahead, back = (database[f"val_000{side}"] for side in "ab")
    assert ahead["duration"] == back["duration"]
    for here, there in zip(ahead["annotations"], reversed(back["annotations"]), strict=True):
        assert there["label"] == REVERSED[here["label"]]
        start, end = here["segment"]
        assert there["segment"] == pytest.approx([ahead["duration"] - end, ahead["duration"] - start])


def test_training_videos_are_ordinary_ones(folder):
    with av.open(str(folder / "videos" / "train_000.mp4")) as container:
        keys = sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    with av.open(str(folder / "videos" / "val_000a.mp4")) as container:
        intra = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys < 20 and all(intra)


def test_the_same_options_give_the_same_files_and_others_do_not(folder, tmp_path):
    again = prepare_untrimmed(tmp_path, **SIZES, num_workers=1)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.mp4"))
    assert again.name == folder.name and len(files) == 4
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in files)
    other = {path.path: (path.num_frames, path.key) for path in plan_videos(1, 2, 2, (9, 10))}
    assert other != {path.path: (path.num_frames, path.key) for path in plan_videos(0, 2, 2, (9, 10))}
    assert len({video.key for video in plan_videos(0, 9, 4, (9, 10))}) == 9 + 2


def test_what_is_damaged_is_told_and_made_again(folder, capsys):
    path = folder / "videos" / "train_001.mp4"
    content, untouched = path.read_bytes(), (folder / "videos" / "train_000.mp4").stat().st_mtime_ns
    path.write_bytes(content[:-1])
    (problem,) = verify_motion(folder)
    assert "train_001.mp4" in problem and "run `kinema data untrimmed`" in problem
    assert prepare_untrimmed(folder.parent, **SIZES) == folder
    assert path.read_bytes() == content and verify_motion(folder) == []
    assert (folder / "videos" / "train_000.mp4").stat().st_mtime_ns == untouched


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"level": "medium"}, "no level 'medium'"),
        ({"seed": -1}, "seed=-1"),
        ({"num_train": 0}, "num_train=0"),
        ({"num_val": 3}, "num_val=3"),
        ({"num_val": 0}, "num_val=0"),
        ({"seconds": (8, 20)}, "seconds=8 20"),
        ({"seconds": (20, 10)}, "seconds=20 10"),
        ({"num_workers": 0}, "num_workers=0"),
    ],
)
def test_options_out_of_range(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        prepare_untrimmed(tmp_path, **{**SIZES, **changes})
    assert not list(tmp_path.iterdir())


def test_lengths_lie_in_their_range_and_mirror():
    lengths = [video.num_frames for seed in range(4) for video in plan_videos(seed, 30, 2, (60, 90))]
    assert all(60 * 25 <= length <= 90 * 25 and length % 8 == 0 for length in lengths)
    assert max(lengths) > 85 * 25 and min(lengths) < 65 * 25


def test_the_command_makes_it(folder, capsys):
    arguments = ["data", "untrimmed", "--root", str(folder.parent), "--num-train", "2", "--num-val", "2"]
    assert main([*arguments, "--seconds", "9", "10"]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]) == folder
    assert main(["data", "check", str(folder), "--workers", "1"]) == 0
    assert "4 videos: 4 ok" in capsys.readouterr().out
    assert main([*arguments, "--seconds", "5", "9"]) == 1
    assert "seconds=5 9" in capsys.readouterr().err
