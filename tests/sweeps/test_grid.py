"""Sweep files: the runs they come to, ids that follow from what is run, and what cannot be run."""

import re
from pathlib import Path

import pytest

from kinema.sweeps.grid import SweepError, read_sweep


@pytest.fixture
def write(tmp_path):
    (tmp_path / "shift").mkdir()
    (tmp_path / "shift" / "base.yaml").write_text("seed_everything: 0\nrun: {name: x}\nmodel: {lr: 1}\n")
    (tmp_path / "shift" / "other.yaml").write_text("model: {lr: 2}\n")

    def call(text, name="sweep.yaml"):
        file = tmp_path / "shift" / name
        file.write_text(text)
        return read_sweep(file)

    return call


def test_variants_and_seeds_become_runs(write):
    changes = "a: {m.x: 1}, b: {m.x: [1, 2], m.name: joint, m.off: null}, c: {base: other.yaml}"
    sweep = write("{base: base.yaml, seeds: [3, 1], variants: {" + changes + "}}")
    assert sweep.name == "shift"
    runs = list(sweep.runs(["--data.root=/d"]))
    assert [(run.variant.name, run.seed) for run in runs] == [(v, s) for s in (3, 1) for v in "abc"]
    assert len({run.id for run in runs}) == 6
    arguments = runs[1].arguments(Path("runs"))
    base = str(sweep.folder / "base.yaml")
    changes = ["--m.x=[1, 2]", "--m.name=joint", "--m.off=null"]
    assert arguments[:7] == ["fit", "--config", base, *changes, "--data.root=/d"]
    assert {"--seed_everything=3", "--run.root=runs", "--run.name=shift/b", f"--run.id={runs[1].id}"} <= set(arguments)
    assert {"--run.group=shift", "--run.job_type=b"} <= set(arguments)
    assert runs[2].arguments(Path("runs"))[2].endswith("other.yaml")
    assert runs[0].folder(Path("runs")) == Path("runs/shift/a") / runs[0].id


def test_a_grid_is_every_combination(write):
    sweep = write(
        "{base: base.yaml, grid: {m.fraction: [0, 0.5], m.kernels: [[3, 3], [1, 1]], m.on: [true]}}", "sweep-wide.yaml"
    )
    assert sweep.name == "shift-wide" and sweep.seeds == (0, 1, 2)
    assert [variant.name for variant in sweep.variants] == [
        "fraction=0,kernels=3-3,on=True",
        "fraction=0,kernels=1-1,on=True",
        "fraction=0.5,kernels=3-3,on=True",
        "fraction=0.5,kernels=1-1,on=True",
    ]
    assert sweep.variants[2].changes == {"m.fraction": 0.5, "m.kernels": [3, 3], "m.on": True}


def test_an_id_follows_from_what_is_run_and_from_nothing_else(write, tmp_path):
    def ids(text="{base: base.yaml, seeds: [0], variants: {a: {m.x: 1}}}", extra=()):
        return [run.id for run in write(text).runs(extra)]

    first = ids()
    assert ids("{base: base.yaml, seeds: [0, 1], title: T, variants: {other_name: {m.x: 1}}}")[0] == first[0]
    assert ids("{base: base.yaml, seeds: [0], variants: {a: {m.x: 2}}}") != first
    assert ids("{base: other.yaml, seeds: [0], variants: {a: {m.x: 1}}}") != first
    assert ids(extra=["--data.size=32"]) != first
    base = tmp_path / "shift" / "base.yaml"
    base.write_text("# a comment\nrun: {name: y}\nmodel: {lr: 1}\nseed_everything: 5\n")
    assert ids() == first
    base.write_text("model: {lr: 3}\n")
    assert ids() != first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{base: base.yaml, variant: {a: {}}}", "variant is no key of a sweep, variants is; the keys are all, base"),
        ("{base: base.yaml}", "has no variant; write some"),
        ("{base: base.yaml, grid: {}}", "the grid is empty"),
        ("{base: base.yaml, grid: {m.x: []}}", "gives m.x no list of values"),
        ("{base: base.yaml, grid: {m.x: 3}}", "gives m.x no list of values, but 3"),
        ("{base: base.yaml, variants: {a: {m.x: 1}, b: {m.x: 1}}}", "a and b are the same run"),
        ("{base: base.yaml, variants: {x=1: {m.y: 1}}, grid: {m.x: [1]}}", "two variants are named x=1"),
        ("{base: base.yaml, variants: {a/b: {}}}", "'a/b' cannot name a folder"),
        ("{base: base.yaml, variants: {a: {m.x: .nan}}}", "a has the value nan; give a number"),
        ("{base: base.yaml, variants: [a]}", "variants is list; write a name and its changes"),
        ("{variants: {a: {}}}", "has no base"),
        ("{base: base.yaml, seeds: [], variants: {a: {}}}", r"seeds=\[\]; give a list"),
        ("{base: base.yaml, seeds: [0, 0], variants: {a: {}}}", "names one twice"),
        ("{base: base.yaml, seeds: [true], variants: {a: {}}}", "give a list of whole numbers"),
        ("{base: base.yaml, baseline: b, variants: {a: {}}}", "the baseline 'b' is no variant; the variants are a"),
        ("{base: base.yaml, variants: {a: {}}, claims: [{variant: b, above: a}]}", "a claim names 'b'"),
        ("{base: base.yaml, all: [x], variants: {a: {}}}", "all is list; write an option and its value"),
        ("{base: base.yaml, seed: [0], variants: {a: {}}}", "seed is no key of a sweep, seeds is; the keys are"),
        ("base: base.yaml\nvariants:\n  a: {}\n  a: {m.x: 1}\n", "line 4: a stands there twice"),
        ("{base: base.yaml, variants: {a: {m.x: 1, m.x: 2}}}", "m.x stands there twice"),
        ("[a]", "holds no mapping"),
        ("{base: [}", "is no YAML"),
    ],
)
def test_what_cannot_be_run_is_told(write, text, told):
    with pytest.raises(SweepError, match=told):
        write(text)


