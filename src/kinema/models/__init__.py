"""Named networks: a backbone, the operator in its holes, and a head. One plain function each, collected in `MODELS`."""

import inspect
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from torch import nn

from kinema.models import options as option_kinds
from kinema.models.resnet3d import r2plus1d_nano, r2plus1d_r50, r3d_nano, r3d_r50, slowonly_nano, slowonly_r50
from kinema.models.slowfast import slowfast_nano, slowfast_r50
from kinema.models.tada2d import tada2d_nano, tada2d_r50
from kinema.models.tadaconvnext import (
    tadaconvnext_base,
    tadaconvnext_nano,
    tadaconvnext_small,
    tadaconvnext_tiny,
)
from kinema.models.tadaconvnextv2 import (
    tadaconvnextv2_base,
    tadaconvnextv2_nano,
    tadaconvnextv2_small,
    tadaconvnextv2_tiny,
)
from kinema.models.tadaformer import tadaformer_b16, tadaformer_l14, tadaformer_nano
from kinema.models.timesformer import timesformer_base, timesformer_hr, timesformer_large, timesformer_nano
from kinema.models.timesformer_rotary import timesformer_rotary, timesformer_rotary_nano
from kinema.models.tsm import tsm_mobilenetv2, tsm_nano, tsm_r18, tsm_r50, tsm_r101
from kinema.models.tsn import tsn_mobilenetv2, tsn_nano, tsn_r18, tsn_r50, tsn_r101
from kinema.models.uniformer import uniformer_b, uniformer_nano, uniformer_s, uniformer_xs, uniformer_xxs

__all__ = ["MODELS", "create_model", "describe_options", "list_models", "list_options"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    build.__name__: build
    for build in (
        tsn_nano,
        tsn_r18,
        tsn_r50,
        tsn_r101,
        tsn_mobilenetv2,
        tsm_nano,
        tsm_r18,
        tsm_r50,
        tsm_r101,
        tsm_mobilenetv2,
        tada2d_nano,
        tada2d_r50,
        tadaconvnext_nano,
        tadaconvnext_tiny,
        tadaconvnext_small,
        tadaconvnext_base,
        tadaconvnextv2_nano,
        tadaconvnextv2_tiny,
        tadaconvnextv2_small,
        tadaconvnextv2_base,
        tadaformer_nano,
        tadaformer_b16,
        tadaformer_l14,
        timesformer_nano,
        timesformer_base,
        timesformer_hr,
        timesformer_large,
        timesformer_rotary_nano,
        timesformer_rotary,
        uniformer_nano,
        uniformer_xxs,
        uniformer_xs,
        uniformer_s,
        uniformer_b,
        r3d_nano,
        r3d_r50,
        r2plus1d_nano,
        r2plus1d_r50,
        slowonly_nano,
        slowonly_r50,
        slowfast_nano,
        slowfast_r50,
    )
}


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(MODELS)


def list_options(name: str) -> list[str]:
    """Options of a network beside `num_classes` and `num_frames`, sorted; `kinema.models.options` describes them.

    Raises:
        ValueError: If no network has this name.
    """
    if name not in MODELS:
        raise ValueError(f"no network is named {name!r}; {_nearest(name, MODELS)}")
    options = inspect.signature(MODELS[name]).parameters["options"].annotation  # Unpack[a TypedDict]
    return sorted(get_args(options)[0].__annotations__)


def describe_options(name: str) -> dict[str, str]:
    """The options of a network and what each means, with its default, in the words of `kinema.models.options`.

    Args and Raises: as for `list_options`.
    """
    known = list_options(name)
    own = get_args(inspect.signature(MODELS[name]).parameters["options"].annotation)[0]
    kinds = [kind for kind in vars(option_kinds).values() if hasattr(kind, "__required_keys__")]
    # Whatever this network's options are made of; the most special description of an option counts.
    parts = [kind for kind in kinds if set(kind.__annotations__) <= set(known)]
    parts.sort(key=lambda kind: len(kind.__annotations__), reverse=True)
    found: dict[str, str] = {}
    for kind in (own, *parts):
        for option, text in re.findall(r"^(\w+): ((?:.+\n?)(?:    .+\n?)*)", inspect.getdoc(kind) or "", re.MULTILINE):
            found.setdefault(option, " ".join(text.split()))
    return {option: found[option] for option in known}


def create_model(
    name: str,
    num_classes: int | Sequence[int] = 400,
    num_frames: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network by name, with random weights; `kinema.load_checkpoint` and `kinema.init_from` load others.

    Args:
        name: One of `list_models()`.
        num_classes: Size of K, or a tuple: a clip then gives a tuple of logits.
        num_frames: Frames of a clip the network is meant for; those of its recipe when None, mostly 8.
        options: See `describe_options(name)`, or `kinema models NAME` on the command line.

    Returns:
        The network, which keeps these arguments as its attribute `built_with`.

    Raises:
        ValueError: If no network has this name, an option is unknown to it, or has a value it cannot take.
    """
    known = list_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; {_nearest(option, known)}")
    for what, number in (("num_frames", num_frames), ("in_channels", options.get("in_channels"))):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(
                f"{what}={number!r} is no number of {what.rpartition('_')[2]}; give a whole number, at least 1"
            )
    if num_frames is not None:
        options["num_frames"] = num_frames
    network = MODELS[name](num_classes=num_classes, **options)
    # But for operators of one's own, which are functions and would keep the network from being pickled.
    plain = {option: value for option, value in options.items() if not callable(value)}
    network.built_with = {"name": name, "num_classes": num_classes, **plain}  # pyrefly: ignore[bad-argument-type]
    return network


def _nearest(word: str, known: Sequence[str] | dict[str, Any]) -> str:
    close = get_close_matches(word, known, n=1)
    hint = f"did you mean {close[0]!r}? Known are" if close else "known are"
    return f"{hint} {', '.join(sorted(known))}"
