"""The curve puts every run and every measurement at its own share and placement."""

from dataclasses import replace

from kinema.benchmarks.shift_curve import accuracy_curves, draw_shift_curve, latency_curves
from kinema.sweeps.collect import RunRow
from kinema.sweeps.grid import read_sweep

ROW = RunRow("none", 0, 0.4, 1.0, 10, 0, 1, 1.0, "c", False, "cpu", 1, "r")


def test_runs_and_measurements_find_their_place(tmp_path):
    (tmp_path / "base.yaml").write_text("model: {lr: 1}\n")
    half, front = "model.init_args.shift_fraction: 0.5", "model.init_args.placement: in_place"
    variants = f"none: {{model.init_args.shift_fraction: 0}}, half: {{{half}}}, half_front: {{{half}, {front}}}"
    (tmp_path / "sweep.yaml").write_text(f"{{base: base.yaml, variants: {{{variants}}}}}")
    tops = {("none", 0): 0.4, ("half", 0): 0.9, ("half", 1): 0.8, ("half_front", 0): 0.7}
    rows = [replace(ROW, variant=variant, seed=seed, top1=top1) for (variant, seed), top1 in tops.items()]
    accuracy = accuracy_curves(read_sweep(tmp_path / "sweep.yaml"), rows)
    assert accuracy == {"residual": {0.0: [40.0], 0.5: [90.0, 80.0]}, "in_place": {0.0: [40.0], 0.5: [70.0]}}

    names = ["tsn_r50", "tsm_r50:shift_fraction=0.5", "tsm_r50:shift_fraction=0.5,placement=in_place"]
    measured = [
        {"name": name, "ratio": ratio, "ratio_low": ratio - 0.01, "ratio_high": ratio + 0.02}
        for name, ratio in zip(names, (1.0, 1.25, 1.5), strict=True)
    ]
    latency = latency_curves(measured)
    assert latency["residual"] == {0.0: [0.99, 1.0, 1.02], 0.5: [1.24, 1.25, 1.27]}
    assert latency["in_place"][0.5][1] == 1.5 and latency["in_place"][0.0][1] == 1.0
    draw_shift_curve(tmp_path / "curve.png", accuracy, {"forward": latency}, title="t")
    assert (tmp_path / "curve.png").stat().st_size > 5000
