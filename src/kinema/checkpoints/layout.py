"""What a set of weights is: the trunk, the operators in its holes, the classifier.

Every origin names the same tensors differently. A converter gives each tensor its plain name, which is that of kinema
without the wrappers that operators put around a layer, and writes down what those wrappers were. Then a checkpoint and a
model can be compared, and an error can say what each of them is.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kinema.backbones.holes import Hole
from kinema.checkpoints import uniformer_shapes
from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.attention import STEPS
from kinema.operators.nonlocal_block import NonLocalBlock
from kinema.operators.rotary import RotaryInTime
from kinema.operators.shift import TemporalShift
from kinema.operators.tada_block import TAdaBlock
from kinema.operators.tada_layer import TAdaLayer
from kinema.operators.temporal_pool import TemporalMaxPool
from kinema.operators.token_shift import TokenShift
from kinema.operators.tubelet import TubeletConv

RESIDUAL_SHIFT = "residual shift"
IN_PLACE_SHIFT = "in-place shift"
CAUSAL = "causal "  # in front of the two
NON_LOCAL = "non-local block"
TEMPORAL_POOL = "temporal pool"
CALIBRATED = "calibrated convolution"
CALIBRATED_OVER_TIME = "calibrated convolution over time"
AGGREGATION = "temporal aggregation"
TADA_BLOCK = "TAda block"
TUBELETS = "tubelet embedding"
FAST_PATHWAY = "fast pathway"
TOKEN_SHIFT = "token shift"
ROTARY = "rotation in time"
ROTARY_REFERENCE = "rotation in time with rotary_layout='reference'"

Operators = Mapping[str, frozenset[str]]
"""Kind of operator to the blocks or stages that hold one."""

_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "ResNet-18",
    ((3, 4, 6, 3), False): "ResNet-34",
    ((3, 4, 6, 3), True): "ResNet-50",
    ((3, 4, 23, 3), True): "ResNet-101",
    ((3, 8, 36, 3), True): "ResNet-152",
}


_CONVNEXTS: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "T",
    ((3, 3, 27, 3), 96): "S",
    ((3, 3, 27, 3), 128): "B",
    ((3, 3, 27, 3), 192): "L",
}
_TRANSFORMERS = {(12, 384): "S", (12, 768): "B", (24, 1024): "L"}

_BLOCKS3D = (
    (r"^backbone\.slow\.", ""),
    (r"^backbone\.(?=fast\.|fusions\.)", ""),
    (r"\bstem\.conv\.", "conv1."),
    (r"\bstem\.norm\.", "bn1."),
    (r"\bbranch1_conv\.", "downsample.0."),
    (r"\bbranch1_norm\.", "downsample.1."),
    (r"\bbranch2\.conv_c\.conv_t\.", "conv2_t."),
    (r"\bbranch2\.conv_c\.norm_t\.", "bn2_t."),
    *((rf"\bbranch2\.conv_{a}\.", f"conv{i}.") for i, a in enumerate("abc", start=1)),
    *((rf"\bbranch2\.norm_{a}\.", f"bn{i}.") for i, a in enumerate("abc", start=1)),
)
"""pytorchvideo's names of what torchvision names otherwise. The slow pathway of SlowFast counts as its trunk."""


@dataclass(frozen=True)
class Translation:
    """How one origin's names read in kinema.

    Args:
        origin: Whose names they are.
        names: Plain name to the name in the checkpoint.
        operators: Operators that the names betray.
        tells_shift: Whether the names of this origin would betray a shift; if not, none seen means nothing.
        zeros: Plain names of tensors that this origin leaves out because they are zero there.
        notes: What its reader should know.
    """

    origin: str
    names: Mapping[str, str]
    operators: Operators
    tells_shift: bool = True
    zeros: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What a set of weights is, for comparison and for messages."""

    trunk: str
    operators: Operators
    num_classes: tuple[int, ...]

    def __str__(self) -> str:
        parts = [_counted(len(places), kind) for kind, places in sorted(self.operators.items())]
        classes = " and ".join(map(str, self.num_classes))
        parts.append(f"{classes} classes" if classes else "no classifier")
        return f"{self.trunk} with {', '.join(parts)}"


def _counted(number: int, kind: str) -> str:
    what, over, size = re.match(r"(.+?)( over | of |$)(.*)", kind).groups()  # pyrefly: ignore[missing-attribute]
    return f"{number} {what}{'s' if number > 1 else ''}{over}{size}"


def plain_name(name: str) -> str:
    """kinema's name without wrappers: "backbone.trunk.layer1.0.conv1.conv.weight" to "layer1.0.conv1.weight"."""
    name = name.removeprefix("backbone.trunk.").removeprefix("head.")
    name = re.sub(r"^(layer\d|blocks\.\d)\.blocks\.", r"\1.", name)
    name = re.sub(r"\.block\.", ".", name)
    name = re.sub(r"\.(conv\w*)\.conv\.", r".\1.", name)
    for pattern, replacement in _BLOCKS3D:
        name = re.sub(pattern, replacement, name)
    name = name.removeprefix("backbone.")
    name = re.sub(r"\.(mixer|after|before|between)\.operator\.", r".\1.", name)
    name = re.sub(r"^(stem\.0|patch_embed\.proj)\.operator\.", r"\1.", name)
    return re.sub(r"\.operator\.(conv|norm)\.", ".", name)  # what took the place of a convolution or a norm


