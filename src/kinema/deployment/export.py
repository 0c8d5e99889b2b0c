"""Export of networks to ONNX and to torch.export, verified: what is written has been loaded again and compared.

The graph takes normalised clips (B, C, T, H, W), any number B at a time, and gives raw logits. Frames and their size are
those of the export. Batch norms are folded into convolutions first (`kinema.deployment.folding`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.deployment.exported import Format
from kinema.deployment.folding import fold_batch_norms
from kinema.deployment.writing import (
    DEFAULT_OPSET,
    TOLERANCE,
    Case,
    check_target,
    graph_of,
    size_on_disk,
    write_verified,
)
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
    """

    path: Path
    format: Format
    max_difference: float
    folded: int
    norms_left: int
    num_bytes: int
    opset: int | None = None


def export_classifier(predictor: Predictor, path: str | Path, format: Format, *, opset: int | None = None) -> Exported:
    """Export a trained classifier, with what a program must know to use it; see `export_network`.

    Args:
        predictor: The classifier and how its clips are cut.
        path, format, opset: As for `export_network`.
    """
    module = predictor.module
    several = list(module.tasks) or [str(number) for number in range(len(_sizes(module.num_classes)))]
    outputs = ["logits"] if isinstance(module.num_classes, int) else [f"logits_{task}" for task in several]
    facts = classifier_facts(predictor)
    channels = len(facts["mean"])
    shape = (1, channels, facts["num_frames"], facts["size"], facts["size"])
    return export_network(module.network, path, format, clip_shape=shape, facts=facts, outputs=outputs, opset=opset)


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
    path = Path(path)
    check_target(path, format, opset)
    eager = copy.deepcopy(network).float().cpu().eval()
    clips = [_clip((count, *clip_shape[1:])) for count in _BATCHES]
    with torch.no_grad():
        cases = [Case([clip], _as_list(eager(clip))) for clip in clips]
    folding = fold_batch_norms(eager, clips[0]) if fold else None
    ready = eager if folding is None else folding.network
    graph = graph_of(ready, (clips[0],), ({0: torch.export.Dim("batch", min=1)},))
    difference = write_verified(
        graph,
        path,
        format,
        inputs=["clip"],
        outputs=outputs,
        facts=facts or {},
        cases=cases,
        opset=opset,
        tolerance=tolerance,
    )
    return Exported(
        path,
        format,
        difference,
        0 if folding is None else len(folding.norms),
        sum(isinstance(module, _BatchNorm) for module in ready.modules()),
        size_on_disk(path),
        (opset or DEFAULT_OPSET) if format == "onnx" else None,
    )


def _clip(shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))


def _as_list(logits: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return list(logits) if isinstance(logits, tuple) else [logits]


def _sizes(num_classes: int | Sequence[int] | None) -> Sequence[int]:
    return num_classes if isinstance(num_classes, Sequence) else ()
