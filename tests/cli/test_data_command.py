"""`kinema data motion | check` and `kinema profile`."""

import csv
import json

import numpy as np
import pytest

from kinema.cli import main
from kinema.cli.profile import network_options, split_options

from archives import write_frames
from painted import paint


def test_motion_is_made_checked_and_found_damaged(tmp_path, capsys):
    root = tmp_path / "motion"
    assert main(["data", "motion", "--root", str(root), "--num-train", "12", "--num-val", "24"]) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert main(["data", "check", folder, "--csv", str(tmp_path / "found.csv")]) == 0
    assert "36 videos: 36 ok, 0 damaged, 0 undecodable" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert len(rows) == 36 and {row["status"] for row in rows} == {"ok"} and {row["codec"] for row in rows} == {"h264"}

    broken = rows[0]["path"]
    with open(broken, "wb") as file:  # noqa: PTH123
        file.write(b"nothing")
    assert main(["data", "check", folder]) == 1
    out = capsys.readouterr().out
    assert broken in out and "1 undecodable" in out


def test_the_help_of_the_untrimmed_set_tells_defaults_and_reversals(capsys):
    with pytest.raises(SystemExit):
        main(["data", "untrimmed", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "training videos; 32" in told and "half of them, and their reversals; 16" in told and "60 90" in told


def test_a_manifest_is_checked_below_its_root(tmp_path, capsys):
    (tmp_path / "list.csv").write_text("path,label\nmissing.mp4,walk\n")
    assert main(["data", "check", str(tmp_path / "list.csv")]) == 1
    out = capsys.readouterr().out
    assert "1 samples of 1 classes in 1 files" in out and "missing.mp4: undecodable" in out
    (tmp_path / "list.csv").write_text("path,label\n../up.mp4,walk\n")
    assert main(["data", "check", str(tmp_path / "list.csv")]) == 1
    assert "leaves the data root" in capsys.readouterr().err


def test_folders_of_pictures_are_checked(tmp_path, capsys):
    frames = np.stack([paint(number) for number in range(4)])
    for name in ("a", "b/c", "renamed", "gap"):
        write_frames(tmp_path / "videos" / name, frames)
    (tmp_path / "videos/renamed/00001.jpg").rename(tmp_path / "videos/renamed/first.jpg")
    (tmp_path / "videos/gap/00002.jpg").unlink()
    check = ["data", "check", str(tmp_path / "videos"), "--frames", "{:05d}.jpg", "--frames-fps", "12"]
    assert main([*check, "--csv", str(tmp_path / "found.csv")]) == 1
    out = capsys.readouterr().out
    assert "4 videos: 2 ok, 0 damaged, 2 undecodable; 8 frames" in out
    assert "00002.jpg is missing" in out and "00001.jpg is missing" in out
    rows = {row["path"]: row for row in csv.DictReader((tmp_path / "found.csv").read_text().splitlines())}
    whole = rows[str(tmp_path / "videos/b/c")]
    assert (whole["status"], whole["num_frames"], float(whole["fps"]), whole["container"]) == (
        "ok",
        "4",
        12,
        "pictures",
    )

    (tmp_path / "list.csv").write_text("path,label\nvideos/a,walk\nvideos/gap,run\n")
    assert main(["data", "check", str(tmp_path / "list.csv"), *check[3:]]) == 1
    assert "2 videos: 1 ok, 0 damaged, 1 undecodable" in capsys.readouterr().out


def test_pictures_without_their_template(tmp_path, capsys):
    write_frames(tmp_path / "a", np.stack([paint(0)]))
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "with --frames folders of pictures" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path), "--frames", "img_{:05d}.png"]) == 1
    assert "folders of pictures such as img_00001.png count" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path), "--frames", "00001.jpg"]) == 1
    assert "no template of file names" in capsys.readouterr().err


def test_nothing_to_check_and_an_impossible_set(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "no video below" in capsys.readouterr().err
    assert main(["data", "motion", "--root", str(tmp_path), "--num-val", "3"]) == 1
    assert "3" in capsys.readouterr().err


def test_profile_prints_the_table_and_json(capsys):
    assert main(["profile", "tsm_r50"]) == 0
    out = capsys.readouterr().out
    assert "24.33 M parameters, 32.70 GMACs" in out and "layer3" in out
    arguments = ["profile", "tsn_nano", "--num-classes", "12", "--size", "64", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["clip_shape"] == [1, 3, 8, 64, 64]


def test_profile_refuses_what_there_is_not(capsys):
    assert main(["profile", "tsm_r5"]) == 1
    assert "tsm_r50" in capsys.readouterr().err
    assert main(["profile", "tada2d_nano", "--size", "64", "--option", "calibrated_stages=3,x"]) == 1
    assert "calibrated_stages=[3, 'x'] is no list of whole numbers" in capsys.readouterr().err
    assert main(["profile", "tada2d_nano", "--option", "calibrated_stages=[3"]) == 1
    assert "give one value, or several as 1,2,3" in capsys.readouterr().err
    assert main(["profile", "tsm_r50", "--option", "shift_fraction"]) == 1
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_folder_that_is_not_there(cli):
    cli("data", "check", "nowhere", config=None, status=1)
    assert "there is no file or folder nowhere" in cli.output.err


@pytest.mark.parametrize("text", ["3,4", "(3, 4)", "[3,4]"])
def test_options_with_several_values(text, capsys):
    assert network_options([f"calibrated_stages={text}"]) == {"calibrated_stages": [3, 4]}
    assert split_options(f"routing=none,calibrated_stages={text},aggregation=max") == [
        "routing=none",
        f"calibrated_stages={text}",
        "aggregation=max",
    ]
    assert main(["profile", "tada2d_nano", "--size", "64", "--option", f"calibrated_stages={text}"]) == 0
