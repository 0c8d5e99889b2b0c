"""Any image network of timm as a video network."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.holes import Batch, Hole, MixedConvolution, OperatorFactory
from kinema.models.network import check_input
from kinema.operators.feature_calibration import FeatureCalibration
from kinema.operators.shift import TemporalShift
from kinema.operators.tada_block import TAdaBlock
from kinema.shapes import fold_time

Operator = Literal["tada", "tsm"]
Where = Callable[[str, Any], bool]

_OPERATORS: dict[str, Callable[..., nn.Module]] = {"tada": FeatureCalibration, "tsm": TemporalShift}


class TemporalizedNetwork(nn.Module):
    """An image network on every frame, its frames meeting in operators in front of its convolutions.

        logits = mean over t of network(frame t)

    Args:
        model: A classifier of timm, in which holes were opened.
        batch: What the holes share.
        num_frames: Frames of a clip it is meant for.
        places: Names of the layers that an operator stands in front of.

    Shape:
        (B, C, T, H, W) to logits (B, K).
    """

    def __init__(self, model: nn.Module, batch: Batch, num_frames: int, places: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.num_frames = num_frames
        self.places = tuple(places)
        self._batch = batch

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        return self._mean(self.model(self._frames(clip)), clip)

    def forward_features(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        """The mean over the frames of what the image network's classifier sees."""
        model = cast(Any, self.model)
        features = model.forward_features(self._frames(clip))
        return self._mean(model.forward_head(features, pre_logits=True), clip)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier."""
        cast(Any, self.model).reset_classifier(num_classes)

    def _frames(self, clip: Tensor) -> Tensor:
        check_input(clip, channels=_image_channels(self.model))
        self._batch.num_clips = clip.shape[0]
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

    The network is changed in place, and tried on a clip of two frames: where an operator would be passed by, or frames
    do not stay together in the batch, nothing would tell later.

    Args:
        model: A classifier of `timm.create_model`.
        operator: "tada" (`FeatureCalibration`; `TAdaBlock` in a transformer), "tsm" (`TemporalShift`), or what builds an
            operator from a number of channels.
        where: Which convolutions, by name and module; all over more than one pixel when None. Of a transformer, which
            blocks.
        num_frames: Frames of a clip; for routing "per_frame" alone.
        options: Of the operator.

    Raises:
        ValueError: If the operator is unknown, there is no place for it, or the network cannot hold it, with the reason.
    """
    if isinstance(operator, str) and operator not in _OPERATORS:
        raise ValueError(f"operator={operator!r} is unknown; give one of {get_args(Operator)}, or a factory")
    image_channels = _image_channels(model)
    convolutions = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1 and module.in_channels != image_channels
    ]
    batch, holes = Batch(), {}
    if convolutions or operator != "tada":
        factory = _factory(operator, options, num_frames)
        for name, conv in convolutions:
            if where is None or where(name, conv):
                hole = holes[name] = Hole(factory(conv.in_channels), batch).to(conv.weight)
                model.set_submodule(name, _Preceded(hole, conv))
    else:
        width = getattr(model, "embed_dim", None)
        blocks = (
            model.get_submodule("blocks") if isinstance(width, int) and hasattr(model, "blocks") else nn.ModuleList()
        )
        options = {"routing_head_dim": None, **options}
        for index, block in enumerate(blocks.children()):
            name = f"blocks.{index}"
            if where is None or where(name, block):
                hole = _TokenHole(TAdaBlock(cast(int, width), **options), batch, getattr(model, "num_prefix_tokens", 0))
                holes[name] = hole.to(next(block.parameters()))
                model.set_submodule(name, _PrecededBlock(holes[name], block))
    if not holes:
        what = "convolution over more than one pixel" + (
            "" if operator != "tada" else ", and no row of transformer blocks,"
        )
        raise ValueError(
            f"{type(model).__name__} has no {what} to stand in front of"
            + ("" if where is None else " that 'where' accepts")
        )
    network = TemporalizedNetwork(model, batch, num_frames, list(holes))
    _try_out(network, holes)
    return network


def _factory(operator: Operator | OperatorFactory, options: dict[str, Any], num_frames: int) -> OperatorFactory:
    if not isinstance(operator, str):
        return partial(operator, **options) if options else operator
    options = {"num_frames": num_frames, **options} if operator == "tada" else options
    return partial(_OPERATORS[operator], **options)


class _TokenHole(Hole):
    """Add what an operator on clips says of the patches to their tokens (BT, N, D); other tokens pass by.

    Tokens lie in rows of a square: transformers of timm that take other images resize their positions by themselves,
    and say so through `dynamic_img_size`, which is not followed here.
    """

    def __init__(self, operator: nn.Module, batch: Batch, num_prefix_tokens: int) -> None:
        super().__init__(operator, batch)
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim == 4:  # (BT, h, w, D)
            return tokens + super().forward(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        side = math.isqrt(tokens.shape[1])
        others = tokens.shape[1] - side * side  # some transformers add their class token in later blocks alone
        if others not in (0, self.num_prefix_tokens):
            raise ValueError(f"{tokens.shape[1]} tokens of a frame are no square and its prefix; give square frames")
        prefix, patches = tokens[:, :others], tokens[:, others:]
        said = super().forward(patches.unflatten(1, (side, side)).permute(0, 3, 1, 2))
        return torch.cat([prefix, patches + said.flatten(2).transpose(1, 2)], dim=1)


class _PrecededBlock(nn.Module):
    """A transformer block behind an operator."""

    def __init__(self, mixer: _TokenHole, block: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.block = block

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(self.mixer(tokens), *args, **kwargs)


class _Preceded(MixedConvolution):
    """A convolution behind an operator, which still answers for its own attributes: some networks ask for them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("conv"), name)


def _image_channels(model: nn.Module) -> int:
    """What timm's networks say themselves; of others, what the first convolution reads."""
    in_chans = getattr(model, "in_chans", None)
    if isinstance(in_chans, int):
        return in_chans
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise ValueError(f"{type(model).__name__} has no convolution at all, not even one that reads the image")
    return first.in_channels


def _try_out(network: TemporalizedNetwork, holes: Mapping[str, Hole]) -> None:
    """Run two frames, and look whether every operator saw both.

    Raises:
        ValueError: If it did not.
    """
    config = getattr(network.model, "pretrained_cfg", None) or {}
    size = tuple(config.get("input_size", (3, 224, 224)))[1:]
    parameter = next(network.parameters())
    clip = torch.zeros(1, _image_channels(network.model), 2, *size, device=parameter.device, dtype=parameter.dtype)
    seen: dict[str, int] = {}
    hooks = [
        hole.register_forward_pre_hook(lambda module, inputs, name=name: seen.__setitem__(name, inputs[0].shape[0]))
        for name, hole in holes.items()
    ]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(clip)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(network.model).__name__} hands its layers something else than feature maps or tokens of frames "
            f"({str(error).splitlines()[0]}); leave such layers out with 'where'"
        ) from error
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    name = type(network.model).__name__
    if passed_by := [place for place in holes if place not in seen]:
        raise ValueError(
            f"{name} reads the weights of {passed_by[0]} without calling it, so an operator in front of it would be "
            "passed by; leave such layers out with 'where'"
        )
    if regrouped := [place for place, frames in seen.items() if frames != 2]:
        raise ValueError(
            f"{name} cuts frames into windows before {regrouped[0]}, so there is no telling which belong together in "
            "time; leave such convolutions out with 'where'"
        )
