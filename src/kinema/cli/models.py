"""`kinema models`: the networks that can be built, and the options of one of them."""

import argparse
import inspect
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from kinema.cli.messages import say


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema models", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="a name, for its options; or only names with this text")
    options = parser.parse_args(arguments[1:])

    from kinema.models import MODELS

    if not any(options.pattern in name for name in MODELS):
        say(_unknown(options.pattern))
        return 1
    console = Console(highlight=False)
    console.print(_one(options.pattern) if options.pattern in MODELS else _all(options.pattern))
    return 0


def _unknown(pattern: str) -> str:
    from kinema.models import list_options

    try:
        list_options(pattern)
    except ValueError as error:
        return str(error)
    raise AssertionError(pattern)


def _all(pattern: str) -> Table:
    import torch

    from kinema.models import MODELS, create_model, list_models

    table = Table(box=None, caption="kinema models NAME tells the options of one", caption_justify="left")
    for column in ("model", "parameters (400 classes)", "what it is"):
        table.add_column(
            column, justify="right" if column.startswith("parameters") else "left", no_wrap=column == "model"
        )
    for name in list_models():
        if pattern in name:
            with torch.device("meta"):
                parameters = sum(parameter.numel() for parameter in create_model(name).parameters())
            table.add_row(name, f"{parameters / 1e6:.2f} M", _documentation(MODELS[name]).splitlines()[0])
    return table


def _one(name: str) -> Table:
    from kinema.models import MODELS, describe_options

    table = Table(box=None, title=f"{name}: {_documentation(MODELS[name])}", title_justify="left", title_style="")
    table.add_column("option", no_wrap=True)
    table.add_column("what it is, and its default")
    for option, meaning in {
        "num_classes": "Size of K, or a tuple of sizes for several classifiers. Default 400.",
        "num_frames": f"Frames of a clip. Default {inspect.signature(MODELS[name]).parameters['num_frames'].default}.",
        **describe_options(name),
    }.items():
        table.add_row(option, meaning)
    return table


def _documentation(build: object) -> str:
    return inspect.getdoc(build) or ""