def test_what_variants_share_can_be_merged_in(write):
    sweep = write("{base: base.yaml, variants: {a: &a {m.x: 1}, b: {<<: *a, m.x: 2, m.y: 3}, c: {<<: *a, m.y: 4}}}")
    assert [dict(variant.changes) for variant in sweep.variants] == [
        {"m.x": 1},
        {"m.x": 2, "m.y": 3},
        {"m.x": 1, "m.y": 4},
    ]


def test_files_that_are_not_there(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.yaml does not exist")):
        write("{base: nowhere.yaml, variants: {a: {}}}")
    with pytest.raises(FileNotFoundError, match="does not exist; try experiments/"):
        read_sweep(tmp_path / "no.yaml")
    (tmp_path / "sweep-real.yaml").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"does not exist; there are .*sweep-real\.yaml"):
        read_sweep(tmp_path)


def test_what_all_variants_change_is_told_once_and_a_variant_has_the_last_word(write):
    sweep = write("{base: base.yaml, all: {m.x: 1, m.y: 2}, variants: {a: {m.x: 3}}, grid: {m.z: [5]}}")
    assert [dict(variant.changes) for variant in sweep.variants] == [
        {"m.x": 3, "m.y": 2},
        {"m.x": 1, "m.y": 2, "m.z": 5},
    ]
    alone = write("{base: base.yaml, variants: {a: {m.x: 3, m.y: 2}}}")
    assert next(alone.runs()).id == next(sweep.runs()).id


def test_environment_variables_are_filled_in_and_stay_out_of_ids(write, monkeypatch):
    text = "{base: base.yaml, all: {data.root: '${CLIPS}/depth'}, variants: {a: {m.names: [x]}}}"
    (run, *_) = write(text).runs()
    monkeypatch.delenv("CLIPS", raising=False)
    with pytest.raises(SweepError, match="a needs the environment variable CLIPS, which is not set"):
        run.arguments(Path("runs"))
    monkeypatch.setenv("CLIPS", "/somewhere")
    assert "--data.root=/somewhere/depth" in run.arguments(Path("runs"))
    (elsewhere, *_) = write(text).runs()
    monkeypatch.setenv("CLIPS", "/elsewhere")
    assert elsewhere.id == run.id


def test_another_scale_of_the_same_question_has_files_of_its_own(write):
    text = "{base: base.yaml, variants: {a: {}}}"
    one, two = write(text), write(text, "sweep-real.yaml")
    assert (one.name, one.results, one.figure) == ("shift", "results.csv", "figure.png")
    assert (two.name, two.results, two.figure) == ("shift-real", "results-real.csv", "figure-real.png")


def test_a_folder_stands_for_its_sweep(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {}\n")
    (tmp_path / "sweep.yaml").write_text("base: base.yaml\nvariants: {one: {a: 1}}\n")
    assert read_sweep(tmp_path) == read_sweep(tmp_path / "sweep.yaml")


def test_the_size_of_an_optimiser_step_is_part_of_a_run_and_its_name_is_not(write, tmp_path):
    def the_id(run):
        (tmp_path / "shift" / "base.yaml").write_text(f"model: {{lr: 1}}\nrun: {{{run}}}\n")
        return next(iter(write("{base: base.yaml, seeds: [0], variants: {a: {m.x: 1}}}").runs())).id

    assert the_id("name: a, frame_orders: [reversed]") == the_id("name: b, group: c")
    assert the_id("name: a, videos_per_step: 64") != the_id("name: a, videos_per_step: 512") != the_id("name: a")
