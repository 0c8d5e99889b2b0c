"""Optimisers and the parameter groups of the papers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Optimizer:
    """Which optimiser steps, and how fast each kind of parameter moves.

    What is None takes the default of the optimiser named, so nothing of one optimiser reaches another.

    Args:
        name: `sgd` (with momentum) or `adamw`.
        lr: Learning rate at the peak of the schedule, for the whole batch.
        weight_decay: On weights; never on biases and norms. 1e-4 for sgd, 0.05 for adamw when None.
        momentum: Of sgd; 0.9 when None.
        nesterov: Of sgd.
        betas: Of adamw; (0.9, 0.999) when None.
        bias_lr_scale: Biases of convolutions and linear layers learn this many times faster.
        head_lr_scale: The classifier learns this many times faster.
        first_conv_lr_scale: The first convolution learns this many times faster (5 for optical flow in TSN).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    weight_decay: float | None = None
    momentum: float | None = None
    nesterov: bool = False
    betas: tuple[float, float] | None = None
    bias_lr_scale: float = 1.0
    head_lr_scale: float = 1.0
    first_conv_lr_scale: float = 1.0

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

    @classmethod
    def tsm(cls) -> "Optimizer":
        """Lin, Gan and Han 2019: the classifier's weight learns 5 and its bias 10 times faster, other biases twice."""
        return cls("sgd", lr=0.02, bias_lr_scale=2.0, head_lr_scale=5.0)

    @classmethod
    def tada2d(cls) -> "Optimizer":
        """Huang et al. 2022: one rate for all, Nesterov momentum. The authors' 0.24 is for batches of 128 clips."""
        return cls("sgd", lr=0.24, weight_decay=1e-4, nesterov=True)

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


def parameter_groups(network: nn.Module, head: nn.Module, options: Optimizer) -> list[dict[str, Any]]:
    """Sort trainable parameters into named groups with their own learning rate and weight decay.

    The groups are those of TSN and TSM: first convolution, other weights, biases, norms, weight and bias of the head.
    Only biases of convolutions and linear layers count as biases; scale and shift of a norm stay together. Parameters
    that a module holds itself, such as tokens, count as weights.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    first = next((module for module in network.modules() if isinstance(module, _CONVOLUTIONS)), None)
    groups: dict[str, dict[str, Any]] = {}
    for parameter, kind in _kinds(network, first):
        kind = f"head_{kind}" if id(parameter) in in_head else kind
        scale = 1.0
        if kind.endswith("bias"):
            scale *= options.bias_lr_scale
        if kind.startswith("head"):
            scale *= options.head_lr_scale
        if kind.startswith("first_conv"):
            scale *= options.first_conv_lr_scale
        group = groups.setdefault(
            kind,
            {
                "name": kind,
                "params": [],
                "lr": options.lr * scale,
                "weight_decay": options.decay if kind.endswith("weight") else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _kinds(network: nn.Module, first: nn.Module | None) -> Iterator[tuple[nn.Parameter, str]]:
    seen: set[int] = set()
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            if isinstance(module, _NORMS):
                yield parameter, "norm"
            else:
                kind = "bias" if name == "bias" else "weight"
                yield parameter, f"first_conv_{kind}" if module is first else kind
