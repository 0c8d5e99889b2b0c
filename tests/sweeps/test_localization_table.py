"""The table of the localization experiment."""

import csv
import json

import pytest

from kinema.sweeps.localization_table import localization_table, read_localization_runs, write_localization

VALUES = {"localization-tsn": [0.20, 0.22, 0.24], "localization-tsm": [0.50, 0.51, 0.55]}


def pretend(root, variant, seed, value, **changes):
    folder = root / variant / f"seed{seed}"
    folder.mkdir(parents=True)
    metrics = {"average_mAP": value, "mAP@0.50": value + 0.2, "mAP@0.75": value - 0.1, "AR@100": 0.7, "epochs": 10}
    metrics |= {"videos": 8, "segments": 90, "seconds": 12.4, "seed": seed, **changes}
    facts = {"commit": "abcdef0123456789", "uncommitted_changes": False, "device": "a processor", "cpu_threads": 1}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def runs(tmp_path):
    for variant, values in VALUES.items():
        for seed, value in enumerate(values):
            pretend(tmp_path / "runs", variant, seed, value)
    return [tmp_path / "runs" / variant for variant in VALUES]


@pytest.fixture
def experiment(tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    marks = "<!-- results: written by a command, not by hand -->", "<!-- end of results -->"
    (folder / "README.md").write_text(f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n")
    return folder


def test_means_intervals_and_differences(runs):
    table = localization_table(read_localization_runs(runs), baseline="localization-tsn").splitlines()
    assert len(table) == 4 and "minus localization-tsn" in table[0]
    # t(0.975, 2) = 4.303; standard deviations 0.02 and 0.0265; differences 0.30, 0.29, 0.31.
    assert table[2].startswith("| localization-tsn | 22.0 ± 5.0 | 42.0 | 12.0 | 70.0 | 0 1 2 | 12 |")
    assert table[3].startswith("| localization-tsm | 52.0 ± 6.6 | 72.0 | 42.0 |")
    assert table[3].endswith("| +30.0 [+27.5, +32.5] |") and table[2].endswith("|  |")


def test_rows_and_readme_are_written(runs, experiment):
    rows = write_localization(experiment, runs, baseline="localization-tsn", command="python it")
    with (experiment / "detection.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(rows) == len(read) == 6 and [float(row["average_map"]) for row in read] == [
        *VALUES["localization-tsn"],
        *VALUES["localization-tsm"],
    ]
    text = (experiment / "README.md").read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "8 videos with 90 segments" in text and "`abcdef0123`;" in text and "python it" in text


def test_classifiers_are_told(runs, experiment, tmp_path):
    metrics = {"top1": 0.996, "top5": 1.0, "undecodable": 0}
    pretend(tmp_path / "classifiers", "quickstart-tsm", 4, 0.0, **metrics)
    folders = [tmp_path / "classifiers" / "quickstart-tsm"]
    write_localization(experiment, runs, baseline="localization-tsn", command="it", classifiers=folders)
    text = (experiment / "README.md").read_text()
    assert "quickstart-tsm, seed 4: 99.6 % of the trimmed clips, commit `abcdef0123`" in text


def test_runs_that_only_evaluated_are_left_out(runs):
    folder = pretend(runs[0].parent, runs[0].name, 7, 0.9, stage="validate")
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["epochs"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert [row.seed for row in read_localization_runs(runs[:1])] == [0, 1, 2]


def test_a_folder_without_a_readme_gets_one(runs, tmp_path):
    for _ in range(2):
        write_localization(tmp_path / "mine" / "results", runs, baseline="localization-tsn", command="it")
    text = (tmp_path / "mine" / "results" / "README.md").read_text()
    assert text.startswith("# Localization\n") and text.count("| localization-tsm |") == 1


def test_one_seed_and_what_is_no_such_run(tmp_path):
    pretend(tmp_path, "a", 0, 0.5)
    table = localization_table(read_localization_runs([tmp_path / "a"]), baseline="b")
    assert "| a | 50.0 | 70.0 |" in table and "needs two shared seeds" in table
    with pytest.raises(FileNotFoundError, match="no finished run"):
        read_localization_runs([tmp_path / "absent"])
    folder = pretend(tmp_path, "b", 0, 0.5)
    (folder / "metrics.json").write_text('{"top1": 0.5}')
    with pytest.raises(ValueError, match="have no average_mAP"):
        read_localization_runs([tmp_path / "b"])
