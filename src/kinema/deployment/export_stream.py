"""Export of causal networks frame by frame: the state is an input and an output of the graph.

    logits, next = step(frame, state)

The graph keeps nothing between calls, so one file serves any number of streams at a time, side by side in the batch or one
after the other. A stream begins with zeros for every state. The mean of the logits over its first T frames is what the
network gives for them as a clip.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinema.deployment.export import (
    Exported,
    Prepared,
    as_list,
    classifier_facts,
    count_norms,
    drawn,
    evaluated,
    output_names,
)
from kinema.deployment.exported import Format
from kinema.deployment.folding import fold_batch_norms
from kinema.deployment.writing import TOLERANCE, Case, ExportError, check_target, graph_of
from kinema.models.streaming import TRAIN_CAUSAL, Streaming
from kinema.training.restore import Predictor

STATE, NEXT = "state.", "next."
"""What the names of states begin with, as inputs and as outputs."""
_STREAMS = ((2, 4), (1, 2), (3, 2))
"""Streams side by side, and frames of each that are compared."""


class Step(nn.Module):
    """One step of a network as a function of tensors.

    Args:
        network: A causal network.
        names: Of its states, in the order in which they are given and returned.

    Shape:
        A frame (B, C, H, W) and the states, to the logits of each classifier and the next states.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        network: Any = self.network
        logits, after = network.step(frame, dict(zip(self.names, states, strict=True)))
        return (*as_list(logits), *(after[name] for name in self.names))


def export_stream(predictor: Predictor, path: str | Path, format: Format, *, opset: int | None = None) -> Exported:
    """Export a causal classifier to be run frame by frame, with what a program must know to use it.

    Args:
        predictor: The classifier; the frames of a stream are of the size of its clips.
        path, format, opset: As for `kinema.deployment.export.export_network`.

    Raises:
        ExportError: If the network sees frames to come; or as for `export_network`.
        ModuleNotFoundError: If packages for the format are not installed.
    """
    facts = classifier_facts(predictor)
    facts["input"] = "frame: float32 (B, C, H, W), RGB unless bgr, (pixel / 255 - mean) / std; and every state.NAME"
    facts["output"] = "raw logits of the frame, whose mean over frames is the clip's; and every next.NAME"
    facts["frames"] = "one frame of the stream after the other, as far apart as those of a clip in training"
    facts["averaging"] = "the softmax of the mean of the logits since the start are the scores of what was seen so far"
    network = predictor.module.network
    if isinstance(network, Streaming):
        try:
            network.init_state(1, facts["size"])
        except ValueError as error:
            raise ExportError(
                f"{predictor.checkpoint or predictor.module.model_name}: {error}; {TRAIN_CAUSAL}"
            ) from error
    shape = (1, len(facts["mean"]), facts["size"], facts["size"])
    return export_steps(
        network, path, format, frame_shape=shape, facts=facts, outputs=output_names(predictor.module), opset=opset
    )


def export_steps(
    network: nn.Module,
    path: str | Path,
    format: Format,
    *,
    frame_shape: tuple[int, int, int, int],
    facts: dict[str, Any] | None = None,
    outputs: list[str] | None = None,
    opset: int | None = None,
    fold: bool = True,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write the step of a causal network as a file, load it again, and compare logits and next states of several steps.

    The file says in its facts, as `states`, the name and shape of every state, without the axis of the batch.

    Args:
        network: Left as it is; exported as in evaluation.
        path, format, opset, fold, tolerance: As for `kinema.deployment.export.export_network`.
        frame_shape: (B, C, H, W); B does not matter.
        facts: What the file shall say of itself besides.
        outputs: Names of the logits.

    Raises:
        ExportError: As for `export_stream`.
        ModuleNotFoundError: If packages for the format are not installed.
    """
    check_target(Path(path), format, opset)
    prepared = prepare_steps(network, frame_shape, fold=fold)
    shapes = {name.removeprefix(STATE): list(given.shape[1:]) for name, given in _states(prepared)}
    return prepared.write(
        path,
        format,
        facts={**(facts or {}), "states": shapes},
        outputs=[*(outputs or ["logits"]), *(NEXT + name for name in shapes)],
        opset=opset,
        tolerance=tolerance,
    )


def prepare_steps(network: nn.Module, frame_shape: tuple[int, int, int, int], *, fold: bool = True) -> Prepared:
    """Fold and trace the step of a network; arguments and errors are those of `export_steps`."""
    eager: Any = evaluated(network)
    if not hasattr(eager, "init_state"):
        raise ExportError(f"a {type(network).__name__} has no form that runs frame by frame; leave --stream out")
    try:
        first = {count: eager.init_state(count, frame_shape[2:]) for count, _ in _STREAMS}
    except ValueError as error:
        raise ExportError(f"this network cannot run frame by frame: {error}") from error
    if any(bool(state.any()) for states in first.values() for state in states.values()):
        raise ExportError(
            "the first state of this network is not zero, which a program that runs the file would take it for"
        )
    names = tuple(first[_STREAMS[0][0]])
    cases = [
        case for count, frames in _STREAMS for case in _cases(eager, names, first[count], frames, count, frame_shape)
    ]
    ready, folded = Step(eager, names), 0
    if fold:
        folding = fold_batch_norms(ready, *cases[0].inputs)
        ready, folded = folding.network, len(folding.norms)
    batch = torch.export.Dim("batch", min=1)
    shapes = {"frame": {0: batch}} | ({"states": tuple({0: batch} for _ in names)} if names else {})
    graph = graph_of(ready, cases[0].inputs, shapes)
    return Prepared(graph, cases, ["frame", *(STATE + name for name in names)], folded, count_norms(ready))


def _states(prepared: Prepared) -> list[tuple[str, Tensor]]:
    return list(zip(prepared.inputs, prepared.cases[0].inputs, strict=True))[1:]


def _cases(
    network: Any,
    names: tuple[str, ...],
    state: dict[str, Tensor],
    num_frames: int,
    streams: int,
    frame_shape: tuple[int, ...],
) -> list[Case]:
    """The steps of a stream, each with the state that the network itself had come to."""
    frames = drawn((num_frames, streams, *frame_shape[1:]))
    cases = []
    with torch.no_grad():
        for frame in frames:
            inputs = [frame, *(state[name] for name in names)]
            logits, state = network.step(frame, state)
            cases.append(Case(inputs, [*as_list(logits), *(state[name] for name in names)]))
    return cases