def layout_of(model: nn.Module) -> Layout:
    """What a kinema network is."""
    shapes = {plain_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return Layout(trunk_of(shapes), {**operators_of(model), **_operators_in(shapes)}, classes_of(shapes))


def operators_of(model: nn.Module) -> Operators:
    """The operators in the holes of a kinema network, as far as they are modules."""
    operators: defaultdict[str, set[str]] = defaultdict(set)
    for name, module in model.named_modules():
        if isinstance(module, Hole):
            if isinstance(module.operator, TAdaLayer | TemporalAggregation):  # a block may hold several
                operators[_kind(module.operator, False)].add(plain_name(name))
                continue
            *place, _ = plain_name(name).split(".")
            residual = place[-1].startswith(("conv", "bn"))
            block = ".".join(place[:-1] if residual else place)
            operators[_kind(module.operator, residual)].add(block)
        elif isinstance(module, TAdaLayer) and not name.endswith(".operator"):  # among clips, in need of no hole
            layer = plain_name(f"{name}.weight").removesuffix(".weight")
            operators[CALIBRATED_OVER_TIME if layer.endswith("_t") else CALIBRATED].add(layer)
        elif isinstance(module, TokenShift):
            operators[TOKEN_SHIFT].add(plain_name(name).rpartition(".")[0])
        elif isinstance(module, RotaryInTime):
            operators[ROTARY if module.layout == "interleaved" else ROTARY_REFERENCE].add(plain_name(name))
    return freeze(operators)


def _operators_in(shapes: Mapping[str, tuple[int, ...]]) -> Operators:
    """What plain names and shapes alone tell of: convolutions over time, and a second pathway."""
    operators: defaultdict[str, set[str]] = defaultdict(set)
    for name, shape in shapes.items():
        if name.startswith("fast."):
            operators[FAST_PATHWAY].add("fast")
        over_pixels = shape[2:] if len(shape) == 7 else shape  # a calibrated one has two axes more
        if re.search(r"(^|\.)conv\w*\.weight$", name) and len(over_pixels) == 5 and over_pixels[2] > 1:
            layer = name.removesuffix(".weight")
            kind = "fusion" if name.startswith("fusions.") else "convolution"
            operators[f"{kind} over {over_pixels[2]} frames"].add(layer)
        if name == "pos_emb.weight":
            operators[f"embedding of {shape[0]} positions"].add("pos_emb")
    return freeze(operators | _attention_in(shapes) | uniformer_shapes.operators_in(shapes))


def _attention_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, set[str]]:
    """The attention scheme of a transformer on clips. Without gated steps, and without an embedding of time, it may be the
    one on frames, or joint attention that does not know of time: the weights are the same."""
    steps = {found[2]: found[1] for name in shapes if (found := re.match(r"blocks\.(\d+)\.gated\.(\w+)\.", name))}
    blocks = {found[1] for name in shapes if (found := re.match(r"(blocks\.\d+)\.norm1\.", name))}
    embedded = {f"embedding of {shapes['time_embed'][1]} frames": {"time_embed"}} if "time_embed" in shapes else {}
    if steps:
        scheme = next((name for name, all_steps in STEPS.items() if set(all_steps[:-1]) == set(steps)), None)
        return {f"block of {scheme or 'unknown'} attention": blocks, **embedded}
    return {"block of joint attention": blocks, **embedded} if embedded else {}


def layout_of_checkpoint(tensors: Mapping[str, Tensor], translation: Translation) -> Layout:
    """What a checkpoint is, from its names and shapes."""
    shapes = {plain: tuple(tensors[name].shape) for plain, name in translation.names.items()}
    return Layout(trunk_of(shapes), {**translation.operators, **_operators_in(shapes)}, classes_of(shapes))


