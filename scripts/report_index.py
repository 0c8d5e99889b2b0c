"""Write the table of all experiments with their verdicts into experiments/README.md."""

import argparse
import shlex
import sys
from pathlib import Path

from kinema.sweeps.report import write_index

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", type=Path, nargs="?", default=Path("experiments"))
    write_index(parser.parse_args().experiments, command=f"python {shlex.join(sys.argv)}")
