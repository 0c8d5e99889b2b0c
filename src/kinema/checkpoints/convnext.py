"""Image ConvNeXts (Liu et al. 2022, arXiv:2201.03545) as their authors name them, and as timm does.

authors (facebookresearch/ConvNeXt)   timm, and kinema
downsample_layers.0.{0, 1}            stem.{0, 1}
downsample_layers.1.{0, 1}            stages.1.downsample.{0, 1}
stages.0.0.dwconv, .pwconv1           stages.0.blocks.0.conv_dw, .mlp.fc1
norm, head                            head.norm, head.fc
"""

import re
from collections.abc import Collection

from kinema.checkpoints.layout import Translation

_AUTHORS = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"^head\.(?=weight|bias)", "fc."),
)
_TIMM = ((r"^head\.norm\.", "norm."), (r"^head\.fc\.", "fc."))


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of an image ConvNeXt."""
    return bool({"downsample_layers.0.0.weight", "stages.0.blocks.0.conv_dw.weight"} & set(names))


def translate(names: Collection[str]) -> Translation:
    """Plain names for those of either."""
    authors = "downsample_layers.0.0.weight" in names
    plain = {}
    for name in names:
        short = name
        for pattern, replacement in _AUTHORS if authors else _TIMM:
            short = re.sub(pattern, replacement, short)
        plain[short] = name
    return Translation("the ConvNeXt authors' code" if authors else "timm", plain, {}, tells_shift=False)
