"""Checkpoints of TAdaConv's authors (Huang et al. 2022 and 2023; alibaba-mmai-research/TAdaConv), in both directions.

Every tensor of a network of this family has one counterpart in the authors' code, of another name, with other axes of
length one, and in one case with its rows in another order. So a network is described to itself in their names, and
loading, writing and telling what a file holds all read that one description.

    ResNets          backbone.conv{1..5}.res_{1..}.conv_branch.{a, b, c}, .short_cut, each with its norm behind "_bn"
    calibration      b (or dwconv, tadaconv), its router b_rf (or dwconv_rf, tadaconv.rf_func)
    classifier       head.out; head.linear1 and head.linear2 for verbs and nouns
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kinema.operators.routing import AttentionRouting

ORIGIN = "TAdaConv's authors' code"


@dataclass(frozen=True)
class Counterpart:
    """What a tensor is in the authors' code.

    Args:
        name: Theirs.
        shape: Theirs; differs from ours by axes of length one.
        heads: Number of attention heads whose rows they interleave (within queries, keys and values: row d * heads + h,
            where ours is h * head_dim + d); 0 where rows are in the same order.
    """

    name: str
    shape: tuple[int, ...]
    heads: int = 0

    def to_ours(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self.heads:
            tensor = tensor.unflatten(0, (3, -1, self.heads)).transpose(1, 2).flatten(0, 2)
        return tensor.reshape(shape)

    def to_theirs(self, tensor: Tensor) -> Tensor:
        if self.heads:
            tensor = tensor.unflatten(0, (3, self.heads, -1)).transpose(1, 2).flatten(0, 2)
        return tensor.reshape(self.shape).contiguous()


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of the authors' networks."""
    return any(re.match(r"backbone\.(slow_|fast_)?conv2\.res_1\.", name) for name in names) or bool(
        {"backbone.stages.0.0.dwconv.weight", "backbone.layers.0.attn.in_proj_weight"} & set(names)
    )


Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

_ROUTER: Rules = (
    (r"router\.global_proj\.", "g."),
    (r"router\.conv\.", "a."),
    (r"router\.norm_attn\.", "norm_transformer."),
    (r"router\.qkv\.", "qkv_proj."),
    (r"router\.out\.", "attn_out."),
    (r"router\.to_(cin|cout)\.", "b."),
    (r"router\.to_bias\.", "b_bias."),
)
"""Behind these the router's norm stays, whose name depends on its kind: bn, ln, or norm."""


def _block(found: re.Match[str]) -> str:
    return f"backbone.conv{int(found[1]) + 1}.res_{int(found[2]) + 1}."


_RESNET: Rules = (
    (r"^backbone\.trunk\.conv1\.", "backbone.conv1.a."),
    (r"^backbone\.trunk\.bn1\.", "backbone.conv1.a_bn."),
    (r"^backbone\.trunk\.layer4\.\d\.after\.operator\.g\.", "backbone.conv5.nonlocal.vconv."),
    (r"^backbone\.trunk\.layer4\.\d\.after\.operator\.theta\.", "backbone.conv5.nonlocal.qconv."),
    (r"^backbone\.trunk\.layer4\.\d\.after\.operator\.phi\.", "backbone.conv5.nonlocal.kconv."),
    (r"^backbone\.trunk\.layer4\.\d\.after\.operator\.out\.", "backbone.conv5.nonlocal.out_conv."),
    (r"^backbone\.trunk\.layer4\.\d\.after\.operator\.norm\.", "backbone.conv5.nonlocal.out_bn."),
    (r"^backbone\.trunk\.layer(\d)\.(\d+)\.(?:block\.)?", _block),
    (r"(res_\d+\.)downsample\.0\.", r"\1short_cut."),
    (r"(res_\d+\.)downsample\.1\.", r"\1short_cut_bn."),
    (r"(res_\d+\.)conv1\.", r"\1conv_branch.a."),
    (r"(res_\d+\.)bn1\.", r"\1conv_branch.a_bn."),
    (r"(res_\d+\.)conv3\.", r"\1conv_branch.c."),
    (r"(res_\d+\.)bn3\.", r"\1conv_branch.c_bn."),
    (r"(res_\d+\.)conv2\.operator\.conv\.", r"\1conv_branch.b."),
    (r"(res_\d+\.)conv2\.operator\.router\.norm\.", r"\1conv_branch.b_rf.bn."),
    (r"(res_\d+\.)conv2\.operator\.(?=router)", r"\1conv_branch.b_rf."),
    (r"(res_\d+\.)conv2\.", r"\1conv_branch.b."),
    (r"(res_\d+\.)bn2\.operator\.norm\.", r"\1conv_branch.b_bn."),
    (r"(res_\d+\.)bn2\.operator\.norm_pool\.", r"\1conv_branch.b_avgpool_bn."),
    (r"(res_\d+\.)bn2\.", r"\1conv_branch.b_bn."),
)

