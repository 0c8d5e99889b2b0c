"""Load weights into a network that is already built; nothing of the network changes unless all of it went well."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kinema.checkpoints import (
    bmn,
    clip,
    convnext,
    mmaction2,
    own,
    positions,
    tadaconv,
    tadaconv_names,
    timesformer,
    timesformer_rotary,
    timm,
    tsm,
    uniformer,
)
from kinema.checkpoints.files import read_checkpoint
from kinema.checkpoints.inflate import inflate, kernel_axes
from kinema.checkpoints.layout import (
    CAUSAL,
    FAST_PATHWAY,
    TOKEN_SHIFT,
    Layout,
    Translation,
    layout_of,
    layout_of_checkpoint,
    operators_of,
    plain_name,
)
from kinema.checkpoints.options import refuse_other_options
from kinema.checkpoints.report import LoadReport
from kinema.localization.network import BoundaryMatchingNetwork
from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.time_convolution import RecentMean, TimeConvolution
from kinema.operators.tubelet import TubeletConv

Source = str | Path | Mapping[str, Any] | nn.Module
Inflation = Literal["mean", "centre"]
LAYOUTS = (
    "kinema, the authors of TSM, TAdaConv, TimeSformer and UniFormer, lucidrains/TimeSformer-pytorch, mmaction2 (TSN, TSM, "
    "TimeSformer, UniFormer), Hugging Face (TimeSformer), ResNet and MobileNetV2 of timm and torchvision, ConvNeXt and CLIP of "
    "their authors and of timm, and ViT of timm"
)
"""What is read, in words."""

_ORIGINS: tuple[ModuleType, ...] = (
    own,
    uniformer,
    timesformer,
    timesformer_rotary,
    tsm,
    mmaction2,
    timm,
    convnext,
    clip,
)
_HOLDERS = ("module.", "_orig_mod.", "network.", "model.", "net.")  # DataParallel, torch.compile, LightningModules
_COUNTER = "num_batches_tracked"  # absent from old files, and without effect where momentum is a number


_ONCE_MORE = "what the checkpoint has for the last step of the block, once more"


def load_checkpoint(model: nn.Module, source: Source) -> LoadReport:
    """Load a checkpoint of this very architecture, whoever trained it; every tensor must find its place.

    Tensors do not say how many channels are shifted and which way, which pooling stands beside a norm, whether calibration
    sees the past alone, and of a transformer the number of heads, the scale, the order of steps and the rule for class
    tokens. A run of kinema says it, so other options than its own are refused; of all else they are the model's. Weights of
    TAdaConv's authors, who have no causal network, are refused for one.

    Layouts of kinema, of the authors of TSM, TAdaConv, TimeSformer and UniFormer, of lucidrains/TimeSformer-pytorch, of
    mmaction2, of Hugging Face (TimeSformer), of ResNet and MobileNetV2 of timm and torchvision, of ConvNeXt and CLIP of
    their authors and of timm, and of ViT of timm are told apart by their names and shapes, never by a file name. The table
    in experiments/recipes says which network each of them fits. R(2+1)D of torchvision is not read.

    Args:
        model: Network of `kinema.create_model`.
        source: Path of a safetensors file or of one written by torch.save, a run folder, a state dict, or a network.

    Returns:
        What was loaded, under which names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or would run code, or holds another architecture, other operators, another number
            of classes or a run with other options than the model.
    """
    tensors, hparams, outside = _read(source, model)
    if isinstance(model, BoundaryMatchingNetwork):
        return _noting(bmn.load(model, tensors, strict=True), outside)
    if _is_of_tadaconv(tensors, model):
        return _noting(_load_tadaconv(model, tensors), outside)
    translation = _translate(tensors, model)
    theirs, ours = layout_of_checkpoint(tensors, translation), layout_of(model)
    _refuse_other_architecture(translation, theirs, ours)
    if theirs.num_classes != ours.num_classes:
        sizes = theirs.num_classes if len(theirs.num_classes) > 1 else sum(theirs.num_classes)
        raise ValueError(
            f"{_describe(translation, theirs)}; the model is {ours}. Build it with num_classes={sizes}, "
            "or keep its own classifier with kinema.init_from"
        )
    _refuse_other_operators(translation, theirs, ours)

    values, report = _match(model, tensors, translation, theirs)
    lost = {name: why for name, why in report.initial.items() if not name.endswith(_COUNTER)}
    if lost or report.inflated or report.refused:
        raise ValueError(
            f"{_describe(translation, theirs)} and so is the model, but the tensors do not match. "
            f"Without a value: {_some(lost | report.inflated)}. Without a place: {_some(report.refused)}. "
            "Build the model with the options it was trained with, or take what fits with kinema.init_from"
        )
    refuse_other_options(model, hparams)
    model.load_state_dict(values)
    return _noting(report, outside)


def init_from(model: nn.Module, source: Source, *, inflation: Inflation = "mean") -> LoadReport:
    """Start from the weights of an image network, of another data set, or of the same trunk with other operators.

    Layouts are those of `load_checkpoint`; the options of a run are not compared. The trunk must be the same. A classifier of
    another size, and operators that the checkpoint lacks, keep their initial values; what is left over of the checkpoint is
    not used. The report lists both, and what was computed: kernels of a network in three dimensions from those of images,
    the first convolution for another number of input channels (`kinema.checkpoints.inflate`), position embeddings for
    another number of patches or frames, and the gated steps of a space-time transformer from the attention of the same block.
    A classifier of the same size comes along, and the report says so: the number of classes does not tell whether they are
    the same ones.

    Args:
        model, source: As for `load_checkpoint`.
        inflation: How the kernel of an image spreads over kt frames: "mean" has it on every frame, divided by kt; "centre"
            has it on the middle frame and zeros on the others, as tubelets have it always.

    Raises:
        ValueError, FileNotFoundError: As for `load_checkpoint`, except that only another trunk is an error.
    """
    if inflation not in get_args(Inflation):
        raise ValueError(f"inflation={inflation!r} is unknown; give one of {', '.join(get_args(Inflation))}")
    tensors, _, outside = _read(source, model)
    if isinstance(model, BoundaryMatchingNetwork):
        return _noting(bmn.load(model, tensors, strict=False), outside)
    of_tadaconv = _is_of_tadaconv(tensors, model)
    if of_tadaconv:
        translation, tensors = tadaconv_names.translate(model, tensors)
    else:
        translation = _translate(tensors, model)
    theirs, ours = layout_of_checkpoint(tensors, translation), layout_of(model)
    _refuse_other_architecture(translation, theirs, ours)
    values, report = _match(model, tensors, translation, theirs, inflation)
    if not report.loaded:
        raise ValueError(f"{_describe(translation, theirs)}, but no tensor of it has a place in the model, {ours}")
    model.load_state_dict(values)
    if of_tadaconv:
        report.source = f"{tadaconv.ORIGIN}: {tadaconv.describe(_shapes(tensors))}"
    return _noting(_with_note_on_classifier(report), outside)


def _noting(report: LoadReport, outside: Mapping[str, str]) -> LoadReport:
    report.refused |= outside
    return report


def _with_note_on_classifier(report: LoadReport) -> LoadReport:
    if any(name.startswith("head.") for name in report.loaded):
        report.notes.append(
            "the classifier came along, for it has as many classes as the model; if these are others, or in another order, "
            "it starts from what it learnt of those"
        )
    return report


def _is_of_tadaconv(tensors: Mapping[str, Tensor], model: nn.Module) -> bool:
    return not set(tensors) >= _needed(model) and tadaconv.recognises(set(tensors))


def _load_tadaconv(model: nn.Module, tensors: Mapping[str, Tensor]) -> LoadReport:
    """Names and shapes of TAdaConv's authors decide by themselves whether a file fits: they leave nothing to guess.

    But for two things that no tensor tells of: they have no causal network, and no ResNet with a max pool.
    """
    ours = tadaconv.counterparts(model)
    shapes = _shapes(tensors)
    theirs = tadaconv.describe(shapes)
    report = LoadReport(source=f"{tadaconv.ORIGIN}: {theirs}")
    converted = tadaconv.to_ours(model, tensors)
    for name, counterpart in ours.items():
        if name in converted:
            report.loaded.append(name)
            report.renamed[name] = counterpart.name
        elif counterpart.name in shapes:
            why = f"shape {counterpart.shape} as they hold it; {counterpart.name} has {shapes[counterpart.name]}"
            report.initial[name] = why
            report.refused[counterpart.name] = f"shape {shapes[counterpart.name]}; {name} has {counterpart.shape} there"
        else:
            report.initial[name] = "not in the checkpoint"
    if place := _calibrated_from_the_past(model):
        raise ValueError(
            f"the checkpoint ({tadaconv.ORIGIN}) holds {theirs}, calibrated from frames before and behind; {place} of the "
            "model sees the past alone, so the same weights would mean something else there. Build the model without "
            "causal=True, or start its training from these weights with kinema.init_from"
        )
    known = {counterpart.name for counterpart in ours.values()}
    report.refused |= {name: "no such tensor in the model" for name in shapes if name not in known}
    lost = {name: why for name, why in report.initial.items() if not name.endswith(_COUNTER)}
    if lost or report.refused:
        what = tadaconv.describe({counterpart.name: counterpart.shape for counterpart in ours.values()})
        raise ValueError(
            f"the checkpoint ({tadaconv.ORIGIN}) holds {theirs}; the model is {what}. Without a value: {_some(lost)}. "
            f"Without a place: {_some(report.refused)}. Build the model that fits (kinema.list_models() names them), "
            "with the options it was trained with, or take what fits with kinema.init_from"
        )
    if tadaconv.pools_behind_its_stem(model):
        raise ValueError(
            f"the checkpoint ({tadaconv.ORIGIN}) holds {theirs}, with stride 2 in its first stage where the model has a max "
            "pool, so the same weights would mean something else there. Build the model without the max pool "
            "(kinema.backbones.resnet.resnet(..., stem_pool=False), as tada2d_r50 has it), or start its training from these "
            "weights with kinema.init_from"
        )
    model.load_state_dict(model.state_dict() | converted)
    return report


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _calibrated_from_the_past(model: nn.Module) -> str | None:
    """The first part of a router or aggregation that has a two-way form with the same tensors."""
    for name, module in model.named_modules():
        if isinstance(module, RecentMean) or (isinstance(module, TemporalAggregation) and module.causal):
            return name
        if isinstance(module, TimeConvolution) and module.causal and module.reach:
            return name
    return None


def _read(source: Source, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, str]]:
    """The tensors of a network, kernels in the shape of kernels; what a run of kinema was built with; and names of tensors
    beside the network, with why they are not of it."""
    tensors, hparams = read_checkpoint(source)
    tensors, outside = _without_holder(tensors, model)
    channels = getattr(getattr(model, "backbone", None), "in_channels", 3)
    return timesformer_rotary.with_kernel(tensors, channels), hparams, outside


def _without_holder(tensors: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Names without what holds the network: a DataParallel, a compiled module, a LightningModule with its own buffers."""
    held, outside = "", {}
    while True:
        known = set(model.state_dict()) & set(tensors)
        holder = next((h for h in _HOLDERS if not known and any(name.startswith(h) for name in tensors)), None)
        if holder is None:
            return tensors, outside
        why = f"not of the network, whose tensors are under {held + holder}"
        outside |= {held + name: why for name in tensors if not name.startswith(holder)}
        tensors = {name.removeprefix(holder): tensor for name, tensor in tensors.items() if name.startswith(holder)}
        held += holder


