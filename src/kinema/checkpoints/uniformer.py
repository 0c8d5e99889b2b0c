"""UniFormers for video and for images, as their authors and mmaction2 name them; kinema has the authors' names.

authors (Sense-X/UniFormer)      kinema
patch_embed1, blocks1.0, norm    backbone.patch_embed1, backbone.blocks1.0, backbone.norm
head                             head.fc
norm_cls, head_cls               norm_cls, head_cls.fc              light networks

mmaction2                        backbone.patch_embed1, cls_head.fc_cls

Image networks have the same names and kernels of two dimensions, which `kinema.init_from` inflates.
"""

import re
from collections.abc import Collection

from kinema.checkpoints.layout import Translation

AUTHORS = "the UniFormer authors' code"
CLASS_ORDER = (
    "400 classes: if these are the authors' weights for Kinetics-400, their classes are in an order of their own; for the "
    "order of the names use kinema.checkpoints.class_order.sort_classes(model, kinetics400_of_uniformer())"
)
BGR = (
    "174 classes: if these are the authors' weights for Something-Something, they were trained on BGR pictures; use "
    "Normalisation(bgr=True)"
)
_RULES = (
    (r"^backbone\.", ""),
    (r"^cls_head\.fc_cls\.", "fc."),
    (r"^head\.", "fc."),
    (r"^head_cls\.", "head_cls.fc."),
)
_STEMS = ("patch_embed1.proj.weight", "patch_embed1.proj.0.weight")


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a UniFormer."""
    return any(prefix + stem in names for prefix in ("", "backbone.") for stem in _STEMS)


def translate(names: Collection[str]) -> Translation:
    """Plain names for those of either."""
    plain = {}
    for name in names:
        short = name
        for pattern, replacement in _RULES:
            short = re.sub(pattern, replacement, short)
        plain[short] = name
    origin = "mmaction2" if any(name.startswith("backbone.") for name in names) else AUTHORS
    return Translation(origin, plain, {}, tells_shift=False)


def notes(origin: str, num_classes: tuple[int, ...]) -> list[str]:
    """What a reader of the authors' weights should know. mmaction2 has sorted the classes."""
    by_classes = {(400,): CLASS_ORDER, (174,): BGR}
    return [note for classes, note in by_classes.items() if origin == AUTHORS and classes == num_classes]
