"""`prepare_archive`: everything counted, nothing looked at twice, and whatever ends a run, what was found stays."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from kinema.cli import main
from kinema.data import inspection_jobs, prepare
from kinema.data.alone import Busy, alone
from kinema.data.datasets.archives import build_archive
from kinema.data.manifest import ManifestError
from kinema.data.prepare import TooManyLost, prepare_archive

from archives import make_archive, write_media

CLIPS = {"num_frames": 4, "size": 32, "resize": 32, "batch_size": 2, "num_workers": 0, "train_crop": "center"}
ALONE = {"num_workers": 1, "progress": False}


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def looked_at(monkeypatch):
    """Names of the videos that are decoded from now on."""
    names, real = [], inspection_jobs.inspect_video
    monkeypatch.setattr(
        inspection_jobs, "inspect_video", lambda path, **options: (names.append(path.name), real(path, **options))[1]
    )
    return names


@pytest.fixture
def ssv2(tmp_path):
    return make_archive("ssv2", tmp_path / "ssv2", **CLIPS)


def test_the_manifest_says_what_is_there(ssv2):
    prepared = prepare_archive(ssv2, **ALONE)
    assert prepared.manifest == ssv2.root / "ssv2.csv"
    assert prepared.counts == {"train": {"ok": 6}, "val": {"ok": 6}} and prepared.frame_rates == {"25": 12}
    rows = rows_of(prepared.manifest)
    assert [(row["frames"], row["fps"], row["width"], row["status"]) for row in rows] == [("12", "25", "72", "ok")] * 12
    assert len({row["sha256"] for row in rows}) == 12 and float(rows[0]["seconds"]) == 0.48
    assert rows[0]["label"] == "Pulling something from left to right" and rows[0]["id"] == "78687"
    listed = ssv2.read_archive().manifest
    ssv2.read_archive = lambda: pytest.fail("the prepared manifest is read instead")
    ssv2.setup()
    whole = ssv2.manifests["train"].records + ssv2.manifests["val"].records
    assert [(r.path, r.label, r.split) for r in whole] == [(r.path, r.label, r.split) for r in listed.records]
    assert ssv2.class_names == listed.class_names
    assert (ssv2.root / "ssv2.classes.txt").read_text().splitlines() == listed.class_names
    assert rows_of(prepared.problems) == []


def test_epic_times_and_both_labels_survive(tmp_path):
    data = make_archive("epic100", tmp_path, **CLIPS)
    prepared = prepare_archive(data, **ALONE)
    assert {"label.verb", "label.noun", "start", "end", "narration_id"} <= set(rows_of(prepared.manifest)[0])
    listed = data.read_archive().manifest
    read = data.read_manifests()
    assert read["train"].tasks == listed.tasks
    for split in ("train", "val"):
        wanted = [(r.path, r.labels, r.start, r.end, r.subject) for r in listed.where(split=split).records]
        assert [(r.path, r.labels, r.start, r.end, r.subject) for r in read[split].records] == wanted


@pytest.mark.parametrize(
    ("name", "before", "now", "told"),
    [
        ("kinetics400", {}, {"frames": "{:05d}.jpg"}, "frames: None"),
        ("ssv1", {}, {"frames": None}, r"frames: \{:05d\}.jpg"),
        ("howto100m", {"min_videos": 2}, {"min_videos": 2, "test_fraction": 0.5}, "test_fraction: 0.29[0-9]*"),
        ("howto100m", {"min_videos": 2}, {"min_videos": 3}, "min_videos: 2"),
    ],
)
def test_a_manifest_of_other_options_is_refused(tmp_path, name, before, now, told):
    data = make_archive(name, tmp_path, **CLIPS, **before)
    prepare_archive(data, **ALONE)
    data.setup()
    other = build_archive(name, str(tmp_path), subset=True, **CLIPS, **now)
    with pytest.raises(ManifestError, match=f"was prepared with {told}, and .* is asked for now"):
        other.setup()


def test_a_disk_that_is_full_before_the_manifest_leaves_none_that_looks_new(ssv2, monkeypatch):
    prepare_archive(ssv2, **ALONE)
    labels = next(ssv2.root.rglob("something-something-v2-train.json"))
    rows = json.loads(labels.read_text())
    rows[0]["template"] = rows[-1]["template"]
    labels.write_text(json.dumps(rows))
    written = prepare.write_durably

    def full(path, text):
        if path.name == "ssv2.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, text)

    monkeypatch.setattr(prepare, "write_durably", full)
    with pytest.raises(OSError, match="goes on from there"):
        prepare_archive(ssv2, **ALONE)
    with pytest.raises(ManifestError, match=r"is not the annotation file that ssv2\.csv was made from"):
        ssv2.setup()


def test_pictures_that_are_damaged_or_mended_in_place_are_looked_at_again(tmp_path):
    data = make_archive("ssv1", tmp_path, **CLIPS)
    prepare_archive(data, **ALONE)
    picture = sorted(tmp_path.rglob("00003.jpg"))[0]
    whole, known = picture.read_bytes(), picture.stat()
    picture.write_bytes(whole[:40])
    damaged = prepare_archive(data, allow_missing=1.0, **ALONE)
    assert sum(split.get("ok", 0) for split in damaged.counts.values()) == 11
    picture.write_bytes(whole)
    os.utime(picture, ns=(known.st_atime_ns, known.st_mtime_ns))
    mended = prepare_archive(data, **ALONE)
    assert sum(split.get("ok", 0) for split in mended.counts.values()) == 12


def test_a_preview_beside_the_folders_hides_none_of_them(tmp_path):
    data = make_archive("ssv1", tmp_path, **CLIPS)
    picture = next(tmp_path.rglob("00001.jpg"))
    for folder in (tmp_path, picture.parent.parent):
        shutil.copy(picture, folder / "overview.png")
    assert prepare_archive(data, **ALONE).counts == {"train": {"ok": 6}, "val": {"ok": 6}}


def test_two_at_a_time_do_not_write_into_one_journal(ssv2):
    with (
        alone(ssv2.root / ".ssv2.journal.lock", "preparing"),
        pytest.raises(Busy, match=r"another process is preparing .*ssv2.csv"),
    ):
        prepare_archive(ssv2, **ALONE)
    prepare_archive(ssv2, **ALONE)


def test_times_are_written_exactly():
    for time_of in (Fraction(1, 3), Fraction(7, 60), Fraction("0.48"), Fraction(2), Fraction(0), Fraction("123.456")):
        assert Fraction(prepare._seconds(time_of)) == time_of
    assert prepare._seconds(Fraction("0.48")) == "0.48" and prepare._seconds(None) == ""


def damaged(data):
    """Lose a video of each split: one is gone, one is no video, one is cut off."""
    train, val = (data.read_archive().manifest.where(split=split).records for split in ("train", "val"))
    (data.root / train[0].path).unlink()
    (data.root / train[1].path).write_bytes(b"no video")
    (data.root / val[0].path).write_bytes(b"")
    return train, val


def test_what_is_lost_is_counted_listed_and_refused_above_a_share(ssv2):
    train, val = damaged(ssv2)
    with pytest.raises(TooManyLost, match=r"2 of 6 'train' .*\(1 missing, 1 undecodable\), .*--allow-missing 0\.34"):
        prepare_archive(ssv2, allow_missing=0.3, **ALONE)
    assert not ssv2.prepared_path.exists()
    problems = [(row["path"], row["split"], row["status"]) for row in rows_of(ssv2.root / "ssv2.problems.csv")]
    name = train[0].path.rpartition("/")[2]  # where it would lie is not known
    lost = [(train[1].path, "train", "undecodable"), (val[0].path, "val", "undecodable")]
    assert problems == [(name, "train", "missing"), *lost]
    prepared = prepare_archive(ssv2, allow_missing=0.34, **ALONE)
    assert prepared.counts == {"train": {"missing": 1, "undecodable": 1, "ok": 4}, "val": {"undecodable": 1, "ok": 5}}
    ssv2.setup()
    assert len(ssv2.manifests["train"]) == 4, "training leaves out what is lost"
    assert len(ssv2.manifests["val"]) == 6, "in validation it counts as wrong"
    decoded = [flag for batch in ssv2.val_dataloader() for flag in batch["decoded"].tolist()]
    assert decoded == [False, True, True, True, True, True]


def test_the_share_counts_by_split(ssv2):
    _, val = ssv2.read_archive().manifest.where(split="train"), ssv2.read_archive().manifest.where(split="val").records
    for record in val[:2]:
        (ssv2.root / record.path).unlink()
    with pytest.raises(TooManyLost, match="2 of 6 'val' samples"):
        prepare_archive(ssv2, allow_missing=0.2, **ALONE)


def test_a_second_run_looks_only_at_what_changed(ssv2, monkeypatch):
    train, _ = damaged(ssv2)
    prepare_archive(ssv2, allow_missing=0.5, **ALONE)
    names = looked_at(monkeypatch)
    prepare_archive(ssv2, allow_missing=0.5, **ALONE)
    assert names == []
    write_media(ssv2.root / train[0].path, 50)
    write_media(ssv2.root / train[1].path, 51)
    prepared = prepare_archive(ssv2, allow_missing=0.5, **ALONE)
    assert sorted(names) == sorted(record.path.rpartition("/")[2] for record in train[:2])
    assert prepared.counts["train"] == {"ok": 6}
    prepare_archive(ssv2, allow_missing=0.5, every_frame=False, **ALONE)
    assert len(names) == 2 + 12, "what only the ends were looked at of is another work"


def test_damage_between_the_ends_is_found_by_looking_at_every_frame(tmp_path):
    data = make_archive("jester", tmp_path)
    (data.root / data.read_archive().manifest.records[0].path / "00005.jpg").write_bytes(b"no picture")
    assert prepare_archive(data, every_frame=False, **ALONE).counts["train"] == {"ok": 6}
    assert prepare_archive(data, allow_missing=0.2, **ALONE).counts["train"] == {"undecodable": 1, "ok": 5}


def test_ranges_beyond_the_end_of_the_video(tmp_path):
    data = make_archive("epic100", tmp_path, **CLIPS)
    table = data.root / "EPIC_100_validation.csv"
    table.write_text(table.read_text().replace("00:00:00.00,00:00:00.48,0,28", "00:01:00.00,00:01:01.00,3600,3660", 1))
    with pytest.raises(TooManyLost, match=r"1 of 6 'val' samples cannot be used \(1 outside\)"):
        prepare_archive(data, **ALONE)
    prepared = prepare_archive(data, allow_missing=0.2, **ALONE)
    assert prepared.counts["val"] == {"outside": 1, "ok": 5}
    (reason,) = (row["reason"] for row in rows_of(prepared.problems))
    assert "its range is 60.00 to 61.00 s, the video has 1.44 s" in reason
    data.setup()
    assert not next(iter(data.val_dataloader()))["decoded"][0]
    # Ends are given some slack, because lists are rounded; what begins behind the last frame shows nothing all the same.
    for start, stop, status in (("01.44", "01.90", "outside"), ("01.40", "01.90", "ok"), ("01.00", "02.50", "outside")):
        moved = table.read_text().replace("00:01:00.00,00:01:01.00", f"00:00:{start},00:00:{stop}")
        again = build_archive("epic100", str(tmp_path), subset=True, annotations="moved")
        (tmp_path / "moved").mkdir(exist_ok=True)
        for path in data.read_archive().files:
            (tmp_path / "moved" / path.name).write_text(moved if path == table else path.read_text())
        counts = prepare_archive(again, out=tmp_path / "again.csv", allow_missing=0.2, **ALONE).counts["val"]
        assert counts == ({"outside": 1, "ok": 5} if status == "outside" else {"ok": 6}), (start, stop)


def test_mixed_frame_rates_are_told(tmp_path, capsys):
    data = make_archive("ssv2", tmp_path / "s")
    import av

    path = data.root / data.read_archive().manifest.records[0].path
    other = path.with_name("other.webm")
    with av.open(str(path)) as old, av.open(str(other), "w") as new:
        stream = new.add_stream("libvpx", rate=50)
        stream.width = stream.height = 72
        for frame in old.decode(video=0):
            frame.pts = None
            new.mux(stream.encode(frame))
        new.mux(stream.encode(None))
    other.replace(path)
    assert main(["data", "prepare", "ssv2", "--root", str(data.root), "--workers", "1", "--option", "subset=true"]) == 0
    assert "frames per second (videos): 25 (11), 50 (1); clips of dense" in capsys.readouterr().out


def test_the_command_says_what_it_found(tmp_path, capsys):
    data = make_archive("ucf101", tmp_path / "u")
    arguments = ["data", "prepare", "ucf101", "--root", str(data.root), "--workers", "1", "--quick", "--no-hash"]
    assert main([*arguments, "--option", "split=2"]) == 1
    assert "has 3 classes, UCF101 has 101" in capsys.readouterr().err
    assert main([*arguments, "--option", "split=2", "--option", "subset=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["train: 12 samples, 12 ok", "test: 6 samples, 6 ok"]
    assert lines[-1] == str(data.root / "ucf101-split2.csv")
    assert {row["sha256"] for row in rows_of(data.root / "ucf101-split2.csv")} == {""}
    assert main(["data", "prepare", "ucf", "--root", str(data.root)]) == 1
    assert "there is no data set 'ucf'; known are" in capsys.readouterr().err
    assert main([*arguments, "--option", "splits=2"]) == 1
    assert "splits" in capsys.readouterr().err


def test_folders_of_pictures(tmp_path):
    data = make_archive("jester", tmp_path, **CLIPS)
    record = data.read_archive().manifest.records[2]
    (data.root / record.path / "00004.jpg").unlink()
    prepared = prepare_archive(data, allow_missing=0.2, **ALONE)
    assert prepared.counts["train"] == {"ok": 5, "undecodable": 1} and prepared.frame_rates == {"12": 11}
    (problem,) = rows_of(prepared.problems)
    assert problem["path"] == record.path and "00004.jpg is missing" in problem["reason"]
    data.setup()
    assert len(data.manifests["train"]) == 5


def test_processes_find_what_one_finds(ssv2, tmp_path):
    damaged(ssv2)
    one = prepare_archive(ssv2, out=tmp_path / "one" / "a.csv", allow_missing=0.5, **ALONE)
    two = prepare_archive(ssv2, out=tmp_path / "two" / "a.csv", allow_missing=0.5, num_workers=2, progress=False)
    assert one.manifest.read_text() == two.manifest.read_text() and one.counts == two.counts


def test_a_full_disk_leaves_what_was_found(ssv2, monkeypatch):
    names = looked_at(monkeypatch)
    real, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > 2:  # the header, and the first eight
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"ssv2\.csv: .*No space left.*what was written so far stays valid"):
        prepare_archive(ssv2, **ALONE)
    assert not ssv2.prepared_path.exists()
    monkeypatch.setattr(os, "fsync", real)
    names.clear()
    assert prepare_archive(ssv2, **ALONE).counts == {"train": {"ok": 6}, "val": {"ok": 6}}
    assert len(names) <= 4, "the eight that were written are not looked at again"


def test_an_annotation_file_that_changed_since(ssv2):
    prepare_archive(ssv2, **ALONE)
    path = ssv2.root / "something-something-v2-train.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(
        ManifestError, match=r"is not the annotation file that ssv2.csv was made from; run 'kinema data"
    ):
        ssv2.setup()
    (ssv2.root / "ssv2.json").unlink()
    with pytest.raises(ManifestError, match=r"ssv2.json cannot be read .* belongs to ssv2.csv"):
        ssv2.setup()


def test_a_prepared_manifest_that_is_named_and_not_there(ssv2):
    ssv2.prepared = "other.csv"
    with pytest.raises(ManifestError, match=r"other.csv does not exist; write it with 'kinema data prepare'"):
        ssv2.setup()


def test_options_that_make_no_sense(ssv2):
    with pytest.raises(ValueError, match="allow_missing=2 is no share"):
        prepare_archive(ssv2, allow_missing=2)
    with pytest.raises(ValueError, match="num_workers=0 decodes nothing"):
        prepare_archive(ssv2, num_workers=0)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    """SIGKILL, twice, in the middle of the work; then the result of a run that was left alone."""
    data = make_archive("ssv2", tmp_path / "s", videos=16)
    alone = prepare_archive(data, out=tmp_path / "alone" / "ssv2.csv", **ALONE)
    journal = data.root / ".ssv2.journal"
    command = [sys.executable, "-m", "kinema", "data", "prepare", "ssv2", "--root", str(data.root)]
    command += ["--option", "subset=true"]
    for already in (1, 30):
        process = subprocess.Popen([*command, "--workers", "2"], start_new_session=True, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if journal.is_file() and journal.read_bytes().count(b"\n") > already:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed; make the archive larger"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not data.prepared_path.exists()
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True, timeout=300)
    assert data.prepared_path.read_text() == alone.manifest.read_text()
    assert len(journal.read_bytes().splitlines()) == 1 + 96, "no video was looked at twice after it was written down"
    assert json.loads((data.root / "ssv2.json").read_text())["samples"] == alone.counts


def test_the_archive_can_be_read_only(ssv2, tmp_path):
    prepared = prepare_archive(ssv2, out=tmp_path / "elsewhere" / "list.csv", **ALONE)
    assert not list(ssv2.root.glob("ssv2.*")) and not list(ssv2.root.glob(".ssv2*"))
    data = build_archive("ssv2", str(ssv2.root), subset=True, prepared=str(prepared.manifest), **CLIPS)
    shutil.rmtree(tmp_path / "elsewhere" / ".list.journal", ignore_errors=True)
    data.setup()
    assert len(data.manifests["train"]) == 6
