"""Write what the runs of experiments/localization came to into a folder: detection.csv and the table of its README.

What the folder holds of these is replaced; give another folder than experiments/localization to keep the published results.
"""

import argparse
import shlex
import sys
from pathlib import Path

from kinema.sweeps.localization_table import write_localization

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder to write into, made if absent")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, such as runs/localization-tsm")
    parser.add_argument("--baseline", default="localization-tsn", help="variant the others are compared with")
    parser.add_argument("--classifiers", type=Path, nargs="*", default=[], help="runs the features came from")
    options = vars(parser.parse_args())
    command = f"python {shlex.join(sys.argv)}"
    rows = write_localization(options.pop("experiment"), options.pop("runs"), command=command, **options)
    print(f"{len(rows)} runs")
