"""Any image network of timm as a video network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.holes import Hole, OperatorFactory
from kinema.models.image_holes import ClipHole, Clips, Misfit, Preceded, PrecededBlock, TokenHole
from kinema.models.network import ClipNetwork, SegmentNetwork, check_input
from kinema.operators.feature_calibration import FeatureCalibration
from kinema.operators.shift import TemporalShift
from kinema.operators.tada_block import TAdaBlock
from kinema.shapes import fold_time

Operator = Literal["tada", "tsm"]
Where = Callable[[str, Any], bool]

_OPTIONS: dict[type[nn.Module], dict[str, str]] = {
    FeatureCalibration: {
        "routing": "routing",
        "routing_ratio": "ratio",
        "routing_kernels": "kernels",
        "routing_head_dim": "head_dim",
        "calibrated_fraction": "fraction",
    },
    TAdaBlock: {
        name: name
        for name in ("routing", "routing_ratio", "routing_kernels", "routing_head_dim", "reduction", "enhanced")
    },
    TemporalShift: {"shift_fraction": "fraction", "causal": "causal"},
}
"""What may be said of each operator, by the names that `create_model` has, and how the operator calls it."""

_SMALL = (64, 64)
_SIDES = (32, 64, 96, 112, 128, 160, 192, 240, 256, 288, 320, 384, 448, 512)


class TemporalizedNetwork(nn.Module):
    """An image network on every frame, its frames meeting in operators in front of its convolutions.

        logits = mean over t of network(frame t)

    Args:
        model: A classifier of timm, in which holes were opened.
        clips: What the holes share.
        num_frames: Frames of a clip it is meant for.
        places: Names of the layers that an operator stands in front of.

    Shape:
        (B, C, T, H, W) to logits (B, K).
    """

    def __init__(self, model: nn.Module, clips: Clips, num_frames: int, places: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.num_frames = num_frames
        self.places = tuple(places)
        self._clips = clips
        self.training = model.training

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        logits = self.model(self._frames(clip))
        self._clips.recall_behind(logits)
        return self._mean(logits, clip)

    def forward_features(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        """The mean over the frames of what the image network's classifier sees."""
        model = cast(Any, self.model)
        features = model.forward_features(self._frames(clip))
        self._clips.recall_behind(features)
        return self._mean(model.forward_head(features, pre_logits=True), clip)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier."""
        cast(Any, self.model).reset_classifier(num_classes)

    def _frames(self, clip: Tensor) -> Tensor:
        check_input(clip, channels=_image_channels(self.model))
        self._clips.num_clips, self._clips.num_frames = clip.shape[0], clip.shape[2]
        return fold_time(clip)

    @staticmethod
    def _mean(of_frames: Tensor, clip: Tensor) -> Tensor:
        return of_frames.unflatten(0, (clip.shape[0], -1)).mean(dim=1)


def temporalize(
    model: nn.Module,
    operator: Operator | OperatorFactory = "tada",
    *,
    where: Where | None = None,
    num_frames: int = 8,
    **options: Any,
) -> TemporalizedNetwork:
    """Turn an image network of timm into a video network; its weights are kept.

    The operator stands in front of every convolution over more than one pixel, but for those that read the image
    itself. With "tada" the network is at first the image network on every frame, its logits averaged; the shift of
    "tsm" moves channels from the start. A transformer has no such convolution: there "tada" adds a `TAdaBlock` to the
    patch tokens in front of every block, as in TAdaFormer (Huang et al. 2023, arXiv:2308.05787); it starts at zero.

    Load image weights first, by `timm.create_model(..., pretrained=True)` or the network's `load_state_dict`: a layer
    behind an operator has another name afterwards. `kinema.load_checkpoint` and `kinema.init_from` take what was saved
    of the temporalized network itself.

    The network is changed in place, and tried on one clip of `num_frames` frames: where an operator would be passed by,
    or frames do not stay together in the batch, nothing would tell later. If anything fails, it is as it was before.

    Routers are as wide as the layers they calibrate. That is little beside the convolutions of a ResNet-50 (25.6 to 28.7
    million parameters), but "tada" multiplies the parameters of mobile networks, whose wide convolutions are depthwise:
    efficientnet_lite0 with five classes grows from 3.4 to 22.2 million. routing_ratio=16 makes that 13.7, and with
    routing="local" too, which does without a layer for the mean of the clip, 6.2.

    Args:
        model: A classifier of `timm.create_model`.
        operator: "tada" (`FeatureCalibration`; `TAdaBlock` in a transformer), "tsm" (`TemporalShift`), or what builds an
            operator from a number of channels. It takes and gives clips (B, C, T, H, W) of one shape.
        where: Which convolutions, by name and module; all over more than one pixel when None. Of a transformer, which
            blocks.
        num_frames: Frames of a clip. Other numbers run too, but for routing "per_frame", which learns one factor each.
        options: Of an operator of one's own, its arguments. Of "tada" and "tsm", named as in `kinema.create_model`:

            routing: What makes the factors of "tada", see `kinema.operators.routing`. Default "local_global", in a
                transformer "attention".
            routing_ratio: Channels of a layer over hidden channels of its router. Default 4, in a transformer 2.
            routing_kernels: Frames that the router's two convolutions see, odd. Default (3, 3).
            routing_head_dim: Channels of an attention head, for routing "attention". Default one head.
            calibrated_fraction: Share of the channels calibrated, the leading ones, in (0, 1]. Default 1; not in a
                transformer.
            reduction: Channels of a transformer over those of its TAda blocks. Default 2; transformers alone.
            enhanced: TAda blocks see three frames already where they reduce channels. Default False; transformers alone.
            shift_fraction: Share of the channels moved by "tsm", in (0, 1]. Default 1/4.
            causal: "tsm" shifts from the past only. Default False.

    Raises:
        TypeError: If the model is no network, or the operator is none and builds none.
        ValueError: If the operator or an option is unknown, there is no place for the operator, or the network cannot
            hold it, with the reason.
    """
    _check_model(model)
    _check_operator(operator)
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames} makes no clip; give the frames of a clip, at least 1")
    image_channels = _image_channels(model)
    layers = _behind_the_image(model, image_channels)
    blocks = _row_of_blocks(model) if not layers else {}
    in_blocks = operator == "tada" and not layers
    places = {
        name: module
        for name, module in (blocks if in_blocks else layers).items()
        if where is None or where(name, module)
    }
    if not places:
        raise ValueError(_no_place(model, operator, layers, blocks))

    factory = _factory(operator, options, num_frames, in_blocks=in_blocks)
    clips, holes = Clips(), {}
    for name, module in places.items():
        if in_blocks:
            width = cast(int, model.embed_dim)
            hole = TokenHole(
                _built(factory, width), clips, name, width, cast(int, getattr(model, "num_prefix_tokens", 0))
            )
        else:
            width = cast(nn.Conv2d, module).in_channels
            hole = ClipHole(_built(factory, width), clips, name, width)
        holes[name] = hole.to(next(module.parameters())).train(module.training)
    sizes = _sizes(model, image_channels)
    try:
        for name, module in places.items():
            hole = holes[name]
            preceded = PrecededBlock(hole, module) if isinstance(hole, TokenHole) else Preceded(hole, module)
            preceded.training = module.training
            model.set_submodule(name, preceded)
        network = TemporalizedNetwork(model, clips, num_frames, list(holes))
        _try_out(network, holes, sizes)
    except BaseException:
        for name, module in places.items():
            model.set_submodule(name, module)
        raise
    return network


def _check_model(model: Any) -> None:
    """Refuse what is no image network.

    Raises:
        TypeError, ValueError: If it is none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is no network; give one that is built, such as timm.create_model('resnet50')")
    name = type(model).__name__
    if isinstance(model, (TemporalizedNetwork, SegmentNetwork, ClipNetwork)) or any(
        isinstance(module, Hole) for module in model.modules()
    ):
        raise ValueError(
            f"{name} is a video network already, and a second row of operators would stand in front of the first; give "
            "an image network fresh from timm.create_model"
        )
    if isinstance(model, nn.ModuleDict):
        raise ValueError(
            f"{name} gives lists of feature maps, needed is one row of numbers for each frame; build the network without "
            "features_only=True"
        )


