"""Write the table of all recipes, read from their headers, into experiments/recipes/README.md."""

import argparse
import shlex
import sys
from pathlib import Path

from kinema.sweeps.recipes import write_recipes

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", type=Path, nargs="?", default=Path("experiments/recipes"))
    write_recipes(parser.parse_args().recipes, command=f"python {shlex.join(sys.argv)}")
