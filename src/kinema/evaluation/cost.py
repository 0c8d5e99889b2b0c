"""What a network costs: parameters and multiply-adds, in total and by stage."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# A part that holds at least this share of the multiply-adds of the whole is shown by its own parts instead.
_TOO_LARGE_FOR_ONE_ROW = 0.75


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Args:
        name: Name of the module in the network.
        params: Its number of parameters.
        macs: Its multiply-adds.
        output_shape: Shape of what it returns; frame-wise parts see the frames of all clips as one batch.
    """

    name: str
    params: int
    macs: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass.

    Args:
        params: Number of parameters, trainable or not.
        macs: Multiply-adds of matrix products and convolutions, each counted once: what papers on video print as FLOPs.
        stages: The same by stage, in order of execution; parts that share a stage's name do not overlap.
        clip_shape: Shape the counts hold for.
    """

    params: int
    macs: int
    stages: tuple[Stage, ...]
    clip_shape: tuple[int, ...]

    def __str__(self) -> str:
        rows = [("stage", "params", "MMACs", "output")]
        rows += [
            (stage.name, f"{stage.params:,}", f"{stage.macs / 1e6:,.1f}", " x ".join(map(str, stage.output_shape)))
            for stage in self.stages
        ]
        rows += [("total", f"{self.params:,}", f"{self.macs / 1e6:,.1f}", "")]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            f"{name:<{widths[0]}}  {params:>{widths[1]}}  {macs:>{widths[2]}}  {output}".rstrip()
            for name, params, macs, output in rows
        )


def profile(model: nn.Module, clip_shape: Sequence[int] = (1, 3, 8, 224, 224)) -> Cost:
    """Count the parameters and multiply-adds of a network, without computing anything.

    The network is run in evaluation mode on PyTorch's meta device, where tensors have shapes and no values, so that a
    network of any size is counted in about a second, and in no memory. Element-wise work is not counted: norms,
    activations, pooling, and so the temporal shift, which costs time and no multiplication.

    Args:
        model: Network on clips; left as it is.
        clip_shape: (B, C, T, H, W) of the clip. The count is of the whole batch.

    Raises:
        ValueError: If `clip_shape` has not five positive sizes.
    """
    shape = tuple(clip_shape)
    if len(shape) != 5 or any(size < 1 for size in shape):
        raise ValueError(f"clip_shape={shape} is no (B, C, T, H, W) of positive sizes")
    skeleton = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    outputs: dict[str, tuple[int, ...]] = {}
    for name, module in skeleton.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: outputs.update({name: _shape(output)}))
    counter = FlopCounterMode(display=False)
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    with torch.no_grad(), counter:
        skeleton(torch.empty(shape, device="meta", dtype=dtype))

    flops = {name.partition(".")[2]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    macs = {name: flops.get(name, 0) // 2 for name in outputs} | {"": counter.get_total_flops() // 2}
    order = list(outputs)
    rows = sorted(_rows(skeleton, macs), key=lambda name: order.index(name) if name in outputs else len(order))
    stages = [
        Stage(name, _params(skeleton.get_submodule(name)), macs.get(name, 0), outputs.get(name, ())) for name in rows
    ]
    own = [Stage(f"{name} itself", count, 0, ()) for name, count in _held_between(skeleton, rows)]
    return Cost(_params(model), macs[""], (*own, *(s for s in stages if s.params or s.macs)), shape)


def _rows(model: nn.Module, macs: dict[str, int], name: str = "") -> list[str]:
    """Names of the modules that make the table.

    A module that is not in `macs` was not called itself, only parts of it were, if any: it is shown by them. Of a layer
    that serves in training alone only the parameters are shown.
    """
    children = [f"{name}.{child}".lstrip(".") for child, _ in model.get_submodule(name).named_children()]
    if not children or (name in macs and macs[name] < _TOO_LARGE_FOR_ONE_ROW * macs[""]):
        return [name]
    return [row for child in children for row in _rows(model, macs, child)]


def _held_between(model: nn.Module, rows: Sequence[str]) -> list[tuple[str, int]]:
    """Parameters that modules shown by their parts hold themselves, such as class tokens and position embeddings."""
    parents = [name for name, _ in model.named_modules() if any(not name or row.startswith(f"{name}.") for row in rows)]
    counts = {
        name: sum(math.prod(own.shape) for own in model.get_submodule(name).parameters(recurse=False))
        for name in parents
    }
    return [(name, count) for name, count in counts.items() if count]


def _params(module: nn.Module) -> int:
    return sum(math.prod(parameter.shape) for parameter in module.parameters())


def _shape(output: Any) -> tuple[int, ...]:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else ()