def _check_operator(operator: Any) -> None:
    """Refuse what builds no operator.

    Raises:
        TypeError, ValueError: If it does not.
    """
    known = f"give one of {get_args(Operator)}, or what builds an operator from a number of channels"
    if isinstance(operator, str):
        if operator not in get_args(Operator):
            raise ValueError(f"operator={operator!r} is unknown; {known}")
    elif isinstance(operator, nn.Module):
        raise TypeError(
            f"operator is a {type(operator).__name__} that is built already, while every layer needs one of its own; give "
            f"its class, or a function of the number of channels"
        )
    elif not callable(operator):
        raise TypeError(f"operator={operator!r} builds no operator; {known}")


def _row_of_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a transformer that keeps its patches in one row; none of other networks."""
    if not isinstance(getattr(model, "embed_dim", None), int) or not hasattr(model, "blocks"):
        return {}
    return {f"blocks.{name}": block for name, block in model.get_submodule("blocks").named_children()}


def _no_place(
    model: nn.Module,
    operator: Operator | OperatorFactory,
    layers: Mapping[str, nn.Module],
    blocks: Mapping[str, nn.Module],
) -> str:
    """Why the operator has no place in this network, and which has one."""
    name = type(model).__name__
    if layers or (blocks and operator == "tada"):
        what = "convolution over more than one pixel" if layers else "block"
        return (
            f"{name} has no {what} that 'where' accepts; it is given the name and the module of each, such as "
            f"{next(iter(layers or blocks))!r}"
        )
    if blocks:
        return (
            f"{name} has no convolution over more than one pixel to stand in front of, and operator={operator!r} has no "
            "other place; operator='tada' works here: it puts a TAdaBlock in front of every transformer block"
        )
    return (
        f"{name} has no convolution over more than one pixel, and no row of transformer blocks, to stand in front of; give "
        "a convolutional network, or with operator='tada' a transformer that keeps the patches of a frame in one row "
        "`blocks`, as ViT, DeiT and BEiT do. Those that attend within windows, such as Swin, Hiera and HaloNet, keep "
        "them in stages and sort them by windows, so that an operator could not tell the patches of a place over time"
    )


def _factory(
    operator: Operator | OperatorFactory, options: Mapping[str, Any], num_frames: int, *, in_blocks: bool
) -> OperatorFactory:
    """What builds the operator from a number of channels.

    Raises:
        ValueError: On an option that the operator does not know.
    """
    if not isinstance(operator, str):
        return partial(operator, **options) if options else operator
    kind: type[nn.Module] = TemporalShift
    given: dict[str, Any] = {}
    if operator == "tada":
        kind = TAdaBlock if in_blocks else FeatureCalibration
        given = {"num_frames": num_frames, **({"routing_head_dim": None} if in_blocks else {})}
    known = _OPTIONS[kind]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(
            f"operator={operator!r} puts a {kind.__name__} in front of every {'block' if in_blocks else 'layer'}, which has "
            f"no option {', '.join(unknown)}; its options are {', '.join(known)}, and 'where' chooses the places"
        )
    return partial(kind, **given | {known[name]: value for name, value in options.items()})


def _built(factory: OperatorFactory, channels: int) -> nn.Module:
    operator: Any = factory(channels)
    if not isinstance(operator, nn.Module):
        raise TypeError(
            f"the operator's factory gave {operator!r} for {channels} channels, needed is an nn.Module on clips "
            "(B, C, T, H, W)"
        )
    return operator


def _image_channels(model: nn.Module) -> int:
    """What timm's networks say themselves; of others, what the first convolution reads."""
    in_chans = getattr(model, "in_chans", None)
    if isinstance(in_chans, int):
        return in_chans
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise ValueError(f"{type(model).__name__} has no convolution at all, not even one that reads the image")
    return first.in_channels


