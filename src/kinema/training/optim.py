"""Optimisers and the parameter groups of the papers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.operators.routing import Routing
from kinema.operators.tada_block import TAdaBlock

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Optimizer:
    """Which optimiser steps, and how fast each kind of parameter moves.

    What is None takes the default of the optimiser named, so nothing of one optimiser reaches another.

    Args:
        name: `sgd` (with momentum) or `adamw`.
        lr: Learning rate at the peak of the schedule, for the whole batch.
        reference_batch_size: Videos of an optimiser step for which `lr` is meant. A step of other size takes lr * size /
            reference_batch_size, the linear rule (Goyal et al. 2017, arXiv:1706.02677, section 2.1); its size is the batch of
            one process times processes times batches whose gradients are added up. Repeats of a video do not count. `lr` is
            taken as it is when None.
        weight_decay: On weights; never on biases and norms. 1e-4 for sgd, 0.05 for adamw when None.
        momentum: Of sgd; 0.9 when None.
        nesterov: Of sgd.
        betas: Of adamw; (0.9, 0.999) when None.
        bias_lr_scale: Biases of convolutions and linear layers learn this many times faster.
        head_lr_scale: The classifier learns this many times faster.
        first_conv_lr_scale: The first convolution learns this many times faster (5 for optical flow in TSN).
        head_bias_lr_scale: The classifier's biases; bias_lr_scale * head_lr_scale when None.
        router_lr_scale: Routers of calibrated convolutions learn this many times faster.
        router_bias_lr_scale: Their biases; bias_lr_scale * router_lr_scale when None.
        tada_lr_scale: The TAda blocks of a TAdaFormer learn this many times faster.
        decay_all: Weight decay on everything, biases, norms and tokens too, as in TimeSformer's code.
        layer_decay: Share of the learning rate from one layer to the one below it: with 0.7, the last norm and the
            classifier learn at the full rate, the last block at 0.7 of it, the block below at 0.49, the embeddings
            slowest. No weight decay then on what has one axis, such as a class token. For transformers; off when None.
        decay_one_axis: Weight decay on what has one axis and is no bias or norm, such as a class token, where there is no
            layer decay.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    reference_batch_size: int | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    nesterov: bool = False
    betas: tuple[float, float] | None = None
    bias_lr_scale: float = 1.0
    head_lr_scale: float = 1.0
    first_conv_lr_scale: float = 1.0
    head_bias_lr_scale: float | None = None
    router_lr_scale: float = 1.0
    router_bias_lr_scale: float | None = None
    tada_lr_scale: float = 1.0
    layer_decay: float | None = None
    decay_one_axis: bool = True
    decay_all: bool = False

    def __post_init__(self) -> None:
        foreign = {
            "sgd": {"betas": self.betas},
            "adamw": {"momentum": self.momentum, "nesterov": self.nesterov or None},
        }
        for option, value in foreign[self.name].items():
            if value is not None:
                raise ValueError(f"{option}={value} was given, but {self.name} has no {option}; remove it")
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if self.reference_batch_size is not None and self.reference_batch_size < 1:
            raise ValueError(f"reference_batch_size must be at least 1, got {self.reference_batch_size}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}; the papers have 0.7 and 0.85")

    def for_batch(self, videos: int | None) -> "Optimizer":
        """These options with the learning rate for so many videos in an optimiser step.

        Raises:
            ValueError: If the rate depends on their number, and it is not known.
        """
        if self.reference_batch_size is None:
            return self
        if videos is None:
            raise ValueError(
                f"reference_batch_size={self.reference_batch_size} scales the learning rate with the batch, and the data does "
                "not say how large that is; train on a VideoDataModule, or leave it out and give the rate itself as lr"
            )
        return replace(self, lr=self.lr * videos / self.reference_batch_size, reference_batch_size=None)

    @classmethod
    def tsm(cls) -> "Optimizer":
        """Lin, Gan and Han 2019: the classifier's weight learns 5 and its bias 10 times faster, other biases twice."""
        return cls("sgd", lr=0.02, bias_lr_scale=2.0, head_lr_scale=5.0)

    @classmethod
    def tada2d(cls) -> "Optimizer":
        """Huang et al. 2022: one rate for all, Nesterov momentum. The authors' 0.24 is for batches
        of 128 clips or 256, which their files leave open."""
        return cls("sgd", lr=0.24, weight_decay=1e-4, nesterov=True)

    @classmethod
    def tadaconvnext(cls) -> "Optimizer":
        """Huang et al. 2022, rates after the model card of the authors' TAdaConvNeXt (the classifier learns 10 times faster),
        weight decay after files of their later code."""
        return cls("adamw", lr=1e-4, weight_decay=1e-3, head_lr_scale=10.0)

    @classmethod
    def tadaconvnextv2(cls) -> "Optimizer":
        """Huang et al. 2023: weights of routers and classifier learn 5, their biases 10 times faster; 512 clips a batch."""
        return cls(
            "adamw",
            lr=5e-4,
            weight_decay=0.02,
            head_lr_scale=5.0,
            head_bias_lr_scale=10.0,
            router_lr_scale=5.0,
            router_bias_lr_scale=10.0,
        )

    @classmethod
    def tadaformer(cls) -> "Optimizer":
        """Huang et al. 2023: layer decay 0.7 (0.85 for L/14), TAda blocks and classifier 10 times faster; 256 clips."""
        return cls("adamw", lr=5e-5, weight_decay=0.05, head_lr_scale=10.0, tada_lr_scale=10.0, layer_decay=0.7)

    @classmethod
    def timesformer(cls) -> "Optimizer":
        """Bertasius et al. 2021, as their code does it: one rate, Nesterov momentum, and weight decay on everything.

        Their list of parameters without decay is never read. The rate is for batches of 64 clips.
        """
        return cls("sgd", lr=0.005, weight_decay=1e-4, nesterov=True, decay_all=True)

    @classmethod
    def uniformer(cls) -> "Optimizer":
        """Li et al. 2022: one rate for all, 1e-4 for batches of 32 clips of Kinetics, twice that of Something-Something."""
        return cls("adamw", lr=1e-4, weight_decay=0.05, decay_one_axis=False)

    @property
    def decay(self) -> float:
        if self.weight_decay is not None:
            return self.weight_decay
        return 1e-4 if self.name == "sgd" else 0.05