_HEAD: Rules = (
    (r"^head\.fc\.(?=weight|bias)", "head.out."),
    (r"^head\.fc\.0\.", "head.linear1."),
    (r"^head\.fc\.1\.", "head.linear2."),
)

_RULES: Rules = (*_RESNET, *_HEAD, *_ROUTER)


def counterparts(model: nn.Module) -> dict[str, Counterpart]:
    """Every tensor of a network to what it is in the authors' code.

    A network that the authors do not have gets names too, those that its layers would have; a file has none of them.
    """
    heads = {
        f"{name}.qkv": module.num_heads
        for name, module in model.named_modules()
        if isinstance(module, AttentionRouting)
    }
    found = {}
    for name, tensor in model.state_dict().items():
        theirs = name
        for pattern, replacement in _RULES:
            theirs = re.sub(pattern, replacement, theirs)
        layer = name.rpartition(".")[0]
        found[name] = Counterpart(theirs, _their_shape(name, tuple(tensor.shape)), heads.get(layer, 0))
    return found


def _their_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Their convolutions all have three dimensions, those on descriptors too."""
    if ".router." in name:
        return shape + (1,) * (5 - len(shape)) if len(shape) > 1 else shape
    if len(shape) == 4:  # a convolution over pixels
        return (*shape[:2], 1, *shape[2:])
    return shape


def describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a set of the authors' names and shapes is, in words."""
    return f"{_architecture(shapes)}{_classes(shapes)}"


def _architecture(shapes: Mapping[str, tuple[int, ...]]) -> str:
    blocks = Counter(
        (found[1] or "", int(found[2]))
        for name in shapes
        if (found := re.match(r"backbone\.(slow_|fast_)?conv(\d)\.res_\d+\.conv_branch\.a\.weight", name))
    )
    if not blocks:
        return "a network of another kind"
    pathways = sorted({pathway for pathway, _ in blocks})
    layers = [blocks[pathways[-1], stage] for stage in (2, 3, 4, 5)]
    depth = "ResNet-50" if layers == [3, 4, 6, 3] else f"a ResNet of {layers} blocks"
    first = f"backbone.{pathways[-1]}conv2.res_1.conv_branch."
    calibrated = sum(name.endswith(("_rf.b.weight", "_rf1.b.weight", "_rf2.b.weight")) for name in shapes)
    kind = {"": "", "slow_": "SlowOnly on ", "fast_slow_": "SlowFast on "}["".join(pathways)]
    if f"{first}b1.weight" in shapes:
        kind = "R(2+1)D on "
    elif f"{first}b.weight" in shapes and shapes[f"{first}b.weight"][-3] == 3:
        kind = "R3D on "
    elif not kind:
        kind = "TAda2D on " if calibrated else "frame-wise "
    parts = []
    if calibrated and not kind.startswith("TAda2D"):
        parts.append(f"{calibrated} calibrated convolutions")
    if any(name.endswith("_avgpool_bn.weight") for name in shapes) != kind.startswith("TAda2D"):
        parts.append("with aggregation" if not kind.startswith("TAda2D") else "without aggregation")
    if any(".nonlocal." in name for name in shapes):
        parts.append("a non-local block")
    return kind + depth + (f" ({', '.join(parts)})" if parts else "")


def _classes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    sizes = [
        shapes[name][0] for name in ("head.out.weight", "head.linear1.weight", "head.linear2.weight") if name in shapes
    ]
    return f", {' and '.join(map(str, sizes))} classes" if sizes else ", no classifier"


def to_ours(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file that have a place in the network, under kinema's names and in its shapes."""
    values = {}
    for (name, theirs), ours in zip(counterparts(model).items(), model.state_dict().values(), strict=True):
        if theirs.name in tensors and tuple(tensors[theirs.name].shape) == theirs.shape:
            values[name] = theirs.to_ours(tensors[theirs.name], tuple(ours.shape))
    return values


def to_theirs(model: nn.Module) -> dict[str, Tensor]:
    """The network's tensors as the authors' code would hold them; `to_ours` undoes it exactly."""
    state = model.state_dict()
    return {theirs.name: theirs.to_theirs(state[name].detach().cpu()) for name, theirs in counterparts(model).items()}