def _behind_the_image(model: nn.Module, channels: int) -> dict[str, nn.Conv2d]:
    """Convolutions over more than one pixel, but for those that read the image itself.

    Where several have its number of channels, one frame tells them apart: what is read is the image itself, resized or
    normalised perhaps, as long as no parameter has had a part in it.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
    }
    readers = {name for name, module in layers.items() if module.in_channels == channels}
    if len(readers) > 1:
        size, *_ = _sizes(model, channels)
        behind: set[str] = set()

        def look(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if any(isinstance(given, Tensor) and given.requires_grad for given in inputs):
                behind.add(name)

        hooks = [layers[name].register_forward_pre_hook(partial(look, name)) for name in readers]
        try:
            with _in_evaluation(model), torch.enable_grad(), _all_trainable(model):
                model(_zeros(model, 1, channels, *size))
        finally:
            for hook in hooks:
                hook.remove()
        readers -= behind
    return {name: module for name, module in layers.items() if name not in readers}


@contextmanager
def _all_trainable(model: nn.Module) -> Iterator[None]:
    """Every parameter with a gradient, and as it was again afterwards."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _sizes(model: nn.Module, channels: int) -> list[tuple[int, int]]:
    """Height and width of the frames to try: the first that the network takes, and the one it is meant for if larger.

    Raises:
        ValueError: If it takes none.
    """
    told = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    config = cast("dict[str, Any]", told)
    meant = tuple(config.get("input_size", (3, 224, 224)))[1:]
    own = next((size for module in model.modules() if (size := _image_size(module)) is not None), None)
    sizes = [own, meant] if own is not None else [meant]
    if own is None and not config.get("fixed_input_size"):
        sizes = [_SMALL, meant]
    elif own is None:  # some forget the size they were built for
        sizes += [(side, side) for side in _SIDES]
    failures = []
    with _in_evaluation(model):
        for size in sizes:
            try:
                given = model(_zeros(model, 1, channels, *size))
            except Exception as error:
                failures.append(error)
                continue
            if not isinstance(given, Tensor):
                raise ValueError(
                    f"{type(model).__name__} gives a {type(given).__name__} for a frame, needed is one tensor of logits; "
                    "give a classifier"
                )
            return [size, meant] if size == _SMALL != meant and own is None else [size]
    tried = ", ".join(f"{height} x {width}" for height, width in sizes)
    raise ValueError(
        f"{type(model).__name__} itself, without any operator, does not run on frames of {tried} pixels "
        f"({_first_line(failures[0])}); give a network that runs on images of its `pretrained_cfg['input_size']`"
    ) from failures[0]


