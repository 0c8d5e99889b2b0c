"""`kinema convert SOURCE TARGET --to kinema | official`: a checkpoint in another layout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from kinema.cli.messages import say
from kinema.cli.profile import network_options


def run(arguments: Sequence[str]) -> int:
    from kinema.checkpoints.load import LAYOUTS

    parser = argparse.ArgumentParser(
        prog="kinema convert",
        description=__doc__,
        epilog=f"Layouts that are read: those of {LAYOUTS}. experiments/recipes says which network to name for each. Layouts "
        "that are written: kinema's, and the official one of the TAdaConv family.",
    )
    parser.add_argument("source", type=Path, help="a run folder, its checkpoint, or weights of any layout below")
    parser.add_argument(
        "target", type=Path, help="file to write: .safetensors for kinema, .pyth, .pth or .pt for official"
    )
    parser.add_argument("--to", choices=("kinema", "official"), required=True, help="layout to write")
    parser.add_argument("--model", help="name of the network; a run knows its own")
    parser.add_argument("--num-classes", type=int, default=400)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the network")
    options = parser.parse_args(arguments[1:])

    from kinema.checkpoints.write import write_official, write_weights

    try:
        _check_target(options)
        network = _network(options)
        if options.to == "kinema":
            write_weights(network, options.target)
            what = "kinema's layout"
        else:
            what = write_official(network, options.target)
    except (ValueError, TypeError, FileNotFoundError) as error:
        say(error)
        return 1
    print(f"{options.target}: {what}")
    return 0


def _check_target(options: argparse.Namespace) -> None:
    """Refuse a target before anything is loaded for it."""
    endings = (".safetensors",) if options.to == "kinema" else (".pyth", ".pth", ".pt")
    if options.target.suffix not in endings:
        raise ValueError(f"{options.target.name}: end the name in {' or '.join(endings)} for --to {options.to}")
    if options.target.resolve() == options.source.resolve():
        raise ValueError(f"{options.target} is the source itself; give another file, so that nothing is lost")


def _network(options: argparse.Namespace) -> nn.Module:
    from kinema import create_model, load_checkpoint
    from kinema.training.record import checkpoint_of
    from kinema.training.restore import load_classifier

    if options.model is not None:
        network = create_model(
            options.model, options.num_classes, options.num_frames, **network_options(options.option)
        )
        print(load_checkpoint(network, options.source))
        return network
    source = checkpoint_of(options.source) if options.source.is_dir() else options.source
    try:
        return load_classifier(source).network
    except ValueError as error:
        raise ValueError(
            f"{options.source} does not say which network its weights are of ({error}); name it with --model, its "
            "--num-classes and, where they differ from the defaults, its options with --option"
        ) from error
