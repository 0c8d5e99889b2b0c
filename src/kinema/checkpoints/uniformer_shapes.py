"""What a UniFormer is, from plain names and shapes of its tensors: its size, and what its blocks do."""

import re
from collections import defaultdict
from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

_SIZES: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
    ((2, 5, 8, 2), (56, 112, 224, 448)): "XXS",
    ((3, 5, 9, 3), (64, 128, 256, 512)): "XS",
    ((3, 4, 8, 3), (64, 128, 320, 512)): "S",
    ((5, 8, 20, 7), (64, 128, 320, 512)): "B",
}
"""Blocks and channels of the four stages to the name."""
_STEMS = ("patch_embed1.proj.weight", "patch_embed1.proj.3.weight")  # the second is the last of two convolutions


def is_one(shapes: Shapes) -> bool:
    """Whether these are tensors of a UniFormer."""
    return any(stem in shapes for stem in _STEMS)


def trunk_of(shapes: Shapes) -> str:
    """Name of the network: "UniFormer-S"."""
    blocks = {found.groups() for name in shapes if (found := re.match(r"blocks([1-4])\.(\d+)\.", name))}
    depths = tuple(sum(stage == number for stage, _ in blocks) for number in "1234")
    first = next(shapes[stem][0] for stem in _STEMS if stem in shapes)
    later = (shapes.get(f"patch_embed{stage}.proj.weight", (0,))[0] for stage in (2, 3, 4))
    widths = (first, *later)
    if (depths, widths) in _SIZES:
        return f"UniFormer-{_SIZES[depths, widths]}"
    return f"UniFormer of {depths} blocks, {widths} channels wide"


def operators_in(shapes: Shapes) -> dict[str, set[str]]:
    """Kind of operator to the blocks that hold one; nothing for another network.

    A tube is as long as it is wide, so those of an image network and of the one for video that grows out of it have one
    name.
    """
    operators: defaultdict[str, set[str]] = defaultdict(set)
    if not is_one(shapes):
        return operators
    for name, shape in shapes.items():
        block = ".".join(name.split(".")[:2])
        part = name.removeprefix(f"{block}.")
        if re.match(r"patch_embed[2-4]\.proj\.weight", name) and len(shape) == 5 and shape[2] > 1:
            operators[f"embedding over {shape[2]} frames"].add(name.split(".")[0])
        elif not block.startswith("blocks"):
            continue
        elif part == "attn.weight":
            operators[f"local relation over {shape[-1]} x {shape[-1]} x {shape[-1]}"].add(block)
        elif part == "t_attn.qkv.weight":
            operators["divided relation"].add(block)
        elif part == "attn.qkv.weight" and f"{block}.t_attn.qkv.weight" not in shapes:
            operators["global relation"].add(block)
        elif part == "pos_embed.weight":
            operators["position embedding"].add(block)
        elif part == "gamma_1":
            operators["layer scale"].add(block)
    if "cls_token" in shapes:
        operators["class token"].add("cls_token")
    if "norm_cls.weight" in shapes:
        operators["classifier on the class token"].add("head_cls")
    if "pre_logits.fc.weight" in shapes:
        operators[f"representation of {shapes['pre_logits.fc.weight'][0]} channels"].add("pre_logits")
    return operators
