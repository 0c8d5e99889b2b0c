"""Statistics over runs, against numbers worked out by hand."""

import json
import shutil
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from kinema.sweeps.collect import (
    markdown_table,
    mean_interval,
    paired_difference,
    read_results,
    read_runs,
    validation_curve,
    write_results,
)
from kinema.sweeps.figures import draw_bars, draw_curves
from kinema.sweeps.report import result_marks, write_report

BEGIN, END = result_marks()


@pytest.fixture
def runs(tmp_path):
    for variant, tops in {"tsn": (0.60, 0.64, 0.62), "tsm": (0.70, 0.72, 0.77)}.items():
        for seed, top1 in enumerate(tops):
            folder = tmp_path / variant / f"seed{seed}"
            folder.mkdir(parents=True)
            metrics = {"top1": top1, "top5": 0.9, "videos": 50, "undecodable": 0, "epochs": 3, "seconds": 10.0}
            (folder / "metrics.json").write_text(json.dumps(metrics))
            facts = {"seed": seed, "commit": "abc", "uncommitted_changes": False, "device": "cpu", "cpu_threads": 2}
            facts["packages"] = {"torch": "2.15.0"}
            (folder / "environment.json").write_text(json.dumps(facts))
            lines = [{"epoch": e, "val/top1": top1 * (e + 1) / 3} for e in range(3)] + [{"train/loss": 1.0}]
            (folder / "history.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "tsm" / "unfinished").mkdir()
    return tmp_path


def test_the_paired_interval(runs):
    # Differences 0.10, 0.08, 0.15: mean 0.11, s = 0.036056, t(0.975, 2) = 4.302653, half width 0.089566.
    difference = paired_difference(read_runs([runs]), "tsm", "tsn")
    assert difference.mean == pytest.approx(0.11)
    assert (difference.low, difference.high) == pytest.approx((0.11 - 0.089566, 0.11 + 0.089566), abs=1e-6)
    assert difference.pairs == 3


def test_an_interval_of_shares_ends_at_one(runs):
    rows = [replace(row, top1=share) for row, share in zip(read_runs([runs])[:2], (0.9, 1.0), strict=True)]
    interval = mean_interval(rows, rows[0].variant)  # half of its width is 0.05 * t(0.975, 1) = 0.64
    assert (interval.mean, interval.high) == (pytest.approx(0.95), 1.0) and interval.low == pytest.approx(
        0.3147, abs=1e-4
    )


def test_the_table(runs):
    table = markdown_table(read_runs([runs]), baseline="tsn").splitlines()
    assert table[2] == "| tsm | 73.0 ± 3.6 | 90.0 ± 0.0 | 0 1 2 | 50 | 10 | +11.0 [+2.0, +20.0] |"
    assert table[3].startswith("| tsn | 62.0 ± 2.0 |")


def test_results_survive_the_file(runs, tmp_path):
    rows = read_runs([runs])
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows


def test_one_seed_gives_no_interval_and_a_seed_twice_is_an_error(runs):
    rows = read_runs([runs])
    with pytest.raises(ValueError, match=r"share the seeds \[0\]; an interval needs at least two"):
        paired_difference([row for row in rows if row.seed == 0], "tsm", "tsn")
    with pytest.raises(ValueError, match="seed 0 of tsm was run twice"):
        paired_difference([*rows, rows[0]], "tsm", "tsn")


def test_no_run_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        read_runs([tmp_path])


def test_pictures(runs, tmp_path):
    curve = validation_curve(runs / "tsm" / "seed0")
    assert [epoch for epoch, _ in curve] == [1, 2, 3] and curve[-1][1] == pytest.approx(0.7)
    draw_curves(tmp_path / "curves.png", {"tsm": [curve]}, ceiling=0.5)
    draw_bars(tmp_path / "bars.png", read_runs([runs]))
    assert (tmp_path / "curves.png").stat().st_size > 5000 < (tmp_path / "bars.png").stat().st_size


def test_bars_show_other_orders_of_frames_where_all_runs_have_them(runs, tmp_path, monkeypatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *rest, **options: drawn.append(figure))
    rows = [replace(row, top1_shuffled=0.25, top1_reversed=0.125, top1_frozen=None) for row in read_runs([runs])]
    draw_bars(tmp_path / "a.png", rows)
    draw_bars(tmp_path / "b.png", [replace(rows[0], top1_shuffled=None, top1_reversed=None), *rows[1:]])
    assert [[text.get_text() for text in legend.get_texts()] for legend in drawn[0].legends] == [
        ["a seed", "frames shuffled", "reversed"]
    ]
    marks = {held.get_label(): held.get_offsets() for held in drawn[0].axes[0].collections}
    assert set(marks["reversed"][:, 1]) == {12.5} and len(marks["reversed"]) == len({row.variant for row in rows})
    assert [text.get_text() for text in drawn[1].legends[0].get_texts()] == ["a seed"]


def test_beside_the_bars_stands_the_difference_to_the_baseline(runs, tmp_path, monkeypatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *rest, **options: drawn.append(figure))
    rows = read_runs([runs])
    draw_bars(tmp_path / "a.png", rows, baseline="tsn", label="top-1 elsewhere")
    draw_bars(tmp_path / "b.png", [row for row in rows if row.seed == 0], baseline="tsn")
    bars, beside = drawn[0].axes
    assert bars.get_xlabel() == "top-1 elsewhere" and "points above tsn" in beside.get_xlabel()
    (errors,) = beside.containers
    expected = paired_difference(rows, "tsm", "tsn")
    names = [text.get_text() for text in bars.get_yticklabels()]
    assert errors[0].get_xdata() == pytest.approx([100 * expected.mean]) and names[errors[0].get_ydata()[0]] == "tsm"
    assert errors[2][0].get_segments()[0][:, 0] == pytest.approx([100 * expected.low, 100 * expected.high])
    assert len(drawn[1].axes) == 1  # one seed makes no interval
    # Pairs do not stand in for a baseline that has not run: the axis would name it.
    draw_bars(tmp_path / "c.png", rows, baseline="absent", pairs={"tsm": "tsn"})
    assert len(drawn.pop().axes) == 1

    draw_bars(tmp_path / "c.png", rows, pairs={"tsm": "tsn"})
    (errors,) = drawn[2].axes[1].containers
    assert errors[0].get_xdata() == pytest.approx([100 * expected.mean])
    assert "what each is compared with" in drawn[2].axes[1].get_xlabel()


def test_the_report_goes_between_the_marks_and_can_be_written_again(runs, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write_report(folder, [runs / "tsm", runs / "tsn"], command="do it", baseline="tsn", curves=True, ceiling=0.5)
        text = (folder / "README.md").read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        assert text.count("| tsm | 73.0 ± 3.6 |") == 1 and "do it" in text and "`abc`" in text
        assert "cpu, 2 threads; torch 2.15.0." in text
    assert (folder / "figure.png").is_file() and len(read_results(folder / "results.csv")) == 6
    (folder / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="has no place for results"):
        write_report(folder, [runs], command="do it")


def test_evaluations_and_runs_that_were_cut_off_are_no_runs(runs):
    for name, facts in {
        "seed7": {"stage": "validate", "part": "val"},
        "seed8": {"stage": "fit", "finished": False},
        "seed9": {"stage": "fit", "epochs": 1},
    }.items():
        shutil.copytree(runs / "tsm" / "seed0", runs / "tsm" / name)
        metrics = json.loads((runs / "tsm" / name / "metrics.json").read_text()) | facts
        (runs / "tsm" / name / "metrics.json").write_text(json.dumps(metrics))
        (runs / "tsm" / name / "config.yaml").write_text("trainer: {max_epochs: 3}")
    assert [row.run for row in read_runs([runs / "tsm"])] == ["seed0", "seed1", "seed2"]
    metrics = json.loads((runs / "tsm" / "seed8" / "metrics.json").read_text()) | {"finished": True}
    (runs / "tsm" / "seed8" / "metrics.json").write_text(json.dumps(metrics))
    assert len(read_runs([runs / "tsm"])) == 4
