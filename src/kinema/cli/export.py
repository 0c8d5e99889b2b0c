"""`kinema export --run RUN --format onnx | torch --output FILE`: a file that runs without kinema, verified."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.classifier import add_classifier, load_predictor
from kinema.cli.messages import say

if TYPE_CHECKING:
    from kinema.deployment.export import Exported


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema export", description=__doc__)
    add_classifier(parser)
    parser.add_argument("--format", choices=("onnx", "torch"), required=True, help="onnx, or torch for torch.export")
    parser.add_argument("--output", type=Path, required=True, help="file to write, ending in .onnx or .pt2")
    parser.add_argument("--opset", type=int, help="version of ONNX's operators, 18 to 23; 18 when not given")
    parser.add_argument("--stream", action="store_true", help="one frame at a time, its state an input and an output")
    options = parser.parse_args(arguments[1:])

    from kinema.deployment.export import export_classifier
    from kinema.deployment.export_stream import export_stream
    from kinema.deployment.writing import check_target

    try:
        check_target(options.output, options.format, options.opset)
        predictor = load_predictor(options)
        for note in predictor.notes:
            say(note)
        export = export_stream if options.stream else export_classifier
        written = export(predictor, options.output, options.format, opset=options.opset)
    except (ValueError, TypeError, OSError, ImportError) as error:
        say(error)
        return 1
    opset = f", opset {written.opset}" if written.opset else ""
    what = "streams" if options.stream else "clips"
    print(f"{written.path}: {written.num_bytes / 2**20:.1f} MiB{opset}, any number of {what} at a time")
    print(f"batch norms: {written.folded} folded into convolutions, {written.norms_left} left")
    print(f"largest difference of a logit from the network: {written.max_difference:.1e}")
    _tell_use(written)
    return 0


def _tell_use(written: "Exported") -> None:
    """What a program gives and gets, and where it finds the rest."""
    from kinema.deployment.export_stream import STATE
    from kinema.deployment.exported import FACTS_FILE

    for what, tensors in (("input", written.inputs), ("output", written.outputs)):
        for name, shape in tensors.items():
            print(f"{what} {name}: float32 {' x '.join(('B', *map(str, shape)))}")
    if any(name.startswith(STATE) for name in written.inputs):
        print("states begin as zeros; give each next.NAME as state.NAME with the following frame")
    where = "its metadata properties" if written.format == "onnx" else f"its extra file {FACTS_FILE}"
    print(
        f"{where} say which frames, how pixels are cut and normalised, and the names of the classes: see the keys frames,"
    )
    print("pixels, mean, std, bgr, averaging and class_names, and experiments/deployment for a program of ten lines")
