"""Holes: where a frame-wise network hands its features to a temporal operator.

A backbone folds the frames of all clips into one batch and runs a network from timm on it. An operator works on clips,
so a hole unfolds the batch, calls the operator, and folds the result. An operator may change the number of frames; the
number of clips is what stays the same from the first layer to the last, so that is what the holes of a backbone share.
On a stream there is one frame of each clip, and a hole hands it to the operator's `step` (`kinema.backbones.streaming`).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.streaming import Stream
from kinema.shapes import fold_time, unfold_time

OperatorFactory = Callable[[int], nn.Module]
LayerFactory = Callable[[nn.Module], nn.Module]
"""Builds what takes the place of a layer, from that layer."""
Placement = Literal["residual", "in_place"]


class Trunk(Protocol):
    """A network on frames, as timm builds them."""

    def forward_features(self, x: Tensor) -> Tensor: ...
    def get_submodule(self, target: str) -> nn.Module: ...
    def set_submodule(self, target: str, module: nn.Module) -> None: ...
    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...


class Batch:
    """How many clips the batch of frames now passing through a backbone holds; one object per backbone.

    While frames of streams pass through, one of each, `stream` holds what operators remember of them.
    """

    def __init__(self) -> None:
        self.num_clips = 0
        self.stream: Stream | None = None

    def recall_behind(self, output: Tensor) -> None:
        """Have the backward pass of this output find what the batch says now, whatever passes through until then.

        Blocks that were not kept, such as those of timm's `set_grad_checkpointing`, run once more in the backward pass,
        with holes that look here. The pass reaches the output before any of them.

        Args:
            output: Of the backbone.
        """
        if not output.requires_grad or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        now = dict(vars(self))

        def recall(gradient: Tensor) -> None:
            vars(self).update(now)

        output.register_hook(recall)


class Hole(nn.Module):
    """Call an operator on clips from inside a network on frames.

    Args:
        operator: Module from (B, C, T, H, W) to (B, C, T', H, W).
        batch: The backbone's count of clips.

    Raises:
        RuntimeError: If called outside the backbone, which alone knows how frames group into clips.
        ValueError: If frames of streams come and the operator sees frames to come.
    """

    place = ""
    """Name of the hole in its trunk, under which a stream keeps the operator's state."""

    def __init__(self, operator: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.operator = operator
        self._batch = batch

    def forward(self, frames: Float[Tensor, "BT C H W"]) -> Float[Tensor, "BU C H W"]:
        if self._batch.stream is not None:
            return self._batch.stream.step(self.place, self.operator, frames)
        return self.on_clips(self.operator, frames)

    @property
    def on_stream(self) -> bool:
        """Whether frames come one by one, and not as clips."""
        return self._batch.stream is not None

    def on_clips(self, function: Callable[[Tensor], Tensor], frames: Float[Tensor, "BT C H W"]) -> Tensor:
        """Call any function of clips on a batch of frames."""
        num_clips = self._batch.num_clips
        if num_clips == 0:
            raise RuntimeError(
                "a layer that holds a temporal operator was called outside its backbone, which alone knows how many "
                "frames make a clip; call the backbone on a clip (B, C, T, H, W)"
            )
        return fold_time(function(unfold_time(frames, frames.shape[0] // num_clips)))


class MixedConvolution(nn.Module):
    """A mixer and the convolution behind it.

    A mixer may know a shorter way to a 1 x 1 convolution than through its own output, and says so by a method
    `then_pointwise`. It is taken where it pays and nobody looks in between: frames of 32 or 64 bits on a CPU. For
    other types, and on a GPU, convolutions are faster than the matrix products of the shorter way.

    Args:
        mixer: Hole that keeps the number of channels.
        conv: What stood here before.
    """

    def __init__(self, mixer: Hole, conv: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer
        self.conv = conv

    def forward(self, frames: Float[Tensor, "BT C H W"]) -> Float[Tensor, "BT D H W"]:
        own = None if self.mixer.on_stream else getattr(self.mixer.operator, "then_pointwise", None)
        shorter = cast("Callable[..., Tensor] | None", own)
        if shorter is not None and self._is_pointwise() and not self._is_watched() and _are_plain(frames):
            return self.mixer.on_clips(partial(shorter, weight=self.conv.weight), frames)
        return self.conv(self.mixer(frames))

    def _is_pointwise(self) -> bool:
        conv = self.conv
        return (
            type(conv) is nn.Conv2d
            and (conv.kernel_size, conv.stride, conv.padding) == ((1, 1), (1, 1), (0, 0))
            and conv.groups == 1
            and conv.bias is None
        )

    def _is_watched(self) -> bool:
        """Whether a hook waits for a call that the shorter way would not make."""
        parts = (self.conv, self.mixer, self.mixer.operator)
        return any(
            part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
            for part in parts
        )


def _are_plain(frames: Tensor) -> bool:
    """Whether the shorter way pays for these frames, and no program is being made of what is called on them."""
    return (
        frames.device.type == "cpu"
        and frames.dtype in (torch.float32, torch.float64)
        and frames.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


@dataclass(frozen=True)
class Site:
    """One block of a trunk: where it hangs, and its number of channels before and after.

    Args:
        stage: Name of the stage that holds the block, as in the trunk's state dict, such as "layer2".
        index: Position of the block in its stage.
        entry: Name of the convolution that opens the residual branch.
        in_channels: Channels the block takes.
        out_channels: Channels the block gives.
        mixes: Whether a mixer may stand here.
        spatial: Names of its convolutions over pixels, each with the name of the norm behind it.
    """

    stage: str
    index: int
    entry: str
    in_channels: int
    out_channels: int
    mixes: bool = True
    spatial: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stage}.{self.index}"


def open_holes(
    trunk: Trunk,
    sites: Sequence[Site],
    batch: Batch,
    *,
    mixer: OperatorFactory | None = None,
    placement: Placement = "residual",
    mixer_every: int = 1,
    after_block: Mapping[str, OperatorFactory] | None = None,
    before_stage: Mapping[str, OperatorFactory] | None = None,
    convolution: LayerFactory | None = None,
    norm: LayerFactory | None = None,
    convolution_stages: Sequence[str] | None = None,
) -> None:
    """Put operators into a trunk, in place.

    The two placements of the mixer are those of Lin, Gan and Han 2019, section 4:

        residual    y = shortcut(x) + branch(mixer(x))       the frame itself stays visible through the shortcut
        in_place    y = shortcut(mixer(x)) + branch(mixer(x))

    A name in the trunk's state dict changes only where an operator stands: `conv1` becomes `conv1.conv` behind a
    residual mixer, a block `B` with an operator before or after it `B.block`, a stage with one in front `S.blocks`,
    and what took the place of `conv2` is `conv2.operator`.

    Args:
        trunk: Network on frames.
        sites: Its blocks in order of execution.
        batch: Count of clips that the holes shall share.
        mixer: Builds the mixer of one block from its input channels; None for none.
        placement: Where in the block the mixer stands.
        mixer_every: Blocks from one mixer to the next, counted anew in each stage; at least 1.
        after_block: Name of a block to the factory of an operator behind it, given the block's output channels.
        before_stage: Name of a stage to the factory of an operator in front of it, given the stage's input channels.
        convolution: Builds what takes the place of each convolution over pixels, from that convolution.
        norm: Builds what takes the place of the norm behind each of these, from that norm.
        convolution_stages: Stages in which convolutions and norms are replaced; None for all.

    Raises:
        ValueError: On an unknown placement, a step below 1, or a name that is no block or stage of the trunk.
    """
    after_block, before_stage = after_block or {}, before_stage or {}
    if placement not in ("residual", "in_place"):
        raise ValueError(f"placement={placement!r} is unknown; give 'residual' or 'in_place'")
    if mixer_every < 1:
        raise ValueError(f"mixer_every={mixer_every} is no number of blocks; give 1 for a mixer in every block")
    _check_names(after_block, [site.name for site in sites], "block")
    stages = list(dict.fromkeys(site.stage for site in sites))
    _check_names(before_stage, stages, "stage")
    _check_names(convolution_stages or (), stages, "stage")

    for site in sites:
        blocks = trunk.get_submodule(site.stage)
        block = blocks.get_submodule(str(site.index))
        if convolution_stages is None or site.stage in convolution_stages:
            for conv_name, norm_name in site.spatial:
                _replace(block, conv_name, convolution, batch)
                _replace(block, norm_name, norm, batch)
        parts: OrderedDict[str, nn.Module] = OrderedDict(block=block)
        if mixer is not None and site.mixes and site.index % mixer_every == 0:
            hole = Hole(mixer(site.in_channels), batch)
            if placement == "residual":
                entry = block.get_submodule(site.entry)
                block.set_submodule(site.entry, MixedConvolution(hole, entry))
            else:
                parts = OrderedDict(mixer=hole, block=block)
        if site.name in after_block:
            parts["after"] = Hole(after_block[site.name](site.out_channels), batch)
        if len(parts) > 1:
            blocks.set_submodule(str(site.index), nn.Sequential(parts))

    in_channels = {site.stage: site.in_channels for site in reversed(sites)}
    for stage, factory in before_stage.items():
        hole = Hole(factory(in_channels[stage]), batch)
        trunk.set_submodule(stage, nn.Sequential(OrderedDict(before=hole, blocks=trunk.get_submodule(stage))))

    for name, module in trunk.named_modules():
        if isinstance(module, Hole):
            module.place = name


def _replace(block: nn.Module, name: str, factory: LayerFactory | None, batch: Batch) -> None:
    if factory is not None:
        block.set_submodule(name, Hole(factory(block.get_submodule(name)), batch))


def _check_names(given: Iterable[str], known: list[str], what: str) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"no {what} of this backbone is named {unknown}; its {what}s are {known}")
