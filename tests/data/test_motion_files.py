"""The files of the motion set: pairs that share their frames, and a folder that is whole or becomes whole."""

import csv
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from test_motion_scenes import CLEAN, shows

from kinema.data.motion import MOTION_CLASSES, REVERSED, prepare_motion, preview, verify_motion
from kinema.data.motion import prepare as preparing
from kinema.data.motion.encoding import encode_mp4
from kinema.data.motion.prepare import plan_clips
from kinema.data.motion.scenes import LEVELS, draw_clip

SIZES = {"num_train": 24, "num_val": 24}


def make(root, **options) -> Path:
    return prepare_motion(root, **(SIZES | {"progress": False} | options))


def rows(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"{split}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def decode(source) -> np.ndarray:
    with av.open(source) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file a user would see."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module", params=list(LEVELS))
def folder(request, tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("motion"), level=request.param)


@pytest.fixture(scope="module")
def easy(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("easy"))


@pytest.fixture
def copy(easy, tmp_path) -> Path:
    """A finished set that a test may damage; `make(copy.parent)` completes it."""
    return shutil.copytree(easy, tmp_path / easy.name)


# What is in the files.


def test_every_validation_clip_stands_beside_its_own_reversal(folder):
    clips = rows(folder, "val")
    assert len(clips) == SIZES["num_val"]
    for one, other in zip(clips[::2], clips[1::2], strict=True):
        assert one["pair"] == other["pair"] and REVERSED[one["label"]] == other["label"]
        forward, backward = decode(folder / one["path"]), decode(folder / other["path"])
        assert len(forward) == int(one["frames"]) == int(other["frames"])
        np.testing.assert_array_equal(backward, forward[::-1])
        assert len(np.unique(forward, axis=0)) == len(forward), "frames that are all alike would mirror too"
    assert Counter(row["pair"] for row in clips).most_common()[-1][1] == 2


def test_an_ordinary_encoder_would_break_the_pairs():
    """The reason for intra-only validation clips, and the proof that the test above can fail."""
    frames = draw_clip(np.random.default_rng(0), "move_left", LEVELS["easy"], 24)
    forward, backward = (encode_mp4(f, intra_only=False) for f in (frames, np.ascontiguousarray(frames[::-1])))
    decoded, decoded_backward = (decode(io.BytesIO(file)) for file in (forward, backward))
    assert not any(np.array_equal(a, b) for a, b in zip(decoded, decoded_backward[::-1], strict=True))


def test_segment_centres_of_a_pair_are_the_same_frames(folder):
    def centres(num_frames: int) -> list[int]:  # TSM's test sampling, T = 8
        tick = num_frames / 8
        return [int(tick / 2 + i * tick) for i in range(8)]

    def mirrors(num_frames: int) -> bool:
        return sorted(num_frames - 1 - index for index in centres(num_frames)) == centres(num_frames)

    lengths = {int(row["frames"]) for row in rows(folder, "val")}
    assert lengths == {24, 40}
    assert all(mirrors(length) for length in lengths)
    assert not mirrors(16) and not mirrors(32)


def test_validation_clips_are_intra_only_and_training_clips_are_not(folder):
    def key_frames(row: dict[str, str]) -> list[bool]:
        with av.open(folder / row["path"]) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            return [packet.is_keyframe for packet in container.demux(video=0) if packet.size]

    assert all(all(key_frames(row)) for row in rows(folder, "val"))
    for keys in map(key_frames, rows(folder, "train")):
        assert keys[0] and sum(keys) <= 3, "ordinary video: a key frame at the start, and where x264 sees a cut"


