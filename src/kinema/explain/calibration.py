"""What calibrates a network: the factors that its routers give for clips, and how much they vary over time.

TAdaConv (Huang et al. 2022, arXiv:2110.06178) scales its kernel by factors alpha[c, t] of every channel and frame, made
from the clip by a router (`kinema.operators.routing`). Factors that hardly change over time are those of a convolution
that is adapted to the clip, or not at all; this tells which layers use time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.explain.watching import in_evaluation
from kinema.operators.routing import Routing


@dataclass(frozen=True)
class Factors:
    """The factors of one layer.

    Args:
        layer: Name of the module that holds the router.
        factor: What they scale: "cin", "cout", "kernel" (its taps) or "bias".
        values: One for each clip, channel and frame; channels that the router does not speak of, which stay at one, are
            not among them.
    """

    layer: str
    factor: str
    values: Float[Tensor, "B C T"]


@dataclass(frozen=True)
class Variation:
    """How much the factors of one layer vary within a clip.

        over_time ** 2 = mean over b, c of (variance over t of alpha[b, c, t])
        over_channels ** 2 = mean over b of (variance over c of the mean over t of alpha[b, c, t])

    Their sum is the variance within a clip, so `time_share` says which part of it is change over time.

    Args:
        layer, factor: As in `Factors`.
        mean: Of all factors; routers start at one, those of TAdaFormer at zero.
        over_time: Standard deviation over the frames.
        over_channels: Standard deviation over the channels of what stays the same over time.
    """

    layer: str
    factor: str
    mean: float
    over_time: float
    over_channels: float

    @property
    def time_share(self) -> float:
        """Part of the variance within a clip that is over time, in [0, 1]; 0 where nothing varies."""
        whole = self.over_time**2 + self.over_channels**2
        return self.over_time**2 / whole if whole else 0.0


def calibration_factors(network: nn.Module, clip: Float[Tensor, "B C T H W"]) -> list[Factors]:
    """The factors that every router of a network gives for some clips, in order of execution.

    Args:
        network: With calibrated convolutions; run in evaluation mode without gradients, and left as it was.
        clip: Normalised as for the network.

    Raises:
        ValueError: If nothing in the network is calibrated.
    """
    routers: dict[nn.Module, str] = {
        module: name for name, module in network.named_modules() if isinstance(module, Routing)
    }
    if not routers:
        raise ValueError(
            f"no convolution of this {type(network).__name__} is calibrated; give one that is, such as "
            "kinema.create_model('tada2d_nano')"
        )
    found: list[Factors] = []

    def keep(router: nn.Module, inputs: Any, output: Any) -> None:
        layer = routers[router].rpartition(".")[0]
        for factor, values in output._asdict().items():
            if values is not None:
                found.append(Factors(layer, factor, values.detach().clone()))

    hooks = [router.register_forward_hook(keep) for router in routers]
    try:
        with in_evaluation(network), torch.no_grad():
            network(clip)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def variation(factors: Sequence[Factors]) -> list[Variation]:
    """How much the factors of every layer vary over time and over channels."""
    return [_variation_of(each) for each in factors]


def _variation_of(factors: Factors) -> Variation:
    values = factors.values.double()
    over_time = values.var(dim=2, correction=0).mean().sqrt()
    over_channels = values.mean(dim=2).var(dim=1, correction=0).mean().sqrt()
    return Variation(factors.layer, factors.factor, float(values.mean()), float(over_time), float(over_channels))
