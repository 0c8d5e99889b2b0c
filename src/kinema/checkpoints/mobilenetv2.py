"""MobileNetV2 under the names of torchvision and of the TSM authors, in the names of timm.

features.0           stem
features.1 to .17    the blocks, whose `conv` torchvision groups as (convolution, norm) and the TSM authors count on
features.18          last 1 x 1 convolution
"""

_REPEATS = (1, 2, 3, 4, 3, 3, 1)  # blocks in each stage
_PLACES = [f"blocks.{stage}.{index}" for stage, repeat in enumerate(_REPEATS) for index in range(repeat)]
_ENDS = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"}

# The first block does not expand. ReLU6 has no tensors and leaves gaps in the count.
_FIRST_COUNTED = {"0": "conv_dw", "1": "bn1", "3": "conv_pw", "4": "bn2"}
_OTHER_COUNTED = {"0": "conv_pw", "1": "bn1", "3": "conv_dw", "4": "bn2", "6": "conv_pwl", "7": "bn3"}
_FIRST_GROUPED = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
_OTHER_GROUPED = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}


def _layers(first: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    layers = dict(_ENDS)
    for number, place in enumerate(_PLACES, start=1):
        for position, part in (first if number == 1 else other).items():
            layers[f"features.{number}.conv.{position}"] = f"{place}.{part}"
    return layers


COUNTED = _layers(_FIRST_COUNTED, _OTHER_COUNTED)
"""Layer names of the TSM authors' network to timm's."""

GROUPED = _layers(_FIRST_GROUPED, _OTHER_GROUPED)
"""Layer names of torchvision's network to timm's."""


def in_timm_names(name: str, layers: dict[str, str]) -> str:
    """One tensor's name with its layer renamed; names of no known layer stay as they are."""
    layer, _, leaf = name.rpartition(".")
    return f"{layers[layer]}.{leaf}" if layer in layers else name
