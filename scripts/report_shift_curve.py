"""Draw accuracy (of the sweep) and time (of `kinema bench model --json`) over the share of channels that a shift moves."""

import argparse
import json
from pathlib import Path

from kinema.benchmarks.shift_curve import accuracy_curves, draw_shift_curve, latency_curves
from kinema.sweeps.grid import read_sweep
from kinema.sweeps.running import sweep_status

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment, whose sweep has run")
    parser.add_argument("file", type=Path, help="what kinema bench model wrote")
    options = parser.parse_args()
    sweep = read_sweep(options.experiment / "sweep.yaml")
    rows = sweep_status(sweep, options.experiment / sweep.results).rows
    measured = json.loads(options.file.read_text(encoding="utf-8"))
    modes = {mode: latency_curves(measured[mode]) for mode in ("forward", "forward_backward") if mode in measured}
    title = f"accuracy: {sweep.title}; time: {measured['forward'][0]['name']} and its shifts"
    draw_shift_curve(options.experiment / "curve.png", accuracy_curves(sweep, rows), modes, title=title)
