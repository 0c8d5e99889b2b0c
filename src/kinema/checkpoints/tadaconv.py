"""Checkpoints of TAdaConv's authors (Huang et al. 2022 and 2023; alibaba-mmai-research/TAdaConv), in both directions.

Every tensor of a network of this family has one counterpart in the authors' code, of another name, with other axes of
length one, and in one case with its rows in another order. So a network is described to itself in their names, and
loading, writing and telling what a file holds all read that one description.

    ResNets          backbone.conv{1..5}.res_{1..}.conv_branch.{a, b, c}, .short_cut, each with its norm behind "_bn"
    R(2+1)D          b1 and b2 in the place of b
    SlowFast         backbone.{slow, fast}_conv{1..5}, and backbone.slowfast_fusion{1..4}; SlowOnly has the slow ones
    ConvNeXts        backbone.downsample_layers.{0..3}, backbone.stages.{0..3}.{0..}, backbone.norm
    transformers     backbone.conv1, .ln_pre, .layers.{0..}.{tada, attn, tada2, mlp}, .ln_post
    calibration      b (or dwconv, tadaconv), its router b_rf (or dwconv_rf, tadaconv.rf_func)
    classifier       head.out; head.linear1 and head.linear2 for verbs and nouns
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kinema.operators.routing import AttentionRouting, ChannelNorm, Routing
from kinema.operators.tada_block import TAdaBlock

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

_CONVNEXT: Rules = (
    (r"^backbone\.trunk\.stem\.0\.operator\.", "backbone.downsample_layers.0.0."),
    (r"^backbone\.trunk\.stem\.1\.", "backbone.downsample_layers.0.1."),
    (r"^backbone\.trunk\.stages\.(\d)\.downsample\.", r"backbone.downsample_layers.\1."),
    (r"^backbone\.trunk\.head\.norm\.", "backbone.norm."),
    (r"^backbone\.trunk\.stages\.(\d)\.blocks\.(\d+)\.", r"backbone.stages.\1.\2."),
    (r"(stages\.\d\.\d+\.)conv_dw\.operator\.conv\.", r"\1dwconv."),
    (r"(stages\.\d\.\d+\.)conv_dw\.operator\.(?=router)", r"\1dwconv_rf."),
    (r"(stages\.\d\.\d+\.)conv_dw\.", r"\1dwconv."),
    (r"(stages\.\d\.\d+\.)norm\.operator\.norm\.", r"\1norm."),
    (r"(stages\.\d\.\d+\.)norm\.operator\.norm_pool\.", r"\1norm_avgpool."),
    (r"(stages\.\d\.\d+\.)mlp\.fc(\d)\.", r"\1pwconv\2."),
)

_TRANSFORMER: Rules = (
    (r"^backbone\.trunk\.cls_token$", "backbone.class_embedding"),
    (r"^backbone\.trunk\.pos_embed$", "backbone.positional_embedding"),
    (r"^backbone\.trunk\.patch_embed\.proj\.operator\.", "backbone.conv1."),
    (r"^backbone\.trunk\.norm_pre\.", "backbone.ln_pre."),
    (r"^backbone\.trunk\.fc_norm\.", "backbone.ln_post."),
    (r"^backbone\.trunk\.blocks\.(\d+)\.", r"backbone.layers.\1."),
    (r"(layers\.\d+\.)before\.operator\.", r"\1tada."),
    (r"(layers\.\d+\.)between\.operator\.", r"\1tada2."),
    (r"(layers\.\d+\.tada2?\.)reduce\.", r"\1tada_pre_proj."),
    (r"(layers\.\d+\.tada2?\.)expand\.", r"\1tada_proj."),
    (r"(layers\.\d+\.tada2?\.)calibrated\.conv\.", r"\1tadaconv."),
    (r"(layers\.\d+\.tada2?\.)calibrated\.(?=router)", r"\1tadaconv.rf_func."),
    (r"(layers\.\d+\.tada2?\.)aggregation\.norm\.", r"\1tadaconv.bn_a."),
    (r"(layers\.\d+\.tada2?\.)aggregation\.norm_pool\.", r"\1tadaconv.bn_b."),
    (r"(layers\.\d+\.)attn\.qkv\.", r"\1attn.in_proj_"),
    (r"(layers\.\d+\.)attn\.proj\.", r"\1attn.out_proj."),
    (r"(layers\.\d+\.)norm(\d)\.", r"\1ln_\2."),
    (r"(layers\.\d+\.)mlp\.fc1\.", r"\1mlp.c_fc."),
    (r"(layers\.\d+\.)mlp\.fc2\.", r"\1mlp.c_proj."),
)


def _pathway_block(found: re.Match[str]) -> str:
    return f"backbone.{_pathway(found[1])}conv{int(found[2]) + 1}.res_{int(found[3]) + 1}."


def _pathway_stem(found: re.Match[str]) -> str:
    return f"backbone.{_pathway(found[1])}conv1.a"


def _pathway(name: str) -> str:
    return "" if name == "trunk" else f"{name}_"


def _fusion(found: re.Match[str]) -> str:
    return f"backbone.slowfast_fusion{int(found[1]) + 1}."


_RESNET3D: Rules = (
    (r"^backbone\.(trunk|slow|fast)\.stem\.conv(?=\.)", _pathway_stem),
    (r"^backbone\.(trunk|slow|fast)\.stem\.norm(?=\.)", lambda found: f"{_pathway_stem(found)}_bn"),
    (r"^backbone\.fusions\.(\d)\.", _fusion),
    (r"(slowfast_fusion\d\.)norm\.", r"\1bn."),
    (r"^backbone\.(trunk|slow|fast)\.layer(\d)\.(\d+)\.(?=branch)", _pathway_block),
    (r"branch1_conv\.", "short_cut."),
    (r"branch1_norm\.", "short_cut_bn."),
    (r"branch2\.norm_([abc])\.", r"conv_branch.\1_bn."),
    (r"branch2\.conv_b\.router\.norm\.", "conv_branch.b_rf.bn."),
    (r"branch2\.conv_b\.(?=router\.)", "conv_branch.b_rf."),
    (r"branch2\.conv_c\.norm_t\.", "conv_branch.b2_bn."),
    (r"branch2\.conv_c\.conv_t\.router\.norm\.", "conv_branch.b2_rf.bn."),
    (r"branch2\.conv_c\.conv_t\.(?=router\.)", "conv_branch.b2_rf."),
    (r"branch2\.conv_c\.conv_t\.(?:conv\.)?", "conv_branch.b2."),
    (r"branch2\.conv_([abc])\.(?:conv\.)?", r"conv_branch.\1."),
)
_FACTORISED: Rules = ((r"conv_branch\.b(?=\.|_bn\.|_rf\.)", "conv_branch.b1"),)
"""In R(2+1)D alone."""

_HEAD: Rules = (
    (r"^head\.fc\.(?=weight|bias)", "head.out."),
    (r"^head\.fc\.0\.", "head.linear1."),
    (r"^head\.fc\.1\.", "head.linear2."),
)

_RULES: Rules = (*_RESNET, *_RESNET3D, *_CONVNEXT, *_TRANSFORMER, *_HEAD, *_ROUTER)


def counterparts(model: nn.Module) -> dict[str, Counterpart]:
    """Every tensor of a network to what it is in the authors' code.

    A network that the authors do not have gets names too, those that its layers would have; a file has none of them.
    """
    heads = {
        f"{name}.qkv": module.num_heads
        for name, module in model.named_modules()
        if isinstance(module, AttentionRouting)
    }
    norms = {f"{name}.norm": _name_of_norm(m) for name, m in model.named_modules() if isinstance(m, Routing)}
    enhanced = {f"{name}.expand" for name, m in model.named_modules() if isinstance(m, TAdaBlock) and m.enhanced}
    found = {}
    state = model.state_dict()
    rules = (*_RULES, *_FACTORISED) if any(".conv_t." in name for name in state) else _RULES
    for name, tensor in state.items():
        theirs = name
        for pattern, replacement in rules:
            theirs = re.sub(pattern, replacement, theirs)
        layer = name.rpartition(".")[0]
        theirs = theirs.replace("router.norm.", f"{norms.get(layer)}.")
        shape = _their_shape(name, tuple(tensor.shape), one_by_one=layer in enhanced)
        found[name] = Counterpart(theirs, shape, heads.get(layer, 0))
    return found


def _name_of_norm(router: Routing) -> str:
    if isinstance(router, AttentionRouting):
        return "norm"
    return "ln" if isinstance(getattr(router, "norm", None), ChannelNorm) else "bn"


def _their_shape(name: str, shape: tuple[int, ...], *, one_by_one: bool) -> tuple[int, ...]:
    """Their convolutions all have three dimensions, those on descriptors too; their tokens have no axis of clips.

    Args:
        one_by_one: Whether they have a convolution of one tap where there is a linear layer here.
    """
    if ".router." in name or one_by_one:
        return shape + (1,) * (5 - len(shape)) if len(shape) > 1 else shape
    if name.endswith("cls_token"):
        return shape[-1:]
    if name.endswith("pos_embed"):
        return shape[-2:]
    if len(shape) == 4:  # a convolution over pixels
        return (*shape[:2], 1, *shape[2:])
    return shape


def pools_behind_its_stem(model: nn.Module) -> bool:
    """Whether it is a ResNet on frames with a max pool. The authors' have none, and names and shapes do not tell."""
    pool = getattr(getattr(getattr(model, "backbone", None), "trunk", None), "maxpool", None)
    return isinstance(pool, nn.Module) and not isinstance(pool, nn.Identity)


def describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a set of the authors' names and shapes is, in words."""
    return f"{_architecture(shapes)}{_classes(shapes)}"


def _architecture(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if "backbone.stages.0.0.gamma" in shapes:
        return _convnext(shapes)
    if "backbone.class_embedding" in shapes:
        return _transformer(shapes)
    return _resnet(shapes)


def _convnext(shapes: Mapping[str, tuple[int, ...]]) -> str:
    depths = _lengths(shapes, r"backbone\.stages\.(\d)\.(\d+)\.gamma")
    width = shapes["backbone.stages.0.0.gamma"][0]
    sizes: dict[tuple[tuple[int, ...], int], str] = {
        ((3, 3, 9, 3), 96): "-T",
        ((3, 3, 27, 3), 96): "-S",
        ((3, 3, 27, 3), 128): "-B",
    }
    second = any(name.endswith("dwconv_rf.qkv_proj.weight") for name in shapes)
    first = any(name.endswith("dwconv_rf.g.weight") for name in shapes)
    parts = []
    if any(name.endswith("norm_avgpool.weight") for name in shapes) != second:
        parts.append("without aggregation" if second else "with aggregation")
    if any(name.endswith("dwconv_rf.bn.weight") for name in shapes):
        parts.append("batch norm in its routers")
    kind = "TAdaConvNeXtV2" if second else "TAdaConvNeXt" if first else "ConvNeXt"
    size = sizes.get((depths, width), f" of {depths} blocks, {width} channels wide")
    return kind + size + (f" ({', '.join(parts)})" if parts else "")


def _transformer(shapes: Mapping[str, tuple[int, ...]]) -> str:
    (depth,) = _lengths(shapes, r"backbone\.(layers)\.(\d+)\.ln_1\.weight") or (0,)
    width, patch = shapes["backbone.class_embedding"][0], shapes.get("backbone.conv1.weight", (0,))[-1]
    size = {(12, 768): f"-B/{patch}", (24, 1024): f"-L/{patch}"}.get((depth, width))
    size = size or f" of {depth} blocks, {width} channels wide, patches of {patch}"
    reduce = shapes.get("backbone.layers.0.tada.tada_pre_proj.weight", ())
    parts = ["enhanced"] if len(reduce) == 5 else []
    if "backbone.layers.0.tada2.tada_pre_proj.weight" in shapes:
        parts.append("double")
    parts.append(f"{shapes.get('backbone.positional_embedding', (1,))[0] - 1} positions")
    return f"{'TAdaFormer' if reduce else 'transformer'}{size} ({', '.join(parts)})"


def _lengths(shapes: Mapping[str, tuple[int, ...]], block: str) -> tuple[int, ...]:
    """Number of blocks in each stage, from a pattern with stage and block as its groups."""
    blocks = {found.groups() for name in shapes if (found := re.fullmatch(block, name))}
    counted = Counter(stage for stage, _ in blocks)
    return tuple(counted[stage] for stage in sorted(counted))


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> str:
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
    if fusion := shapes.get("backbone.slowfast_fusion1.conv_fast_to_slow.weight"):
        parts.append(f"fusions over {fusion[2]} frames")
    stem = shapes.get("backbone.conv1.a.weight", ())
    if len(stem) == 5 and stem[2] > 1:
        parts.append(f"a stem over {stem[2]} frames")
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