def build_optimizer(network: nn.Module, head: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """Build the optimiser of a network whose classifier is `head`."""
    groups = parameter_groups(network, head, options)
    if options.name == "sgd":
        momentum = 0.9 if options.momentum is None else options.momentum
        return torch.optim.SGD(groups, lr=options.lr, momentum=momentum, nesterov=options.nesterov)
    return torch.optim.AdamW(groups, lr=options.lr, betas=options.betas or (0.9, 0.999))


@runtime_checkable
class Layered(Protocol):
    """A backbone that says how deep its parameters stand: 0 for the embeddings, num_layers + 1 for the last norm."""

    @property
    def num_layers(self) -> int: ...
    def layer_of(self, name: str) -> int: ...


def parameter_groups(network: nn.Module, head: nn.Module, options: Optimizer) -> list[dict[str, Any]]:
    """Sort trainable parameters into named groups with their own learning rate and weight decay.

    The groups are those of TSN and TSM: first convolution, other weights, biases, norms, weight and bias of the head;
    those of TAdaConv: weights and biases of routers; those of TAdaFormer: its TAda blocks, and layers. Only biases of
    convolutions and linear layers count as biases; scale and shift of a norm stay together. But the layer norms of a router
    are weights and biases of the router, as in the code of TAdaConv's authors. Parameters that a module holds itself,
    such as tokens, count as weights.

    Raises:
        ValueError: If layers shall learn at different rates, and the network does not tell them apart.
    """
    backbone = getattr(network, "backbone", None)
    if options.layer_decay is not None and not isinstance(backbone, Layered):
        raise ValueError(
            f"layer_decay={options.layer_decay} needs a network of numbered layers, as TAdaFormer is; leave it out"
        )
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter, place, leaf in _sorted(network, head):
        kind = "_".join([*place, leaf])
        scale = _lr_scale(place, leaf, options)
        decays = leaf == "weight" or options.decay_all
        if options.layer_decay is not None:
            assert isinstance(backbone, Layered)
            top = backbone.num_layers + 1
            layer = top if "head" in place else backbone.layer_of(name.removeprefix("backbone."))
            kind = f"layer{layer}_{kind}"
            scale *= options.layer_decay ** (top - layer)
        spares = (options.layer_decay is not None or not options.decay_one_axis) and not options.decay_all
        if spares and decays and sum(size > 1 for size in parameter.shape) < 2:
            kind, decays = f"{kind}_of_one_axis", False
        group = groups.setdefault(
            kind,
            {
                "name": kind,
                "params": [],
                "lr": options.lr * scale,
                "weight_decay": options.decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _lr_scale(place: tuple[str, ...], leaf: str, options: Optimizer) -> float:
    scale = options.bias_lr_scale if leaf == "bias" else 1.0
    if "first_conv" in place:
        scale *= options.first_conv_lr_scale
    if "tada" in place:
        scale *= options.tada_lr_scale
    for part, all_of_it, biases in (
        ("head", options.head_lr_scale, options.head_bias_lr_scale),
        ("router", options.router_lr_scale, options.router_bias_lr_scale),
    ):
        if part in place:
            scale = scale * all_of_it if leaf != "bias" or biases is None else biases
    return scale


def _sorted(network: nn.Module, head: nn.Module) -> Iterator[tuple[str, nn.Parameter, tuple[str, ...], str]]:
    """Name, parameter, where it stands, and whether it is a weight, a bias, or of a norm."""
    first = next((module for module in network.modules() if isinstance(module, _CONVOLUTIONS)), None)
    parts = {
        "head": _parameters(head),
        "first_conv": _parameters(first) if first is not None else set(),
        "tada": _parameters(*(m for m in network.modules() if isinstance(m, TAdaBlock))),
        "router": _parameters(*(m for m in network.modules() if isinstance(m, Routing))),
    }
    seen: set[int] = set()
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            place = tuple(part for part, held in parts.items() if id(parameter) in held)
            norm = isinstance(module, _BatchNorm if "router" in place else _NORMS)
            leaf = "norm" if norm else "bias" if name == "bias" else "weight"
            yield f"{path}.{name}".lstrip("."), parameter, place, leaf


def _parameters(*modules: nn.Module) -> set[int]:
    return {id(parameter) for module in modules for parameter in module.parameters()}
