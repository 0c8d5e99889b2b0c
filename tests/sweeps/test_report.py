"""What a reader of a table must be told, and the table of all experiments."""

import json
from dataclasses import replace

import pytest

from kinema.sweeps.collect import RunRow, append_result, failed_row, read_results
from kinema.sweeps.grid import read_sweep
from kinema.sweeps.report import INDEX_BEGIN, INDEX_END, result_marks, write_index, write_sweep_report
from kinema.sweeps.running import sweep_status

BEGIN, END = result_marks()


@pytest.fixture
def experiment(tmp_path):
    folder = tmp_path / "experiments" / "shifts"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text("model: {lr: 1}\n")
    variants = {"none": {"m.x": 0}, "all": {"m.x": 1}}
    claims = [{"variant": "all", "above": "none", "paper": "+3"}, {"variant": "none", "at_most": 10}]
    told = {"base": "base.yaml", "seeds": [0, 1], "baseline": "none", "variants": variants, "claims": claims}
    (folder / "sweep.yaml").write_text(json.dumps(told))
    (folder / "README.md").write_text(f"# What moves?\n\n{BEGIN}\n{END}\n\nkept\n")
    index = f"# All\n{INDEX_BEGIN}\n{INDEX_END}\n"
    (tmp_path / "experiments" / "README.md").write_text(index)
    return folder


def fill(folder, tops, **facts):
    sweep = read_sweep(folder / "sweep.yaml")
    known = {"source": "aaa", "uncommitted_changes": False, "parameters": 7} | facts
    for run in sweep.runs():
        if (run.variant.name, run.seed) in tops:
            changes = known.pop("uncommitted_changes", False)
            row = RunRow(
                run.variant.name,
                run.seed,
                tops[run.variant.name, run.seed],
                1.0,
                5,
                0,
                1,
                2.0,
                "c0",
                changes,
                "cpu",
                1,
                run.id,
                **known,
            )
            append_result(folder / "results.csv", row)
    return sweep


def report(folder, sweep):
    write_sweep_report(sweep, sweep_status(sweep, folder / "results.csv"), folder, command="kinema sweep FILE")
    return (folder / "README.md").read_text()


ALL = {("none", 0): 0.5, ("none", 1): 0.52, ("all", 0): 0.9, ("all", 1): 0.92}


def test_a_whole_table_has_verdicts_and_no_warnings(experiment):
    text = report(experiment, fill(experiment, ALL))
    assert text.startswith("# What moves?") and text.endswith("kept\n")
    assert "| all above none | +3 | +40.0 [+40.0, +40.0] | **agrees** |" in text
    assert "| none at most 10 % |" in text and "**disagrees** |" in text
    assert "kinema sweep FILE" in text and (experiment / "figure.png").is_file()
    assert not any(
        word in text for word in ("**Failed**", "**Not run yet**", "**Left out**", "**Mixed**", "**Changed**")
    )


def test_what_is_not_whole_is_told(experiment):
    sweep = fill(experiment, {("none", 0): 0.5})
    fill(experiment, {("all", 0): 0.9}, source="bbb", uncommitted_changes=True)
    append_result(
        experiment / "results.csv", failed_row("all", 1, [run.id for run in sweep.runs()][3], "out of memory")
    )
    append_result(experiment / "results.csv", failed_row("gone", 0, "seed0-00000000", "-"))
    text = report(experiment, sweep)
    assert "**Failed**: all, seed 1: failed: out of memory." in text
    assert "**Not run yet**: none seed 1, all seed 1." in text
    assert "**Left out**, being of another configuration than that of the sweep now: gone, seed 0: failed: -." in text
    assert "**Mixed**: the runs are of 2 states of the source: 1 of `aaa`, 1 of `bbb`." in text
    assert "**Changed**: 1 runs" in text


def test_no_finished_run_makes_no_table(experiment):
    with pytest.raises(FileNotFoundError, match="no run of the sweep shifts has finished"):
        report(experiment, read_sweep(experiment / "sweep.yaml"))


def test_runs_of_another_configuration_alone_make_no_table_and_leave_no_picture(experiment):
    report(experiment, fill(experiment, ALL))
    file = experiment / "sweep.yaml"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"all": {"trainer.max_epochs": 99}}))
    text = report(experiment, read_sweep(file))
    assert "No finished run of the configuration of now is recorded." in text and "agrees" not in text
    assert (
        "**Left out**, being of another configuration than that of the sweep now: none, seed 0: 50.0% after 1" in text
    )
    assert "**Not run yet**: none seed 0" in text and not (experiment / "figure.png").exists()


def test_the_table_of_all_experiments(experiment):
    write_index(experiment.parent, command="python x.py")
    text = (experiment.parent / "README.md").read_text()
    assert "| [shifts](shifts/README.md) | What moves? | 0 of 4 | not run yet | not run yet |" in text
    fill(experiment, ALL)
    write_index(experiment.parent, command="python x.py")
    text = (experiment.parent / "README.md").read_text()
    assert "| 4 of 4 | agrees: 1 | disagrees: 1 |" in text and text.count("What moves?") == 1


def test_the_table_leads_to_the_section_of_a_part(experiment):
    (experiment / "sweep-real.yaml").write_text((experiment / "sweep.yaml").read_text())
    begin, end = result_marks("real")
    readme = experiment / "README.md"
    readme.write_text(
        readme.read_text() + f"## The recipe, chosen\n\n## On real `videos`: 2\n\n{begin}\n{end}\n\n## After\n"
    )
    write_index(experiment.parent, command="python x.py")
    text = (experiment.parent / "README.md").read_text()
    assert "| [shifts-real](shifts/README.md#on-real-videos-2) |" in text and "| [shifts](shifts/README.md) |" in text


def test_an_interval_without_width_is_told(experiment):
    told = "**Without width**: all seeds came to one number, so the interval holds nothing else: all above none."
    assert told in report(experiment, fill(experiment, ALL))


def test_an_interval_of_some_width_is_not(experiment):
    assert "**Without width**" not in report(experiment, fill(experiment, ALL | {("all", 0): 0.91}))


def test_two_scales_of_a_question_stand_beside_each_other(experiment):
    (experiment / "sweep-real.yaml").write_text((experiment / "sweep.yaml").read_text())
    begin, end = result_marks("real")
    readme = experiment / "README.md"
    readme.write_text(readme.read_text() + f"{begin}\n{end}\n")
    report(experiment, fill(experiment, ALL))
    real = read_sweep(experiment / "sweep-real.yaml")
    for row, run in zip(read_results(experiment / "results.csv"), real.runs(), strict=True):
        append_result(experiment / "results-real.csv", replace(row, run=run.id, top1=0.25))
    write_sweep_report(real, sweep_status(real, experiment / "results-real.csv"), experiment, command="the other")
    text = readme.read_text()
    first, _, second = text.partition(begin)
    assert "| all | 7 | 91.0" in first and "| all | 7 | 25.0" in second
    assert "(figure.png)" in first and "(figure-real.png)" in second and "results-real.csv" in second
    assert text.count("kept") == 1
