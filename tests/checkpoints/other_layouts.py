"""Checkpoints of other origins, made from a network of kinema by writing their names out."""

import re

import torch

import kinema

MOBILENETV2_COUNTED = {"conv_pw": "0", "bn1": "1", "conv_dw": "3", "bn2": "4", "conv_pwl": "6", "bn3": "7"}
MOBILENETV2_GROUPED = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"}
FIRST_COUNTED = {"conv_dw": "0", "bn1": "1", "conv_pw": "3", "bn2": "4"}
FIRST_GROUPED = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"}
FEATURES = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 3), (4, 0), (4, 1), (4, 2)]
FEATURES += [(5, 0), (5, 1), (5, 2), (6, 0)]


def network(name, seed=0, num_classes=5, **options):

    torch.manual_seed(seed)
    model = kinema.create_model(name, num_classes=num_classes, **options)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.1 + 0.05)
    return model


def renamed(model, rename):
    return {rename(name): value for name, value in model.state_dict().items()}


def own(name):
    return name.removeprefix("backbone.trunk.").removeprefix("head.")


def tsm_resnet(name, classifier="new_fc"):
    """The TSM authors' name for a tensor of a ResNet, with any operators."""
    name = own(name)
    name = re.sub(r"^(layer\d)\.blocks\.", r"\1.net.", name)
    name = re.sub(r"\.conv1\.conv\.weight", ".conv1.net.weight", name)
    for ours, theirs in {"g": "g.0", "phi": "phi.0", "theta": "theta", "out": "W.0", "norm": "W.1"}.items():
        name = name.replace(f".after.operator.{ours}.", f".nl.{theirs}.")
    return "base_model." + name if not name.startswith("fc.") else name.replace("fc.", f"{classifier}.")


def tsm_in_place(name):
    return tsm_resnet(name).replace(".block.", ".net.")


def tsm_mobilenetv2(name, prefix="base_model.", classifier="new_fc", wrapped=".net"):
    return _mobilenetv2(name, MOBILENETV2_COUNTED, FIRST_COUNTED, prefix, classifier, wrapped)


def torchvision_mobilenetv2(name):
    return _mobilenetv2(name, MOBILENETV2_GROUPED, FIRST_GROUPED, "", "classifier.1", "")


def _mobilenetv2(name, other, first, prefix, classifier, wrapped):
    name = own(name)
    if found := re.match(r"blocks\.(\d)\.(\d)\.(.+)\.(\w+)$", name):
        place, layer, leaf = (int(found[1]), int(found[2])), found[3], found[4]
        behind_mixer = layer.endswith(".conv")
        positions = first if place == (0, 0) else other
        position = positions[layer.removesuffix(".conv")]
        return f"{prefix}features.{FEATURES.index(place) + 1}.conv.{position}{wrapped * behind_mixer}.{leaf}"
    for ours, theirs in {"conv_stem": "0.0", "bn1": "0.1", "conv_head": "18.0", "bn2": "18.1"}.items():
        if name.startswith(f"{ours}."):
            return f"{prefix}features.{theirs}.{name.removeprefix(f'{ours}.')}"
    return name.replace("fc.", f"{classifier}.")


def mmaction2_resnet(name):
    name = own(name)
    name = re.sub(r"^(layer\d)\.blocks\.", r"\1.net.", name)
    name = re.sub(r"conv1\.conv\.weight", "conv1.conv.net.weight", name)
    name = re.sub(r"\b(conv\d)\.weight", r"\1.conv.weight", name)
    name = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", name)
    name = name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
    return f"cls_head.fc_cls.{name.removeprefix('fc.')}" if name.startswith("fc.") else f"backbone.{name}"


def mmaction2_mobilenetv2(name, shifted=True):
    name = own(name)
    if found := re.match(r"blocks\.(\d)\.(\d)\.(.+)\.(\w+)$", name):
        stage, index, layer, leaf = int(found[1]), found[2], found[3], found[4]
        layers = ["conv_dw", "conv_pw"] if stage == 0 else ["conv_pw", "conv_dw", "conv_pwl"]
        part = layer.removesuffix(".conv")
        pair = layers.index(part) if part.startswith("conv") else int(part[-1]) - 1
        kind = "conv" if part.startswith("conv") else "bn"
        # The wrapper goes around convolution and norm together.
        wrapped = ".net" if shifted and pair == 0 and (stage, index) in SHIFTED else ""
        return f"backbone.layer{stage + 1}.{index}.conv.{pair}{wrapped}.{kind}.{leaf}"
    ends = {"conv_stem": "conv1.conv", "bn1": "conv1.bn", "conv_head": "conv2.conv", "bn2": "conv2.bn"}
    for ours, theirs in ends.items():
        if name.startswith(f"{ours}."):
            return f"backbone.{theirs}.{name.removeprefix(f'{ours}.')}"
    return name.replace("fc.", "cls_head.fc_cls.")


SHIFTED = {(s, i) for s, i in ((1, "1"), (2, "1"), (2, "2"), (3, "1"), (3, "2"), (3, "3"), (4, "1"), (4, "2"))}
SHIFTED |= {(5, "1"), (5, "2")}