def _translate(tensors: dict[str, Tensor], model: nn.Module) -> Translation:
    names = set(tensors)
    if names >= _needed(model):
        return Translation("kinema", {plain_name(name): name for name in tensors}, operators_of(model))
    for origin in _ORIGINS:
        if origin.recognises(names):
            return origin.translate(names)
    raise ValueError(
        f"no known layout has names such as {_some(dict.fromkeys(sorted(names), ''))}; known are those of {LAYOUTS}"
    )


def _needed(model: nn.Module) -> set[str]:
    return {name for name in model.state_dict() if not name.endswith(_COUNTER)}


def _refuse_other_architecture(translation: Translation, theirs: Layout, ours: Layout) -> None:
    if theirs.trunk != ours.trunk:
        raise ValueError(
            f"{_describe(translation, theirs)}; the model is {ours}. Build the model that fits (kinema.list_models() "
            "names them) or give a checkpoint of this one"
        )


def _refuse_other_operators(translation: Translation, theirs: Layout, ours: Layout) -> None:
    wanted = dict(ours.operators)
    if not translation.tells_shift:  # a causal shift or none: those are the networks such names can come from
        wanted = {kind: places for kind, places in wanted.items() if not kind.startswith(CAUSAL)}
    if theirs.operators == wanted:
        return
    places = "; ".join(
        f"{kind} in {sorted(found)} of the {whose}"
        for kind in sorted({*theirs.operators, *wanted})
        for whose, found in (
            ("checkpoint alone", theirs.operators.get(kind, frozenset()) - wanted.get(kind, frozenset())),
            ("model alone", wanted.get(kind, frozenset()) - theirs.operators.get(kind, frozenset())),
        )
        if found
    )
    raise ValueError(
        f"{_describe(translation, theirs)}; the model is {ours} ({places}). Build the model with the options the "
        "checkpoint was trained with, or take the weights alone with kinema.init_from"
    )


