"""Checkpoints of mmaction2's TSN and TSM networks (its ResNetTSM and MobileNetV2TSM, and their plain forms).

    backbone.layer1.0.conv1.conv.net.weight                   residual shift: the convolution of a pair is wrapped
    backbone.layer2.0.conv.0.net.conv.weight                  residual shift in MobileNetV2: the pair is
    backbone.layer1.0.net.conv1.conv.weight                   in-place shift: the block is
    backbone.layer2.0.block.*, .non_local_block.*             non-local block behind a block
    backbone.layer2.net.0.*                                   temporal pooling in front of the stage
    cls_head.fc_cls.weight                                    classifier

Its non-local block has no bias in the last convolution.
"""

import re
from collections import defaultdict
from collections.abc import Collection

from kinema.checkpoints.layout import NON_LOCAL, RESIDUAL_SHIFT, Translation, freeze
from kinema.checkpoints.tsm import unwrap

_NON_LOCAL_PARTS = {
    "g.conv": "g",
    "g.0.conv": "g",
    "phi.conv": "phi",
    "phi.0.conv": "phi",
    "theta.conv": "theta",
    "conv_out.conv": "out",
    "conv_out.bn": "norm",
}
_MOBILENETV2_ENDS = {"conv1.conv": "conv_stem", "conv1.bn": "bn1", "conv2.conv": "conv_head", "conv2.bn": "bn2"}
_MOBILENETV2_FIRST = {"0.conv": "conv_dw", "0.bn": "bn1", "1.conv": "conv_pw", "1.bn": "bn2"}
_MOBILENETV2_OTHER = {
    "0.conv": "conv_pw",
    "0.bn": "bn1",
    "1.conv": "conv_dw",
    "1.bn": "bn2",
    "2.conv": "conv_pwl",
    "2.bn": "bn3",
}


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of mmaction2's two-dimensional networks."""
    return any(re.match(r"backbone\.conv1\.conv\.weight|cls_head\.fc_cls\.", name) for name in names)


def translate(names: Collection[str]) -> Translation:
    """Plain names for mmaction2's, and the operators they betray."""
    plain = {}
    operators: defaultdict[str, set[str]] = defaultdict(set)
    mobile = any(re.match(r"backbone\.layer\d\.\d+\.conv\.\d", name) for name in names)
    for name in names:
        short = name.removeprefix("backbone.").replace("cls_head.fc_cls.", "fc.")
        short = unwrap(short, operators)
        if found := re.match(r"(layer\d\.\d+)\.non_local_block\.(.+)\.(\w+)$", short):
            short = f"{found[1]}.after.{_NON_LOCAL_PARTS.get(found[2], found[2])}.{found[3]}"
        shifted = ".net." in short
        short = short.replace(".net.", ".")
        short = _mobilenetv2(short) if mobile else _resnet(short)
        if shifted:
            operators[RESIDUAL_SHIFT].add(short.rsplit(".", 2)[0])
        plain[short] = name
    zeros = frozenset(f"{block}.after.out.bias" for block in operators[NON_LOCAL])
    return Translation("mmaction2", plain, freeze(operators), zeros=zeros)


def _resnet(name: str) -> str:
    """A convolution and its norm are a pair here: conv1.conv and conv1.bn; torchvision has conv1 and bn1."""
    name = re.sub(r"\bdownsample\.conv\.", "downsample.0.", name)
    name = re.sub(r"\bdownsample\.bn\.", "downsample.1.", name)
    name = re.sub(r"\bconv(\d)\.conv\.", r"conv\1.", name)
    return re.sub(r"\bconv(\d)\.bn\.", r"bn\1.", name)


def _mobilenetv2(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    if layer in _MOBILENETV2_ENDS:
        return f"{_MOBILENETV2_ENDS[layer]}.{leaf}"
    if found := re.match(r"layer(\d)\.(\d+)\.conv\.(.+)$", layer):
        parts = _MOBILENETV2_FIRST if found[1] == "1" else _MOBILENETV2_OTHER
        return f"blocks.{int(found[1]) - 1}.{found[2]}.{parts.get(found[3], found[3])}.{leaf}"
    return name
