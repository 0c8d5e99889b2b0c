"""Write what `kinema bench growth ... --json FILE` measured into the README of an experiment, and draw it."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from kinema.benchmarks.growth import GrowthRow, draw_growth
from kinema.benchmarks.measured import growth_title, measured_table
from kinema.sweeps.report import insert_results

BEGIN, END = "<!-- growth: written by a command, not by hand -->", "<!-- end of growth -->"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment")
    parser.add_argument("file", type=Path, help="what kinema bench growth wrote")
    options = parser.parse_args()
    results = json.loads(options.file.read_text(encoding="utf-8"))
    modes = [mode for mode in ("forward", "forward_backward") if mode in results]
    rows = {mode: [GrowthRow(**row) for row in results[mode]] for mode in modes}
    parts = [measured_table(options.file), "![Time and memory over frames](growth.png)"]
    parts += [f"```bash\npython {shlex.join(sys.argv)}\n```"]
    insert_results(options.experiment / "README.md", "\n\n".join(parts), marks=(BEGIN, END))
    draw_growth(options.experiment / "growth.png", rows, title=growth_title(results))