def _match(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    translation: Translation,
    layout: Layout,
    inflation: Inflation = "mean",
) -> tuple[dict[str, Tensor], LoadReport]:
    """A value for every tensor of the model, and the account of where it came from."""
    report = LoadReport(source=f"{translation.origin}: {layout}")
    values = dict(model.state_dict())
    left = dict(translation.names)
    widened, tubelets = _widened(model), _tubelets(model)
    at_centre = inflation == "centre"
    for name, initial in model.state_dict().items():
        plain = plain_name(name)
        if plain in translation.zeros and plain not in left:
            values[name] = torch.zeros_like(initial)
            report.loaded.append(name)
            report.notes.append(f"{name} is zero: {translation.origin} has no such tensor")
            continue
        if plain not in left:
            twin = translation.names.get(re.sub(r"\.gated\.\w+\.(norm|attn)\.", _main_step, plain))
            if twin is not None and ".gated." in plain and tensors[twin].shape == initial.shape:
                values[name], report.inflated[name] = tensors[twin], _ONCE_MORE
            else:
                report.initial[name] = "not in the checkpoint"
            continue
        theirs = left.pop(plain)
        value = tensors[theirs]
        if value.shape == initial.shape:
            values[name] = value
            report.loaded.append(name)
            if theirs != name:
                report.renamed[name] = theirs
        elif _differs_by_ones(value, initial):
            values[name] = value.reshape(initial.shape)
            report.loaded.append(name)
            report.renamed[name] = theirs
        elif inflated := _inflated(
            theirs, plain, value, initial, centred=at_centre or name in tubelets, widened=plain in widened
        ):
            values[name], report.inflated[name] = inflated
        else:
            report.initial[name] = f"shape {tuple(initial.shape)}; {theirs} has {tuple(value.shape)}"
            report.refused[theirs] = f"shape {tuple(value.shape)}; {name} has {tuple(initial.shape)}"
    report.refused |= dict.fromkeys(left.values(), "no such tensor in the model")
    report.notes += translation.notes
    if timesformer.NOT_COMMERCIAL in translation.notes and layout.num_classes == (174,):
        report.notes.append(timesformer.BGR)
    report.notes += uniformer.notes(translation.origin, layout.num_classes)
    if any("shift" in kind for kind in layout.operators if kind != TOKEN_SHIFT):  # thirds, always
        report.notes.append("how many channels were shifted, and in which direction, a checkpoint does not say")
    if _calibrated_from_the_past(model):
        report.notes.append("whether calibration sees the past alone, a checkpoint does not say")
    if "backbone.patch_embed.proj.weight" in values and any(name.endswith(".attn.qkv.weight") for name in values):
        report.notes.append(
            "heads, scale, order of steps and the rule for class tokens are the model's: a checkpoint has none"
        )
    return values, report


