"""Networks in files that need no code of kinema: what reads them, and what they say of themselves.

An ONNX file is run by onnxruntime, a `.pt2` file of torch.export by PyTorch. Both carry the facts that a program needs to
feed the network and to read its answer (`class_names`, `mean`, `std`, `num_frames`, `size`, ...): an ONNX file as metadata
properties, lists and numbers among them written as JSON; a `.pt2` file as its extra file `kinema.json`.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
FACTS_FILE = "kinema.json"
_TEXTS = (
    "producer",
    "model",
    "commit",
    "checkpoint",
    "input",
    "output",
    "scheme",
    "average",
    "frames",
    "pixels",
    "averaging",
)


def need_packages(*names: str, extra: str) -> None:
    """Refuse what an extra of kinema is needed for where it is not installed.

    Raises:
        ModuleNotFoundError: Saying what to install.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"this needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            f"python -m pip install 'kinema[{extra}]'"
        )


def facts_as_text(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as an ONNX file holds them: texts as they are, all else as JSON."""
    return {name: value if name in _TEXTS else json.dumps(value) for name, value in facts.items()}


def facts_from_text(texts: Mapping[str, str]) -> dict[str, Any]:
    """Undo `facts_as_text`."""
    return {name: text if name in _TEXTS else json.loads(text) for name, text in texts.items()}


class OnnxNetwork:
    """An ONNX file as a function of clips, run by onnxruntime on the CPU.

    Args:
        path: The file.
        num_threads: Threads within an operation; those of PyTorch when None.

    Raises:
        ModuleNotFoundError: If onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, *, num_threads: int | None = None) -> None:
        need_packages("onnxruntime", extra="export")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; below it tells of every initialiser that folding left over
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_names: list[str] = [each.name for each in self.session.get_inputs()]
        self.output_names: list[str] = [each.name for each in self.session.get_outputs()]

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says of itself."""
        return facts_from_text(self.session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, from all inputs in their order."""
        feed = {name: value.detach().cpu().numpy() for name, value in zip(self.input_names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in self.session.run(self.output_names, feed)]

    def __call__(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        outputs = self.run([clip])
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class TorchNetwork:
    """A `.pt2` file as a function of clips, run by PyTorch.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self._facts = {FACTS_FILE: ""}
        self.program = torch.export.load(path, extra_files=self._facts)
        self.module = self.program.module()

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says of itself."""
        return json.loads(self._facts[FACTS_FILE])

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, from all inputs in their order."""
        with torch.no_grad():
            outputs = self.module(*inputs)
        return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]

    def __call__(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        outputs = self.run([clip])
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


ExportedNetwork = OnnxNetwork | TorchNetwork


def open_exported(path: str | Path, *, num_threads: int | None = None) -> ExportedNetwork:
    """Load a file that `kinema export` wrote, by its suffix.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its suffix is of no format.
        ModuleNotFoundError: If the package that runs it is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give one that 'kinema export' wrote")
    if path.suffix == SUFFIXES["onnx"]:
        return OnnxNetwork(path, num_threads=num_threads)
    if path.suffix == SUFFIXES["torch"]:
        return TorchNetwork(path)
    raise ValueError(
        f"{path.name} ends in none of {', '.join(SUFFIXES.values())}; give a file that 'kinema export' wrote"
    )
