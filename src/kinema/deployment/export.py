"""Export of networks to ONNX and to torch.export, verified: what is written has been loaded again and compared.

The graph takes normalised clips (B, C, T, H, W), any number B at a time, and gives raw logits. Frames and their size are
those of the export. Batch norms are folded into convolutions first (`kinema.deployment.folding`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.deployment.exported import Format
from kinema.deployment.folding import fold_batch_norms
from kinema.deployment.instructions import average_in_words, frames_in_words, pixels_in_words
from kinema.deployment.writing import (
    DEFAULT_OPSET,
    TOLERANCE,
    Case,
    check_target,
    graph_of,
    size_on_disk,
    write_verified,
)
from kinema.training.classifier import VideoClassifier
from kinema.training.record import source_state
from kinema.training.restore import Predictor

_BATCHES = (2, 1, 3)


@dataclass(frozen=True)
class Exported:
    """A file that was written and verified.

    Args:
        path: The file.
        format: What it is.
        max_difference: Largest difference of any logit from the network's own, over all clips compared.
        folded: Batch norms folded into convolutions.
        norms_left: Batch norms that are still there.
        num_bytes: Size of the file, and of the file of weights beside it where there is one.
        opset: Version of ONNX's operators; None for torch.
        inputs, outputs: Names and shapes without the axis of the batch, in their order; all of float32.
    """

    path: Path
    format: Format
    max_difference: float
    folded: int
    norms_left: int
    num_bytes: int
    opset: int | None = None
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def export_classifier(predictor: Predictor, path: str | Path, format: Format, *, opset: int | None = None) -> Exported:
    """Export a trained classifier, with what a program must know to use it; see `export_network`.

    Args:
        predictor: The classifier and how its clips are cut.
        path, format, opset: As for `export_network`.
    """
    module, facts = predictor.module, classifier_facts(predictor)
    channels = len(facts["mean"])
    shape = (1, channels, facts["num_frames"], facts["size"], facts["size"])
    return export_network(
        module.network, path, format, clip_shape=shape, facts=facts, outputs=output_names(module), opset=opset
    )


def output_names(module: VideoClassifier) -> list[str]:
    """Of the logits: one name, or one a classifier."""
    if isinstance(module.num_classes, int):
        return ["logits"]
    several = list(module.tasks) or [str(number) for number in range(len(module.num_classes or ()))]
    return [f"logits_{task}" for task in several]


def classifier_facts(predictor: Predictor) -> dict[str, Any]:
    """What a program must know to feed a classifier and to read its logits."""
    from kinema import __version__

    module, clips = predictor.module, predictor.clips
    normalisation = module.normalise.normalisation
    return {
        "producer": f"kinema {__version__}",
        "model": module.model_name,
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in module.options.items()},
        "class_names": list(module.class_names) if module.class_names and not module.tasks else [],
        "tasks": {task: list(names) for task, names in module.tasks.items()},
        "num_frames": clips.scheme.num_frames,
        "size": clips.transform.size,
        "resize": clips.transform.resize or clips.transform.size,
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
        "bgr": normalisation.bgr,
        "scheme": repr(clips.scheme),
        "average": module.average,
        "frames": frames_in_words(clips),
        "pixels": pixels_in_words(clips),
        "averaging": average_in_words(module.average),
        "input": "clip: float32 (B, C, T, H, W), RGB unless bgr, (pixel / 255 - mean) / std",
        "output": "raw logits (B, K); scores are their softmax",
        "checkpoint": predictor.checkpoint.name if predictor.checkpoint else "",
        "commit": source_state()[0],
    }


def export_network(
    network: nn.Module,
    path: str | Path,
    format: Format,
    *,
    clip_shape: Sequence[int],
    facts: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("logits",),
    opset: int | None = None,
    fold: bool = True,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a network as a file that needs no code of kinema, load it again, and compare the two.

    Compared are clips drawn from N(0, 1), in batches of 2, 1 and 3, in float32 on the CPU: logits of the file against those
    of the network as it is, unfolded and run eagerly.

    Args:
        network: Left as it is; exported as in evaluation.
        path: File to write, ending in .onnx or .pt2. It appears when it has been verified.
        format: "onnx" or "torch".
        clip_shape: (B, C, T, H, W); B does not matter.
        facts: What the file shall say of itself, plain values.
        outputs: Names of the outputs.
        opset: Version of ONNX's operators, in `kinema.deployment.writing.OPSETS`; `DEFAULT_OPSET` when None.
        fold: Whether to fold batch norms.
        tolerance: Largest difference of a logit that is accepted.

    Raises:
        ExportError: If the suffix is of another format, the opset is not supported, the network cannot be translated, or the
            file does not give what the network gives.
        ModuleNotFoundError: If packages for the format are not installed.
    """
    check_target(Path(path), format, opset)
    return prepare(network, clip_shape, fold=fold).write(
        path, format, facts=facts, outputs=outputs, opset=opset, tolerance=tolerance
    )


@dataclass(frozen=True)
class Prepared:
    """A graph that can be written in every format.

    Args:
        graph: The network, folded.
        cases: What it must give.
        inputs: Names of its inputs.
        folded: Batch norms folded into convolutions.
        norms_left: Batch norms that are still there.
    """

    graph: torch.export.ExportedProgram
    cases: Sequence[Case]
    inputs: Sequence[str]
    folded: int
    norms_left: int

    def write(
        self,
        path: str | Path,
        format: Format,
        *,
        facts: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = ("logits",),
        opset: int | None = None,
        tolerance: float = TOLERANCE,
    ) -> Exported:
        """Write and verify; arguments and errors are those of `export_network`."""
        path = Path(path)
        check_target(path, format, opset)
        difference = write_verified(
            self.graph,
            path,
            format,
            inputs=self.inputs,
            outputs=outputs,
            facts=facts or {},
            cases=self.cases,
            opset=opset,
            tolerance=tolerance,
        )
        reached = (opset or DEFAULT_OPSET) if format == "onnx" else None
        return Exported(
            path,
            format,
            difference,
            self.folded,
            self.norms_left,
            size_on_disk(path),
            reached,
            _shapes(self.inputs, self.cases[0].inputs),
            _shapes(outputs, self.cases[0].wanted),
        )


def _shapes(names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape[1:]) for name, tensor in zip(names, tensors, strict=True)}


def prepare(network: nn.Module, clip_shape: Sequence[int], *, fold: bool = True) -> Prepared:
    """Fold and trace a network; arguments and errors are those of `export_network`."""
    eager = evaluated(network)
    clips = [drawn((count, *clip_shape[1:])) for count in _BATCHES]
    with torch.no_grad():
        cases = [Case([clip], as_list(eager(clip))) for clip in clips]
    ready, folded = eager, 0
    if fold:
        folding = fold_batch_norms(eager, clips[0])
        ready, folded = folding.network, len(folding.norms)
    graph = graph_of(ready, (clips[0],), ({0: torch.export.Dim("batch", min=1)},))
    return Prepared(graph, cases, ["clip"], folded, count_norms(ready))


def count_norms(network: nn.Module) -> int:
    """Batch norms of a network."""
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


def evaluated(network: nn.Module) -> nn.Module:
    """A copy as it is exported: in evaluation, in float32, on the CPU."""
    return copy.deepcopy(network).float().cpu().eval()


def drawn(shape: Sequence[int]) -> Tensor:
    """What is compared on, the same every time."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))


def as_list(logits: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """One entry a classifier."""
    return list(logits) if isinstance(logits, tuple) else [logits]