def test_labels_are_balanced_and_every_listed_length_is_true(folder):
    for split, number in (("train", SIZES["num_train"]), ("val", SIZES["num_val"])):
        listed = rows(folder, split)
        assert list(listed[0]) == ["path", "label", "split", "frames", "pair"]
        assert Counter(row["label"] for row in listed) == dict.fromkeys(MOTION_CLASSES, number // 12)
        assert {row["split"] for row in listed} == {split}
        assert all(len(decode(folder / row["path"])) == int(row["frames"]) for row in listed)
        assert len({row["path"] for row in listed}) == number
    assert len({row["frames"] for row in rows(folder, "train")}) > 6


def test_what_a_file_shows_is_its_label(tmp_path, monkeypatch):
    """From the csv to the decoded pixels: a label swapped anywhere on the way would fail."""
    monkeypatch.setitem(LEVELS, "clean", CLEAN)
    folder = make(tmp_path, level="clean", num_train=36)
    for split in ("train", "val"):
        for row in rows(folder, split):
            frames = decode(folder / row["path"])
            assert shows(row["label"], frames), row
            assert not shows(REVERSED[row["label"]], frames), row


def test_only_a_pair_is_drawn_from_the_same_random_numbers():
    """Were a validation clip drawn as a training clip was, a network could know it by heart."""
    clips = list(plan_clips(seed=3, num_train=30, num_val=30))
    pairs = Counter((clip.key, clip.pair) for clip in clips)
    assert len({key for key, _ in pairs}) == len(pairs) == 30 + 15
    assert all(number == (2 if pair else 1) for (_, pair), number in pairs.items())


# The same options, the same files.


@pytest.mark.parametrize("intra_only", [False, True])
def test_the_same_frames_give_the_same_file(intra_only):
    """x264's defaults fail here: with B-frames they read what other work left in memory, so other work is done between."""
    rng = np.random.default_rng(0)
    frames = draw_clip(rng, "grow", LEVELS["easy"], 30)
    files = set()
    for _ in range(6):
        frames = frames.copy()
        _ = [rng.integers(0, 255, int(size), dtype=np.uint8) for size in rng.integers(1_000, 200_000, 20)]
        files.add(encode_mp4(frames, intra_only=intra_only))
    assert len(files) == 1


def test_files_depend_on_the_options_alone(easy, tmp_path):
    assert hashes(make(tmp_path / "one", num_workers=1)) == hashes(easy)
    assert hashes(make(tmp_path / "three", num_workers=3)) == hashes(easy)


def test_another_seed_or_level_gives_other_videos_in_another_folder(easy, tmp_path):
    sets = [easy, make(tmp_path, seed=1), make(tmp_path, level="hard")]
    assert len({folder.name for folder in sets}) == 3
    videos = [{digest for name, digest in hashes(folder).items() if name.endswith(".mp4")} for folder in sets]
    assert all(len(digests) == 48 for digests in videos)
    assert len(set.union(*videos)) == 3 * 48


def test_the_manifest_names_options_versions_and_every_file(easy):
    manifest = json.loads((easy / "manifest.json").read_text())
    assert manifest["options"] == {"level": "easy", "seed": 0, "num_train": 24, "num_val": 24}
    assert manifest["versions"]["av"] == av.__version__ and manifest["versions"]["numpy"] == np.__version__
    expected = hashes(easy)
    del expected["manifest.json"]
    assert manifest["files"] == expected


# A folder that is not whole.


def test_a_damaged_set_is_reported_and_mended(easy, copy):
    videos = sorted((copy / "videos").glob("*.mp4"))
    videos[0].unlink()
    videos[1].write_bytes(videos[1].read_bytes()[:-100])
    (copy / "val.csv").write_text("path,label\n")
    problems = "\n".join(verify_motion(copy))
    assert f"{videos[0].name} is missing" in problems
    assert f"{videos[1].name} is not the file that was written" in problems
    assert "val.csv is not the file that was written" in problems
    assert len(problems.splitlines()) == 3

    untouched = videos[2].stat().st_mtime_ns
    make(copy.parent)
    assert verify_motion(copy) == []
    assert hashes(copy) == hashes(easy)
    assert videos[2].stat().st_mtime_ns == untouched


def test_an_unfinished_set_keeps_its_good_clips(easy, copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    files = {name: digest for name, digest in manifest.pop("files").items() if name.endswith(".mp4")}
    done = list(files)[:20]
    lines = [json.dumps(entry) for entry in (manifest, *([name, files[name]] for name in done))]
    (copy / "journal.jsonl").write_text("\n".join(lines) + '\n["videos/val_000')  # killed within a line
    for name in ("manifest.json", "train.csv", "val.csv", *list(files)[20:]):
        (copy / name).unlink()
    (copy / done[0]).write_bytes(b"")  # the machine lost power before this one reached the disk
    (copy / "videos" / f".{Path(done[1]).name}.1-1.part").write_bytes(b"half a clip")
    times = {name: (copy / name).stat().st_mtime_ns for name in done[1:]}
    assert "no manifest.json" in verify_motion(copy)[0]

    make(copy.parent)
    assert hashes(copy) == hashes(easy)
    assert {name: (copy / name).stat().st_mtime_ns for name in done[1:]} == times


@pytest.mark.parametrize("record", ["manifest.json", "journal.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"[]", b'{"files": 3}\n', b'["a", "b"]\n'])
def test_an_unreadable_record_is_no_obstacle(easy, copy, record, content):
    (copy / "manifest.json").unlink()
    (copy / record).write_bytes(content)
    assert verify_motion(copy)
    make(copy.parent)
    assert hashes(copy) == hashes(easy)


def test_clips_of_two_encoders_are_never_mixed(copy, monkeypatch):
    """A pair must come from one encoder, or its frames may differ."""
    next((copy / "videos").glob("*.mp4")).unlink()
    monkeypatch.setattr(preparing, "versions", lambda: {"av": "another"})
    times = {path: path.stat().st_mtime_ns for path in (copy / "videos").iterdir()}
    make(copy.parent)
    assert all(path.stat().st_mtime_ns != before for path, before in times.items())


def test_a_whole_set_of_other_versions_is_used_as_it_is(copy, monkeypatch):
    monkeypatch.setattr(preparing, "versions", lambda: {"av": "another"})
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.*") if path.name != ".lock"}
    make(copy.parent)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.*") if path.name != ".lock"} == before


LARGER = {"num_train": 96, "num_val": 24}  # work for about two seconds
COMMAND = f"import sys; from kinema.data.motion import *; prepare_motion(sys.argv[1], **{LARGER})"


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("larger"), **LARGER)


def start(root: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-W", "error", "-c", COMMAND, str(root)], stderr=subprocess.PIPE)


def test_a_killed_run_is_completed_by_the_next(larger, tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/videos/*.mp4"))) < 20:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (unfinished,) = tmp_path.iterdir()
    assert not (unfinished / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in (unfinished / "videos").glob("*.mp4")}

    assert hashes(make(tmp_path, **LARGER)) == hashes(larger)
    kept = sum(path.stat().st_mtime_ns == before for path, before in finished.items())
    assert kept >= len(finished) - 8  # all but those that were on their way into the journal


def test_two_processes_may_prepare_one_folder(larger, tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    (folder,) = tmp_path.iterdir()
    assert hashes(folder) == hashes(larger)


def test_a_finished_set_is_not_written_to(easy, monkeypatch):
    """It may lie on a disk that is read-only, where even a lock cannot be made."""
    monkeypatch.delattr(preparing, "fill_folder")
    assert make(easy.parent) == easy


# What cannot be done is said.


def test_options_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no level 'medium'; choose one of \['easy', 'hard'\]"):
        make(tmp_path, level="medium")
    with pytest.raises(ValueError, match=r"num_val=7 cannot be split into pairs .*; give an even number"):
        make(tmp_path, num_val=7)
    with pytest.raises(ValueError, match="num_val=0 cannot be split"):
        make(tmp_path, num_val=0)
    with pytest.raises(ValueError, match="num_train=0 leaves nothing to train on"):
        make(tmp_path, num_train=0)
    with pytest.raises(ValueError, match="seed=-1 is negative"):
        make(tmp_path, seed=-1)
    with pytest.raises(ValueError, match="num_workers=0 makes nothing"):
        make(tmp_path, num_workers=0)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot write the motion set to .*file.*; give a root that can be written"):
        make(tmp_path / "file")


def test_a_read_only_root_is_named(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # not by mode bits, which the superuser may ignore
    with pytest.raises(OSError, match=r"cannot write the motion set to .*Permission denied.*; give a root that can"):
        make(tmp_path)


def test_a_failing_clip_ends_the_work_and_keeps_what_is_done(easy, tmp_path, monkeypatch):
    real, calls = preparing.encode_mp4, []

    def fails_late(frames, *, intra_only):
        calls.append(1)
        if len(calls) == 10:
            raise OSError("No space left on device")
        return real(frames, intra_only=intra_only)

    monkeypatch.setattr(preparing, "encode_mp4", fails_late)
    with pytest.raises(OSError, match=r"No space left on device; give a root .* with 150 MB to spare"):
        make(tmp_path, num_workers=1)
    assert len(calls) < 15
    monkeypatch.setattr(preparing, "encode_mp4", real)
    assert hashes(make(tmp_path)) == hashes(easy)


def test_a_folder_without_a_set_is_a_problem(tmp_path):
    assert "it is no motion set" in verify_motion(tmp_path)[0]
    assert "it is no motion set" in verify_motion(tmp_path / "absent")[0]


# Its surroundings.


def test_making_the_set_needs_no_torch():
    """It may be the first thing a command does; loading a deep-learning library for it would take longer than 400 clips."""
    code = "import sys, kinema.data.motion; sys.exit(bool({'torch', 'lightning', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_contact_sheet_is_small_and_needs_every_class(easy, tmp_path):
    picture = preview(easy, tmp_path / "sheet.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 200_000
    few = make(tmp_path, num_val=4)
    with pytest.raises(ValueError, match=r"no validation clip of \['rotate_clockwise', .*num_val of at least 12"):
        preview(few, tmp_path / "few.png")
