"""`kinema models`: the networks that can be built."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema models", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="only names that contain this text")
    options = parser.parse_args(arguments[1:])

    import torch

    from kinema.models import MODELS, create_model, list_models, list_options

    table = Table(box=None)
    for column in ("model", "parameters (400 classes)", "what it is", "options"):
        table.add_column(column, justify="right" if column.startswith("parameters") else "left")
    for name in list_models():
        if options.pattern not in name:
            continue
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in create_model(name).parameters())
        first_line = (MODELS[name].__doc__ or "").strip().splitlines()[0]
        table.add_row(name, f"{parameters / 1e6:.2f} M", first_line, " ".join(list_options(name)))
    Console(highlight=False).print(table)
    return 0
