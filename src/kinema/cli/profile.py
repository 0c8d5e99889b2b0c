"""`kinema profile MODEL`: parameters and multiply-adds, stage by stage."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict

import yaml

from kinema.cli.messages import say


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema profile", description=__doc__)
    parser.add_argument("model", help="a name that 'kinema models' lists")
    parser.add_argument("--num-classes", type=int, default=400)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="side of the square frames, in pixels")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the network, such as depths=1,1,2,1",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments[1:])

    import torch

    from kinema import create_model, profile

    try:
        with torch.device("meta"):
            network = create_model(
                options.model, options.num_classes, options.num_frames, **network_options(options.option)
            )
        cost = profile(network, (options.batch_size, 3, options.num_frames, options.size, options.size))
    except (ValueError, TypeError) as error:
        say(error)
        return 1
    if options.json:
        print(json.dumps({"model": options.model, **asdict(cost)}))
        return 0
    print(cost)
    print(
        f"\n{options.model}: {cost.params / 1e6:.2f} M parameters, {cost.macs / 1e9:.2f} GMACs for a clip "
        f"{' x '.join(map(str, cost.clip_shape))} (B, C, T, H, W); a multiply-add counts once"
    )
    return 0


def network_options(pairs: Sequence[str]) -> dict[str, object]:
    """Read NAME=VALUE, the values as YAML; several values stand in brackets or between commas.

    Raises:
        ValueError: If a pair has no equals sign, or a value no end.
    """
    read: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"an option reads NAME=VALUE, such as shift_fraction=0.5 or depths=1,1,2,1; got '{pair}'")
        value = value.strip()
        if "," in value and not value.startswith("["):
            value = f"[{value.strip('()')}]"
        try:
            read[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(
                f"the value of {name}={value} cannot be read; give one value, or several as 1,2,3"
            ) from error
    return read


def split_options(text: str) -> list[str]:
    """ "a=1,b=2,3,c=x" as its pairs a=1, b=2,3 and c=x: a comma between pairs has a name and an equals sign behind it."""
    return [pair for pair in re.split(r",(?=\s*\w+=)", text) if pair]
