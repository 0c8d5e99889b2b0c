"""Run causal networks frame by frame over their validation videos, and write how that agrees with clips into a README."""

import argparse
import shlex
import sys
from pathlib import Path

from kinema.sweeps.report import insert_results
from kinema.training.streamed import STREAMED_BEGIN, STREAMED_END, stream_validation, streamed_origin, streamed_table

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, such as runs/causal-tsm")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda:0")
    options = parser.parse_args()
    found = {run.name: stream_validation(run, device=options.device) for run in options.runs}
    table, command = f"{streamed_table(found)}\n\n{streamed_origin(options.device)}", f"python {shlex.join(sys.argv)}"
    print(table)
    text = f"{table}\n\n```bash\n{command}\n```"
    insert_results(options.experiment / "README.md", text, marks=(STREAMED_BEGIN, STREAMED_END))
    sys.exit(any(validation.disagreeing for validation in found.values()))