def _image_size(module: nn.Module) -> tuple[int, int] | None:
    """Height and width that a network of timm, or its patch embedding, says it was built for."""
    size = getattr(module, "img_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, (tuple, list)) and len(size) == 2 else None


def _zeros(model: nn.Module, *shape: int) -> Tensor:
    parameter = next(model.parameters())
    return torch.zeros(*shape, device=parameter.device, dtype=parameter.dtype)


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation without gradients; every module is in its own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _try_out(network: TemporalizedNetwork, holes: Mapping[str, Hole], sizes: Sequence[tuple[int, int]]) -> None:
    """Run one clip, and look whether every operator saw it; what fails on small frames is tried on larger ones.

    Raises:
        ValueError: If it did not.
    """
    *smaller, last = sizes
    for size in smaller:
        try:
            return _try_clip(network, holes, size)
        except ValueError:
            continue
    return _try_clip(network, holes, last)


def _try_clip(network: TemporalizedNetwork, holes: Mapping[str, Hole], size: tuple[int, int]) -> None:
    name, clips = type(network.model).__name__, network._clips
    clip = _zeros(network, 1, _image_channels(network.model), network.num_frames, *size)
    seen: list[str] = []
    inside: list[str] = []

    def enter(place: str, module: nn.Module, inputs: Any) -> None:
        seen.append(place)
        inside.append(place)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        inside.pop()

    hooks = [hole.operator.register_forward_pre_hook(partial(enter, place)) for place, hole in holes.items()]
    hooks += [hole.operator.register_forward_hook(leave) for hole in holes.values()]
    try:
        with _in_evaluation(network):
            network(clip)
    except Misfit as error:
        raise ValueError(f"{name} cannot hold this operator everywhere: {error}") from error
    except Exception as error:
        if inside:
            operator = type(holes[inside[-1]].operator).__name__
            raise ValueError(
                f"the operator {operator} before {inside[-1]} fails on features of a clip of {network.num_frames} frames "
                f"of {size[0]} x {size[1]} pixels ({_first_line(error)}); give one that takes any clip "
                "(B, C, T, H, W), or leave this layer out with 'where'"
            ) from error
        raise ValueError(
            f"{name} does not run with operators in front of its layers, though it does without "
            f"({_first_line(error)}); leave layers out with 'where'"
        ) from error
    finally:
        clips.num_clips = clips.num_frames = 0
        for hook in hooks:
            hook.remove()
    if passed_by := [place for place in holes if place not in seen]:
        raise ValueError(
            f"{name} reads the weights of {passed_by[0]} without calling it, so an operator in front of it would be "
            "passed by; leave such layers out with 'where'"
        )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
