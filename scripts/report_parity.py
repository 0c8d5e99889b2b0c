"""Compare networks with the reference numbers of their authors' code, and write the table into an experiment's README.

Each row makes the rule's weights and clip, loads the checkpoint in its authors' layout and runs in float64.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from rich.progress import track

import kinema
from kinema.sweeps.report import insert_results

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))
BEGIN, END = "<!-- parity: written by a command, not by hand -->", "<!-- end of parity -->"


def row_of(family: str, name: str) -> str:
    from networks import clip_for, distance, loaded_network

    model, wanted = loaded_network(family, name)
    clip = clip_for(wanted)
    with torch.no_grad():
        error = distance(model(clip)[0], wanted["logits"])
    cost = kinema.profile(model, clip.shape)
    shape = " x ".join(map(str, clip.shape[2:]))
    return (
        f"| {name} | {shape} | {cost.params:,} | {wanted['n_params']:,} | {cost.macs / 1e9:.2f} "
        f"| {wanted['gmacs']:.2f} | {error:.1e} |"
    )


def operators_line(test: str) -> str:
    """What pytest says of a file of operator tests, in its own words."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", test]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = result.stdout.strip().splitlines()[-1].strip("= ").partition(" in ")[0]
    return (
        f"Operators, in training and in evaluation, outputs, gradients and running statistics: `pytest {test}`: {last}."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="folder of the experiment")
    parser.add_argument("family", help="folder of tests/parity, such as tada")
    parser.add_argument(
        "--operators", help="a file of tests to run and quote, such as tests/parity/test_tada_operators.py"
    )
    options = parser.parse_args()
    from networks import names_of

    rows = [row_of(options.family, name) for name in track(names_of(options.family), "Networks")]
    head = (
        "| network | frames | parameters | of the reference | GMACs | of the reference | relative error of the logits |"
    )
    table = "\n".join([head, "|---|---|---|---|---|---|---|", *rows])
    parts = [table] + ([operators_line(options.operators)] if options.operators else [])
    parts += [f"```bash\npython {shlex.join(sys.argv)}\n```"]
    insert_results(options.experiment / "README.md", "\n\n".join(parts), marks=(BEGIN, END))
