"""Write what `kinema bench ... --json FILE` measured into the README of an experiment."""

import argparse
import shlex
import sys
from pathlib import Path

from kinema.benchmarks.tables import write_speed

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment")
    parser.add_argument("files", type=Path, nargs="+", help="files that kinema bench wrote")
    options = parser.parse_args()
    write_speed(options.experiment, options.files, command=f"python {shlex.join(sys.argv)}")
