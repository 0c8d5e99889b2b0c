"""The command line: `kinema COMMAND ...`. Each command is loaded when it is called."""

import sys
from collections.abc import Sequence
from importlib import import_module

from kinema.cli.messages import say

COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("kinema.cli.training", "train a network on a data set: a classifier, or a localizer on features"),
    "validate": ("kinema.cli.training", "evaluate a checkpoint on the validation videos"),
    "test": ("kinema.cli.training", "evaluate a checkpoint on the test videos"),
    "sweep": ("kinema.cli.sweep", "run the variants of an experiment with several seeds"),
    "ensemble": ("kinema.cli.ensemble", "average the scores of several runs"),
    "predict": ("kinema.cli.predict", "name what is seen in your own videos"),
    "stream": ("kinema.cli.stream", "name what is seen in a camera, an address or a file, frame by frame"),
    "export": ("kinema.cli.export", "write a classifier as a file that runs without kinema"),
    "demo": ("kinema.cli.demo", "a web page on this machine: upload or record a clip"),
    "features": ("kinema.cli.features", "slide a classifier over whole videos, for localization"),
    "localize": ("kinema.cli.localize", "find what happens when in your own videos"),
    "models": ("kinema.cli.models", "list the networks"),
    "profile": ("kinema.cli.profile", "parameters and multiply-adds of a network, stage by stage"),
    "convert": ("kinema.cli.convert", "write a checkpoint in another layout"),
    "data": ("kinema.cli.data", "make, check, prepare, re-encode and shard data sets"),
    "bench": ("kinema.cli.bench", "measure loaders and networks side by side"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        from kinema import __version__

        print(__version__)
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        say(f"'{name}' is no command; the commands are {', '.join(COMMANDS)}")
        return 2
    if sys.stderr.isatty():  # seconds go by before a command can say its first word itself
        print(f"kinema {name}: loading PyTorch", file=sys.stderr)
    return import_module(COMMANDS[name][0]).run(arguments)


def _overview() -> str:
    lines = [f"  {name:<9} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            "kinema: efficient temporal modelling of video",
            "",
            "usage: kinema COMMAND [--help] ...",
            "",
            *lines,
            "",
            "Start with: kinema fit --config experiments/quickstart/tsm.yaml",
        ]
    )
