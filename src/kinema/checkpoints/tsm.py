"""Checkpoints of the TSM authors (Lin, Gan and Han 2019, arXiv:1811.08383; mit-han-lab/temporal-shift-module).

Their wrappers leave a trace in the names, which is all that is read here; file names are not:

    base_model.layer1.0.conv1.net.weight          residual shift: the first convolution of a block is wrapped
    base_model.layer1.0.net.conv1.weight          in-place shift: the block is
    base_model.layer2.0.block.conv1.net.weight    non-local block behind it, itself at base_model.layer2.0.nl
    base_model.layer2.net.0.conv1.net.weight      temporal pooling in front of the stage
    base_model.features.3.conv.0.net.weight       residual shift in MobileNetV2
    new_fc.weight                                 classifier; base_model.fc when trained without dropout, and
                                                  base_model.classifier in early MobileNetV2 files
    features.3.conv.0.weight, classifier.weight   the online MobileNetV2, whose shift left no trace

How many channels were shifted, and in which direction, the names do not say.
"""

import re
from collections import defaultdict
from collections.abc import Collection, MutableMapping

from kinema.checkpoints.layout import IN_PLACE_SHIFT, NON_LOCAL, RESIDUAL_SHIFT, TEMPORAL_POOL, Translation, freeze
from kinema.checkpoints.mobilenetv2 import COUNTED, in_timm_names

_NON_LOCAL_PARTS = {"g.0": "g", "phi.0": "phi", "theta": "theta", "W.0": "out", "W.1": "norm"}


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of the TSM authors' networks, or of their online MobileNetV2."""
    return any(name.startswith("base_model.") for name in names) or "features.2.conv.7.weight" in names


_WRAPPERS = (
    (TEMPORAL_POOL, re.compile(r"(layer\d)\.net\.(.+)")),
    (NON_LOCAL, re.compile(r"(layer\d\.\d+)\.block\.(.+)")),
    (IN_PLACE_SHIFT, re.compile(r"(layer\d\.\d+)\.net\.(.+)")),
)


def unwrap(name: str, operators: MutableMapping[str, set[str]]) -> str:
    """The name without the wrappers around stages and blocks, each written down in `operators`. mmaction2 kept them."""
    for kind, wrapper in _WRAPPERS:
        if found := wrapper.match(name):
            operators[kind].add(found[1])
            name = f"{found[1]}.{found[2]}"
    return name


def translate(names: Collection[str]) -> Translation:
    """Plain names for theirs, and the operators they betray."""
    plain = {}
    operators: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        short = re.sub(r"^(new_fc|classifier)\.", "fc.", name.removeprefix("base_model."))
        short = unwrap(short, operators)
        if found := re.match(r"(layer\d\.\d+)\.nl\.(.+)\.(\w+)$", short):
            short = f"{found[1]}.after.{_NON_LOCAL_PARTS.get(found[2], found[2])}.{found[3]}"
        shifted = short.endswith(".net.weight")
        short = in_timm_names(short.replace(".net.weight", ".weight"), COUNTED)
        if shifted:
            operators[RESIDUAL_SHIFT].add(short.rsplit(".", 2)[0])  # the block of "layer1.0.conv1.weight"
        plain[short] = name

    if any(name.startswith("base_model.") for name in names):
        return Translation("the TSM authors' code", plain, freeze(operators))
    return Translation("the TSM authors' online network or an image network", plain, {}, tells_shift=False)
