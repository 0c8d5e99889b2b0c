"""Boundary-matching networks of TAdaConv's authors (alibaba-mmai-research/TAdaConv, `head.x_1d_s` and so on).

Their state dict also holds the dense sampling matrix `head.sample_mask` of T x (N * D * T) numbers, 512 MB for T = 200 and
D = 100. It follows from the sizes, so it is compared with what the network has and dropped.
"""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from kinema.checkpoints.report import LoadReport
from kinema.localization.network import BoundaryMatchingNetwork

ORIGIN = "TAdaConv's authors' code"
SAMPLING_MATRIX = "head.sample_mask"

_RULES = (
    (r"^base\.", "backbone.conv_layer."),
    (r"^start\.", "head.x_1d_s."),
    (r"^end\.", "head.x_1d_e."),
    (r"^proposal\.", "head.x_1d_p."),
    (r"^collapse\.", "head.x_3d_p.0."),
    (r"^confidence\.", "head.x_2d_p."),
    (r"^offsets\.", "head.x_2d_r."),
    (r"^classes\.0\.", "head.x_2d_verb."),
    (r"^classes\.1\.", "head.x_2d_noun."),
)


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of the authors' boundary-matching network."""
    return "head.x_3d_p.0.weight" in names


def to_theirs(name: str) -> str:
    """The authors' name of a tensor of ours."""
    for ours, theirs in _RULES:
        if re.match(ours, name):
            return re.sub(ours, theirs, name)
    return name


def load(model: BoundaryMatchingNetwork, tensors: Mapping[str, Tensor], *, strict: bool) -> LoadReport:
    """Load weights of kinema's or of the authors' layout.

    Args:
        model: The network.
        tensors: The checkpoint.
        strict: Whether every tensor must find its place; else what does not fit keeps its initial value.

    Raises:
        ValueError: If something does not fit and `strict`, or nothing does; or if the sampling matrix is another one than
            the network's, so that it was trained to see proposals in another way.
    """
    theirs = recognises(tensors.keys())
    report = LoadReport(source=f"{ORIGIN if theirs else 'kinema'}: boundary-matching network")
    left = dict(tensors)
    matrix = left.pop(SAMPLING_MATRIX, None)
    if matrix is not None:
        _compare_sampling(model, matrix)
        report.notes.append(
            f"{SAMPLING_MATRIX} {tuple(matrix.shape)} is dropped: it follows from the sizes, and is the network's own"
        )
    values = {}
    for name, initial in model.state_dict().items():
        source = to_theirs(name) if theirs else name
        value = left.pop(source, None)
        if value is None:
            report.initial[name] = "not in the checkpoint"
        elif value.shape != initial.shape:
            report.initial[name] = f"shape {tuple(initial.shape)}; {source} has {tuple(value.shape)}"
            report.refused[source] = f"shape {tuple(value.shape)}; {name} has {tuple(initial.shape)}"
        else:
            values[name] = value
            report.loaded.append(name)
            if source != name:
                report.renamed[name] = source
    report.refused |= dict.fromkeys(left, "no such tensor in the model")
    if not values or (strict and (report.initial or report.refused)):
        raise ValueError(
            f"the checkpoint does not hold this boundary-matching network. Without a value: {_some(report.initial)}. Without "
            f"a place: {_some(report.refused)}. Build it with the sizes it was trained with, or take what fits with "
            "kinema.init_from"
        )
    model.load_state_dict(model.state_dict() | values)
    return report


def _compare_sampling(model: BoundaryMatchingNetwork, matrix: Tensor) -> None:
    matching = model.matching
    shape = (matching.num_bins, matching.num_samples * matching.max_bins * matching.num_bins)
    advice = "build the network with the num_bins, max_bins, num_samples, num_points and context it was trained with"
    if tuple(matrix.shape) != shape:
        raise ValueError(f"{SAMPLING_MATRIX} has shape {tuple(matrix.shape)}, the network's would be {shape}; {advice}")
    ours, theirs = (_sums(weights) for weights in (matching.collapsed.weights, matrix))
    if not torch.allclose(ours, theirs, rtol=1e-3):
        raise ValueError(
            f"{SAMPLING_MATRIX} samples proposals in another way: its sum is {theirs[0]:.6g}, the network's {ours[0]:.6g}; "
            f"{advice}"
        )


def _sums(weights: Tensor) -> Tensor:
    return torch.stack([weights.double().sum(), weights.double().square().sum()]).cpu()


def _some(found: Mapping[str, str]) -> str:
    shown = [f"{name} ({why})" for name, why in list(found.items())[:3]]
    return ", ".join([*shown, *(["..."] if len(found) > 3 else [])]) or "none"
