"""Batch norms folded into the convolutions beside them, where that is exact in evaluation.

With s = w / sqrt(var + eps) and t = b - s mean, a batch norm in evaluation is y = s x + t for each channel. Then

    norm(conv(x; W, c)) = conv(x; s W, s c + t)                     s on the output channels of W
    conv(norm(x); W, c) = conv(x; W s, c + sum over i of W_i t_i)   s on the input channels of W

The first holds for every convolution. The second only where no zeros are padded to the input, because zeros are put
behind the norm, where they are not what the norm makes of zeros.

Both need that nothing else reads what stands between the two. That is watched while a clip runs: every call that gets the
tensor counts. So these stay as they are: norms behind a calibrated convolution, whose result goes to two norms (TAda2D's
aggregation) or is first unfolded to clips; norms in front of a depthwise convolution with padding (UniFormer); layer norms.
A runtime may still join such a norm with its neighbours.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from kinema.operators.relation import PointwiseConv

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_TORCH = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)


@dataclass(frozen=True)
class Folded:
    """A network without the batch norms that could be folded.

    Args:
        network: A copy, in evaluation mode; it cannot be trained on.
        norms: Names of the norms that are gone.
        left: Names of the batch norms that are still there.
    """

    network: nn.Module
    norms: tuple[str, ...]
    left: tuple[str, ...]


def fold_batch_norms(network: nn.Module, *inputs: Tensor) -> Folded:
    """Fold batch norms into convolutions in a copy of a network.

    Args:
        network: Left as it is.
        inputs: Any clip it takes, or all that its `forward` takes; it is run once.
    """
    network = copy.deepcopy(network).eval()
    watched = _watch(network, inputs)
    names = {module: name for name, module in network.named_modules()}
    folded: list[str] = []
    for norm, convolution, before in watched.pairs():
        (_fold_into_next if before else _fold_into_previous)(norm, convolution)
        network.set_submodule(names[norm], _without_norm(norm))
        folded.append(names[norm])
    left = [name for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    return Folded(network, tuple(folded), tuple(left))


@dataclass(eq=False)
class _Watched(TorchFunctionMode):
    """Which module made and took each tensor, and how many calls read it."""

    took: dict[nn.Module, list[Tensor]] = field(default_factory=dict)
    made: dict[nn.Module, list[Tensor]] = field(default_factory=dict)
    readers: dict[int, int] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # A property such as .shape, read through __get__, tells nothing of the values.
        if getattr(func, "__name__", "") not in ("__get__", "size", "dim", "stride", "is_floating_point"):
            for tensor in _tensors((args, kwargs)):
                self.readers[id(tensor)] = self.readers.get(id(tensor), 0) + 1
                self.alive.append(tensor)  # so that no other tensor gets its id
        return func(*args, **kwargs)

    def pairs(self) -> list[tuple[_BatchNorm, Convolution, bool]]:
        """Norms and the convolutions they go into; whether the norm stands in front of it."""
        found: list[tuple[_BatchNorm, Convolution, bool]] = []
        once = [module for module in self.took if len(self.took[module]) == 1]
        convolutions = [module for module in once if _is_plain_convolution(module)]
        made_by = {id(self.made[module][0]): module for module in convolutions}
        taken_by = {id(self.took[module][0]): module for module in convolutions}
        for norm in once:
            if not _is_plain_norm(norm):
                continue
            source, result = self.took[norm][0], self.made[norm][0]
            previous, following = made_by.get(id(source)), taken_by.get(id(result))
            if previous is not None and self.readers.get(id(source)) == 1:
                found.append((norm, previous, False))
            elif (
                following is not None
                and self.readers.get(id(result)) == 1
                and not isinstance(norm, BatchNormAct2d)
                and _pads_nothing(following)
            ):
                found.append((norm, following, True))
        return found


def _watch(network: nn.Module, given: Sequence[Tensor]) -> _Watched:
    watched = _Watched()

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        watched.took.setdefault(module, []).append(inputs[0])
        watched.made.setdefault(module, []).append(output)

    kinds = (_BatchNorm, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, kinds)]
    try:
        with torch.no_grad(), watched:
            network(*given)
    finally:
        for hook in hooks:
            hook.remove()
    return watched


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        return _tensors(list(values.values()))
    if isinstance(values, (tuple, list)):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def _is_plain_norm(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Whether it is a batch norm whose evaluation takes running statistics; one without takes those of the batch."""
    if not isinstance(module, _BatchNorm) or module.running_mean is None or module.running_var is None:
        return False
    return type(module).forward is _BatchNorm.forward or type(module) is BatchNormAct2d


def _is_plain_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    """Whether it computes what its weight and bias say, as one with standardised weights does not."""
    own = type(module).__module__.startswith("kinema.operators.")  # which compute the same in another way
    return isinstance(module, Convolution) and (own or type(module).forward in _TORCH)


def _pads_nothing(convolution: Convolution) -> bool:
    """Whether no zeros are put around the input; a convolution of ours may do that before it is one."""
    known = type(convolution).forward in (*_TORCH, PointwiseConv.forward)
    return known and isinstance(convolution.padding, tuple) and not any(convolution.padding)


def _scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """s and t, in float64: nothing is lost beyond the last rounding to the network's numbers."""
    assert norm.running_mean is not None and norm.running_var is not None
    weight = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight.detach()
    bias = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias.detach()
    scale = weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, bias.double() - scale * norm.running_mean.double()


def _fold_into_previous(norm: _BatchNorm, convolution: Convolution) -> None:
    scale, shift = _scale_and_shift(norm)
    weight = convolution.weight.detach().double()
    bias = torch.zeros_like(shift) if convolution.bias is None else convolution.bias.detach().double()
    _set(convolution, weight * scale.view(-1, *[1] * (weight.ndim - 1)), scale * bias + shift)


def _fold_into_next(norm: _BatchNorm, convolution: Convolution) -> None:
    scale, shift = _scale_and_shift(norm)
    weight = convolution.weight.detach().double()
    ones = [1] * (weight.ndim - 2)
    # Input channels lie group by group: rows of group g see channels g C / G to (g + 1) C / G.
    groups = convolution.groups
    grouped = weight.view(groups, weight.shape[0] // groups, *weight.shape[1:])
    by_group = (groups, 1, weight.shape[1], *ones)
    added = (grouped * shift.view(by_group)).flatten(2).sum(dim=2).flatten()
    bias = 0 if convolution.bias is None else convolution.bias.detach().double()
    _set(convolution, (grouped * scale.view(by_group)).view_as(weight), added + bias)


def _set(convolution: Convolution, weight: Tensor, bias: Tensor) -> None:
    dtype = convolution.weight.dtype
    convolution.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _without_norm(norm: _BatchNorm) -> nn.Module:
    """What else a norm does: timm's holds the activation too."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
