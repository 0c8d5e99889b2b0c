"""Options of TAdaConv into what fills the holes of a backbone."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.models.options import Aggregation, TAda
from kinema.operators.aggregation import TemporalAggregation
from kinema.operators.routing import RoutingName
from kinema.operators.tada_layer import calibrate
from kinema.operators.tadaconv import CalibrationDim


def calibration_filling(
    num_frames: int,
    *,
    calibration: CalibrationDim | None = None,
    routing: RoutingName = "local_global",
    routing_ratio: int = 4,
    routing_kernels: tuple[int, int] = (3, 3),
    routing_head_dim: int | None = None,
    calibrated_fraction: float = 1.0,
    calibrated_stages: Sequence[int] = (1, 2, 3, 4),
    aggregation: Aggregation = "avg",
    aggregation_kernel: int = 3,
    aggregation_norm: str = "own",
    calibrate_bias: bool = False,
    causal: bool = False,
    stage_names: Sequence[str] = ("layer1", "layer2", "layer3", "layer4"),
) -> dict[str, Any]:
    """`convolution`, `norm` and `convolution_stages` of `kinema.backbones.holes.open_holes`.

    Args:
        num_frames: For routing "per_frame"; if causal, frames that a router's mean is over.
        calibrate_bias: Whether the bias of a convolution gets a factor too.
        causal: Routers and aggregation see this frame and those before it alone.
        stage_names: The backbone's names of stages 1, 2, ...
        others: See `kinema.models.options.CalibrationOptions`.

    Raises:
        ValueError: If a stage is unknown, or an option has a value it cannot take.
    """
    stages = _whole_numbers("calibrated_stages", calibrated_stages)
    if not stages or len(set(stages)) < len(stages) or not all(1 <= stage <= len(stage_names) for stage in stages):
        raise ValueError(
            f"calibrated_stages={stages}: give each of the stages to calibrate once, from 1 to {len(stage_names)}; for none, "
            "give routing='none' and aggregation='none'"
        )
    if len(_whole_numbers("routing_kernels", routing_kernels)) != 2:
        raise ValueError(f"routing_kernels={tuple(routing_kernels)}: give two odd numbers of frames, such as (3, 3)")
    if not isinstance(routing_ratio, int) or routing_ratio < 1:
        raise ValueError(f"routing_ratio={routing_ratio} divides channels; give a whole number of at least 1")
    if aggregation_norm not in ("own", "shared"):
        raise ValueError(f"aggregation_norm={aggregation_norm!r} is unknown; give 'own' or 'shared'")
    options: dict[str, Any] = {"ratio": routing_ratio, "kernels": tuple(routing_kernels)}

    def convolution(conv: nn.Module) -> nn.Module:
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        if isinstance(conv, nn.Conv3d) and conv.kernel_size[0] == 1:
            conv = _of_frames(conv)
        head_dim = routing_head_dim or conv.in_channels // routing_ratio
        return calibrate(
            conv,
            calibration=calibration,
            routing=routing,
            fraction=calibrated_fraction,
            calibrate_bias=calibrate_bias,
            num_frames=num_frames,
            causal=causal,
            head_dim=head_dim,
            **options,
        )

    norm = None
    if aggregation != "none":
        pooled = {"pooling": aggregation, "kernel": aggregation_kernel, "causal": causal}
        norm = partial(_aggregate, own=aggregation_norm == "own", **pooled)
    return {
        "convolution": convolution,
        "norm": norm,
        "convolution_stages": [stage_names[stage - 1] for stage in stages],
    }


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or not all(isinstance(value, int) for value in values):
        raise ValueError(f"{name}={values!r} is no list of whole numbers; give several, such as (3, 4)")
    return tuple(values)


def plug_in_filling(tada: TAda, known: Sequence[TAda], num_frames: int, **options: Any) -> dict[str, Any]:
    """`kinema.backbones.blocks3d.Filling3d` of a network that may as well do without calibration.

    Temporal aggregation is left out: table 3 of Huang et al. 2022 does not say whether these networks have it, and the
    parameters it prints are too coarse to tell.

    Args:
        tada: Which convolutions are calibrated.
        known: What the network can take beside "none".
        num_frames: For routing "per_frame".
        options: See `kinema.models.options.RoutingOptions`.

    Raises:
        ValueError: If the network has no such convolutions, options were given for a calibration that is not wanted, or
            one has a value it cannot take.
    """
    if tada not in ("none", *known):
        raise ValueError(f"tada={tada!r} is nothing this network can take; give one of {', '.join(('none', *known))}")
    if tada == "none":
        if options:
            raise ValueError(
                f"{', '.join(sorted(options))} was given, but tada='none' calibrates nothing; give tada={known[0]!r}, "
                "or leave it out"
            )
        return {}
    filling = calibration_filling(num_frames, aggregation="none", **options)
    return {name: filling[name] for name in ("convolution", "convolution_stages")}


def _of_frames(conv: nn.Conv3d) -> nn.Conv2d:
    """A 3-D convolution that sees one frame, in two dimensions: so its calibration is a scale of its input.

    Raises:
        ValueError: If it strides or pads time.
    """
    if conv.stride[0] != 1 or isinstance(conv.padding, str) or conv.padding[0] != 0:
        raise ValueError(f"{conv} changes the number of frames; it cannot be calibrated")
    frames = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        cast(tuple[int, int], conv.kernel_size[1:]),
        cast(tuple[int, int], conv.stride[1:]),
        cast(tuple[int, int], conv.padding[1:]),
        cast(tuple[int, int], conv.dilation[1:]),
        conv.groups,
        conv.bias is not None,
        device="meta",  # no values are drawn that those of the convolution would replace
    )
    frames.weight = nn.Parameter(conv.weight.detach()[:, :, 0])
    frames.bias = conv.bias
    return frames


def _aggregate(norm: nn.Module, *, own: bool, **options: Any) -> nn.Module:
    return TemporalAggregation(norm, _another(norm) if own else None, **options)


def _another(norm: nn.Module) -> nn.Module:
    if isinstance(norm, nn.LayerNorm):  # of frames channels-last, as ConvNeXt has them
        return nn.LayerNorm(list(norm.normalized_shape), eps=norm.eps)
    assert isinstance(norm, _BatchNorm)
    return nn.BatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
