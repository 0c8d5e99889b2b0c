"""kinema's own names: what the state dict of a network looks like."""

import re
from collections import defaultdict
from collections.abc import Collection

from kinema.checkpoints.layout import (
    AGGREGATION,
    CALIBRATED,
    CALIBRATED_OVER_TIME,
    IN_PLACE_SHIFT,
    NON_LOCAL,
    RESIDUAL_SHIFT,
    TEMPORAL_POOL,
    Translation,
    freeze,
    plain_name,
)


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a network of kinema."""
    if any(name.startswith("backbone.patch_embed1.") for name in names):  # mmaction2's too, but for the classifier
        return any(name.startswith("head.fc.") for name in names)
    return any(name.startswith(("backbone.trunk.", "backbone.slow.", "backbone.patch_embed.proj.")) for name in names)


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
        if kind := _calibration(name):
            operators[kind].add(plain_name(name).rpartition(".")[0])
        elif found := re.match(r"(.+)\.conv(?!_c)\w*\.conv\.weight$", short):
            operators[RESIDUAL_SHIFT].add(found[1].removesuffix(".block"))
        if found := re.match(r"(.+)\.after\.operator\.", short):
            operators[NON_LOCAL].add(found[1])
        if found := re.match(r"(.+?)\.block\.", short):
            wrapped.add(found[1])
    operators[IN_PLACE_SHIFT] = wrapped if wrapped - operators[NON_LOCAL] else set()
    return Translation("kinema", {plain_name(name): name for name in names}, freeze(operators))


def _calibration(name: str) -> str | None:
    """What took the place of a convolution or a norm, if this is its kernel or its scale."""
    if re.search(r"\.(conv\d\.operator|branch2\.conv_b)\.conv\.weight$", name):
        return CALIBRATED
    if name.endswith(".conv_t.conv.weight"):
        return CALIBRATED_OVER_TIME
    return AGGREGATION if re.search(r"\.bn\d\.operator\.norm\.weight$", name) else None
