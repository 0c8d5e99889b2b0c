"""One graph into one file, which is loaded again and compared before it appears under its name."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinema.deployment.exported import FACTS_FILE, SUFFIXES, Format, facts_as_text, need_packages, open_exported

OPSETS = range(18, 24)
"""PyTorch translates to ONNX's operators of version 18, from which a converter goes on to later ones; earlier ones have no
form for some of what networks here do."""
DEFAULT_OPSET = 18
TOLERANCE = 1e-4
_ONE_FILE = 3 * 2**29
"""Bytes of weights up to which an ONNX file holds them: its format ends at 2 GiB, beyond they lie beside it."""


class ExportError(ValueError):
    """A network that cannot be exported as wished; no file is left of it."""


@dataclass(frozen=True)
class Case:
    """Inputs of a graph, and what it must give."""

    inputs: Sequence[Tensor]
    wanted: Sequence[Tensor]


def check_target(path: Path, format: Format, opset: int | None) -> None:
    """Refuse what cannot be written, before anything is computed for it.

    Raises:
        ExportError: If the file's suffix is of another format, or the opset is none that is supported.
        ModuleNotFoundError: If packages for the format are not installed.
    """
    if format not in SUFFIXES:
        raise ExportError(f"format={format!r} is unknown; give one of {', '.join(SUFFIXES)}")
    if path.suffix != SUFFIXES[format]:
        raise ExportError(
            f"{path.name} does not say that it is of the format {format}; end its name in {SUFFIXES[format]}"
        )
    if opset is not None and format != "onnx":
        raise ExportError(f"opset={opset} was given, and the format {format} has none; leave it out")
    if opset is not None and opset not in OPSETS:
        raise ExportError(
            f"opset={opset} is not supported: networks are translated to the operators of ONNX from version {OPSETS[0]} on, "
            f"and tested up to {OPSETS[-1]}; give a number between them, or leave it out for {DEFAULT_OPSET}"
        )
    if format == "onnx":
        need_packages("onnx", "onnxscript", "onnxruntime", extra="export")
    if not path.absolute().parent.is_dir():
        raise ExportError(f"there is no folder {path.absolute().parent} for {path.name}; make it first")


def graph_of(module: nn.Module, inputs: Sequence[Tensor], dynamic_shapes: Any) -> torch.export.ExportedProgram:
    """The program of a module, by torch.export.

    Raises:
        ExportError: If torch.export does not take it.
    """
    try:
        with _quiet():
            return torch.export.export(module, tuple(inputs), dynamic_shapes=dynamic_shapes)
    except Exception as error:  # what it raises is torch's own affair and changes with every release
        raise ExportError(f"torch.export does not take this {type(module).__name__}: {_first_line(error)}") from error


def write_verified(
    graph: torch.export.ExportedProgram,
    path: Path,
    format: Format,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    facts: Mapping[str, Any],
    cases: Sequence[Case],
    opset: int | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Write a graph, load the file again, and compare what it gives; then move it to its place.

    Args:
        graph: Of `graph_of`.
        path, format, opset: As `check_target` has let them pass.
        inputs, outputs: Their names.
        facts: What the file says of itself.
        cases: What to compare.
        tolerance: Largest difference of a number that is accepted.

    Returns:
        The largest difference found.

    Raises:
        ExportError: If the graph cannot be translated, or the file gives something else.
    """
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as folder:
        unfinished = Path(folder) / path.name
        if format == "onnx":
            _write_onnx(graph, unfinished, inputs, outputs, facts, opset or DEFAULT_OPSET)
        else:
            with _quiet():
                torch.export.save(graph, unfinished, extra_files={FACTS_FILE: json.dumps(dict(facts))})
        with _quiet():
            difference = _largest_difference(unfinished, cases)
        if not difference <= tolerance:  # also if it is no number
            raise ExportError(
                f"the exported file differs from the network by {difference:.2g}, allowed is {tolerance:.2g}; nothing was "
                "written. Please report it with the name of the network and its options"
            )
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == unfinished):  # weights first
            file.replace(path.with_name(file.name))
    return difference


def size_on_disk(path: Path) -> int:
    """Bytes of a file, and of the weights beside it where there are too many for one file."""
    beside = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _write_onnx(
    graph: torch.export.ExportedProgram,
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    facts: Mapping[str, Any],
    opset: int,
) -> None:
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                input_names=inputs,
                output_names=outputs,
                opset_version=opset,
                dynamic_shapes=({0: "batch"}, *(None for _ in inputs[1:])),  # but a name, for the axis that all share
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                verbose=False,
            )
    except Exception as error:  # as above
        raise ExportError(f"the graph cannot be translated to ONNX: {_first_line(error)}") from error
    assert program is not None
    reached = program.model.opset_imports[""]
    if reached != opset:
        raise ExportError(
            f"opset={opset} is not supported for this network: some operator could not be converted from version {reached}; "
            f"give opset={reached}, or leave it out"
        )
    program.model.metadata_props.update(facts_as_text(facts))
    weights = sum(tensor.nbytes for tensor in graph.state_dict.values())
    program.save(path, external_data=weights > _ONE_FILE)


def _stable_sort(x: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """A sort that keeps equal values in their order, which PyTorch has no translation of: ONNX's TopK of all values does."""
    from onnxscript import opset18

    # Stubs of onnxscript know no type of a shape.
    count = opset18.Gather(opset18.Shape(x), opset18.Constant(value_ints=[dim]))  # pyrefly: ignore[bad-specialization]
    return opset18.TopK(x, count, axis=dim, largest=int(descending), sorted=1)


def _largest_difference(path: Path, cases: Sequence[Case]) -> float:
    network = open_exported(path)
    largest = 0.0
    for case in cases:
        given = network.run(case.inputs)
        if [part.shape for part in given] != [part.shape for part in case.wanted]:
            raise ExportError(
                f"the exported file gives {[tuple(part.shape) for part in given]} where the network gives "
                f"{[tuple(part.shape) for part in case.wanted]}; nothing was written"
            )
        for ours, theirs in zip(case.wanted, given, strict=True):
            if not ours.numel():
                continue  # such as the cache of a network that remembers no frame
            difference = float((ours - theirs).abs().max())
            largest = max(largest, difference) if difference == difference else difference
            if largest != largest:
                return largest
    return largest


def _first_line(error: BaseException) -> str:
    """What happened first."""
    while error.__cause__ is not None:  # exporters wrap what happened in advice
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'it does not say why'}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell of every step; what went wrong they raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
