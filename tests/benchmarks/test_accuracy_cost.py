"""Recorded accuracy against cost: which network a variant is, and where its point stands."""

import pytest
import torch

import kinema
from kinema.benchmarks.accuracy_cost import cost_points, draw_cost, with_latency
from kinema.sweeps.collect import RunRow, write_results
from kinema.sweeps.grid import read_sweep

BASE = """
run: {name: alone}
model: {class_path: kinema.training.TSM, init_args: {backbone: nano, optimizer: {name: sgd, lr: 0.1}}}
data: {class_path: kinema.data.datasets.MotionData, init_args: {num_frames: 4, size: 32}}
"""
SWEEP = """
base: base.yaml
seeds: [0, 1]
variants:
  plain: {}
  half: {model.init_args.shift_fraction: 0.5, data.init_args.num_frames: 2}
  frames: {model.class_path: kinema.training.TSN}
"""


def row(variant, seed, top1, run="run"):
    return RunRow(variant, seed, top1, 0.9, 100, 0, 3, 10.0, "abc", False, "cpu", 1, run)


@pytest.fixture
def experiments(tmp_path):
    for name in ("sweep", "single"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text("# Why?\n")
        (tmp_path / name / "base.yaml").write_text(BASE)
    (tmp_path / "sweep" / "sweep.yaml").write_text(SWEEP)
    ids = {(run.variant.name, run.seed): run.id for run in read_sweep(tmp_path / "sweep" / "sweep.yaml").runs()}
    tops = {("plain", 0): 0.4, ("plain", 1): 0.6, ("half", 0): 0.7}
    write_results(tmp_path / "sweep" / "results.csv", [row(*key, top1, ids[key]) for key, top1 in tops.items()])
    write_results(tmp_path / "single" / "results.csv", [row("alone", 0, 0.9)])
    return tmp_path


def test_points(experiments):
    single, plain, half = cost_points(experiments)
    assert [(point.experiment, point.variant) for point in (single, plain, half)] == [
        ("single", "alone"),
        ("sweep", "plain"),
        ("sweep", "half"),
    ]
    assert (plain.top1, plain.top1_low, plain.top1_high, plain.seeds) == (0.5, 0.4, 0.6, 2)
    assert (
        plain.model == "tsm_nano" and half.options["shift_fraction"] == 0.5 and plain.options["shift_fraction"] == 0.25
    )
    assert plain.clip_shape == (1, 3, 4, 32, 32) and half.frames == 2
    network = kinema.create_model("tsm_nano", 12)
    assert plain.params == sum(parameter.numel() for parameter in network.parameters())
    assert plain.mmacs == kinema.profile(network, (1, 3, 4, 32, 32)).macs / 1e6 == pytest.approx(2 * half.mmacs)
    assert [point.experiment for point in cost_points(experiments, ["single"])] == ["single"]
    assert cost_points(experiments, data="UTDMHADDepth") == []
    with pytest.raises(ValueError, match="no experiment is named other; there are single, sweep"):
        cost_points(experiments, ["other"])


def test_latency_and_picture(experiments, tmp_path):
    points = cost_points(experiments)
    assert len(draw_cost(points).axes) == 2
    threads = torch.get_num_threads()
    timed = with_latency(points, rounds=1)
    assert all(point.latency_ms > 0 for point in timed) and torch.get_num_threads() == threads
    figure = draw_cost(timed, title="title")
    assert len(figure.axes) == 3
    heights = [container.lines[0].get_ydata()[0] for container in figure.axes[0].containers]
    assert heights == pytest.approx([90, 50, 70])
    times = [container.lines[0].get_xdata()[0] for container in figure.axes[2].containers]
    assert times == [point.latency_ms for point in timed]
    figure.savefig(tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="no network was recorded"):
        draw_cost([])