def _main_step(found: re.Match[str]) -> str:
    return ".norm1." if found[1] == "norm" else ".attn."


def _differs_by_ones(value: Tensor, initial: Tensor) -> bool:
    """Whether shapes differ by axes of one alone: a calibrated convolution has two for clip and frame, others one for time.

    Of kernels over pixels the channels must be the same too: (D, 3, p, p) has the axes of (D, 1, 3, p, p) that are not one,
    but these are three channels, and those three frames.
    """
    theirs, ours = kernel_axes(value.shape), kernel_axes(initial.shape)
    if min(len(theirs), len(ours)) >= 4 and theirs[:2] != ours[:2]:
        return False
    return [size for size in theirs if size != 1] == [size for size in ours if size != 1]


def _inflated(
    theirs: str, plain: str, value: Tensor, initial: Tensor, *, centred: bool, widened: bool
) -> tuple[Tensor, str] | None:
    """A tensor computed from the checkpoint's, and how; None if there is no way."""
    shape = tuple(initial.shape)
    if plain in positions.RESIZED:
        return positions.RESIZED[plain](theirs, value, shape)
    return inflate(theirs, value, shape, stem=_is_stem(plain), widened=widened, centred=centred)


def _is_stem(plain: str) -> bool:
    return plain in (
        "conv1.weight",
        "conv1.0.weight",
        "fast.conv1.weight",
        "conv_stem.weight",
        "stem.0.weight",
        "patch_embed.proj.weight",
        "patch_embed1.proj.weight",
        "patch_embed1.proj.0.weight",
    )


def _tubelets(model: nn.Module) -> set[str]:
    """Names of the kernels that embed several frames, of which the middle one is the image's."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, TubeletConv)}


def _widened(model: nn.Module) -> set[str]:
    """Plain names of the convolutions that read the channels of a fusion behind those of their own pathway."""
    if FAST_PATHWAY not in layout_of(model).operators:
        return set()
    return {f"layer{stage}.0.{layer}.weight" for stage in (1, 2, 3, 4) for layer in ("conv1", "downsample.0")}


def _describe(translation: Translation, layout: Layout) -> str:
    return f"the checkpoint ({translation.origin}) holds {layout}"


def _some(names: Mapping[str, str]) -> str:
    shown = list(names)[:6]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if shown else "none"