def trunk_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Name of the network on frames, from plain names and shapes."""
    if "conv_stem.weight" in shapes:
        return "MobileNetV2" if "blocks.6.0.conv_pwl.weight" in shapes else "network of timm's EfficientNet family"
    if "stages.0.blocks.0.conv_dw.weight" in shapes:
        return _convnext(shapes)
    if "patch_embed.proj.weight" in shapes:
        return _transformer(shapes)
    if uniformer_shapes.is_one(shapes):
        return uniformer_shapes.trunk_of(shapes)
    blocks = {tuple(map(int, found.groups())) for name in shapes if (found := re.match(r"layer(\d)\.(\d+)\.", name))}
    layers = tuple(sum(stage == number for stage, _ in blocks) for number in (1, 2, 3, 4))
    if not all(layers):
        if any(name.startswith("model.") for name in shapes):
            return "network of kinema.temporalize (load image weights first, then temporalize)"
        return "unknown network"
    bottleneck = "layer1.0.conv3.weight" in shapes
    first = shapes.get("layer1.0.conv1.weight", (0,))
    width = first[2] if len(first) > 5 else first[0]  # a calibrated one has axes of clip and frame before it
    form = _form_of_resnet(shapes)
    if width == 64 and (layers, bottleneck) in _RESNETS:
        return _RESNETS[layers, bottleneck] + form
    return f"ResNet of {layers} {'bottleneck' if bottleneck else 'basic'} blocks, {width} channels wide{form}"


def _form_of_resnet(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What its stem and its shortcuts are, where they are not the usual one convolution each."""
    stem = [str(shapes[name][0]) for name in sorted(shapes) if _is_kernel(r"conv1\.\d\.weight", name, shapes)]
    parts = [f"a stem of {', '.join(stem)} channels"] if stem else []
    if any(_is_kernel(r"layer\d\.0\.downsample\.1\.weight", name, shapes) for name in shapes):
        parts.append("averages in its shortcuts")  # in front of the convolution, which is at 0 without them
    return f" ({', '.join(parts)})" if parts else ""


def _is_kernel(pattern: str, name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return bool(re.fullmatch(pattern, name)) and len(shapes[name]) > 1


def _convnext(shapes: Mapping[str, tuple[int, ...]]) -> str:
    blocks = {found.groups() for name in shapes if (found := re.match(r"stages\.(\d)\.blocks\.(\d+)\.", name))}
    depths = tuple(sum(stage == number for stage, _ in blocks) for number in "0123")
    kind = "ConvNeXt-V2" if any(".grn." in name for name in shapes) else "ConvNeXt"
    width = shapes["stages.0.blocks.0.mlp.fc1.weight"][1]
    if (depths, width) in _CONVNEXTS:
        return f"{kind}-{_CONVNEXTS[depths, width]}"
    return f"{kind} of {depths} blocks, {width} channels wide"


def _transformer(shapes: Mapping[str, tuple[int, ...]]) -> str:
    depth = len({found[1] for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))})
    width, patch = shapes["patch_embed.proj.weight"][0], shapes["patch_embed.proj.weight"][-1]
    kind = "CLIP's transformer" if "norm_pre.weight" in shapes else "transformer"
    if "blocks.0.time.attn.qkv.weight" in shapes:
        kind = "ungated TimeSformer"
    if (depth, width) in _TRANSFORMERS:
        return f"{kind} {_TRANSFORMERS[depth, width]}/{patch}"
    return f"{kind} of {depth} blocks, {width} channels wide, patches of {patch}"


def classes_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Sizes of the classifiers, in order."""
    heads = sorted(name for name in shapes if re.fullmatch(r"fc(\.\d+)?\.weight", name))
    return tuple(shapes[name][0] for name in heads)


def freeze(operators: Mapping[str, Iterable[str]]) -> Operators:
    """The operators of a network, with no empty kind."""
    return {kind: frozenset(places) for kind, places in operators.items() if places}


def _kind(operator: nn.Module, residual: bool) -> str:
    if isinstance(operator, NonLocalBlock):
        return NON_LOCAL
    if isinstance(operator, TemporalMaxPool):
        return TEMPORAL_POOL
    if isinstance(operator, TAdaLayer):
        return CALIBRATED
    if isinstance(operator, TAdaBlock):
        return TADA_BLOCK
    if isinstance(operator, TubeletConv):
        return TUBELETS
    if isinstance(operator, TemporalAggregation):
        return AGGREGATION
    if isinstance(operator, TemporalShift):
        return (CAUSAL if operator.causal else "") + (RESIDUAL_SHIFT if residual else IN_PLACE_SHIFT)
    return f"{'residual' if residual else 'in-place'} {type(operator).__name__}"
