"""kinema's own names: what a frame-wise network's state dict looks like."""

import re
from collections import defaultdict
from collections.abc import Collection

from kinema.checkpoints.layout import (
    IN_PLACE_SHIFT,
    NON_LOCAL,
    RESIDUAL_SHIFT,
    TEMPORAL_POOL,
    Translation,
    freeze,
    plain_name,
)


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a frame-wise network of kinema."""
    return any(name.startswith("backbone.trunk.") for name in names)


def translate(names: Collection[str]) -> Translation:
    """Plain names for kinema's, and the operators that its wrappers betray.

    A wrapper says where an operator stood, not which: without tensors of its own it is taken for a shift.
    """
    operators: defaultdict[str, set[str]] = defaultdict(set)
    wrapped = set()
    for name in names:
        short = name.removeprefix("backbone.trunk.")
        if found := re.match(r"(layer\d|blocks\.\d)\.blocks\.(.+)", short):
            operators[TEMPORAL_POOL].add(found[1])
            short = f"{found[1]}.{found[2]}"
        if found := re.match(r"(.+)\.conv\w*\.conv\.weight$", short):
            operators[RESIDUAL_SHIFT].add(found[1].removesuffix(".block"))
        if found := re.match(r"(.+)\.after\.operator\.", short):
            operators[NON_LOCAL].add(found[1])
        if found := re.match(r"(.+?)\.block\.", short):
            wrapped.add(found[1])
    operators[IN_PLACE_SHIFT] = wrapped if wrapped - operators[NON_LOCAL] else set()
    return Translation("kinema", {plain_name(name): name for name in names}, freeze(operators))
