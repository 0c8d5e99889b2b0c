"""Write the results of finished runs into an experiment's folder: results.csv, figure.png and the table of its README."""

import argparse
import shlex
import sys
from pathlib import Path

from kinema.sweeps.report import write_report

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, such as runs/quickstart-tsm")
    parser.add_argument("--baseline", help="variant the others are compared with")
    parser.add_argument("--curves", action="store_true", help="draw accuracy over epochs instead of bars")
    parser.add_argument("--ceiling", type=float, help="dashed line in the curves")
    parser.add_argument("--title", default="", help="above the picture")
    options = vars(parser.parse_args())
    command = f"python {shlex.join(sys.argv)}"
    rows = write_report(options.pop("experiment"), options.pop("runs"), command=command, **options)
    print(f"{len(rows)} runs")
