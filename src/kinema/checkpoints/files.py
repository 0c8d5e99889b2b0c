"""Tensors out of a file, and nothing else: no code that a file may carry is ever run."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

# Under which key training programs keep the weights: ours and the TSM authors', mmaction2's, timm's.
_SHELVES = ("state_dict", "model_state_dict", "model_state", "model")


def read_tensors(source: str | Path | Mapping[str, Any] | nn.Module) -> dict[str, Tensor]:
    """The named tensors of a checkpoint.

    Args:
        source: A safetensors file, a file written by torch.save, or what was in one; a network, or a run folder. What a
            file is, its content says.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, is damaged, would have to run code to be read, or holds no tensors.
    """
    return read_checkpoint(source)[0]


def checkpoint_file(source: str | Path) -> Path:
    """A file of weights as it was named, or the last checkpoint of the run folder that was.

    Raises:
        FileNotFoundError: If there is neither.
    """
    path = Path(source)
    if (path / "checkpoints" / "last.ckpt").is_file():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint file {path}; give the path of a .pth, .ckpt or .safetensors file, or a run folder"
        )
    return path


def read_checkpoint(source: str | Path | Mapping[str, Any] | nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The named tensors of a checkpoint; and, of one of kinema, what its LightningModule was built with, else nothing.

    Args and Raises: as for `read_tensors`.
    """
    if isinstance(source, nn.Module):
        source = source.state_dict()
    if isinstance(source, Mapping):
        return _tensors_in(source, "the mapping given"), _hparams_in(source)
    path = checkpoint_file(source)
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":  # eight bytes of length, then a header in JSON
        return _read_safetensors(path), {}
    if head[:1] == b"\x80" or is_zipfile(path):
        content = _read_pickle(path)
        return _tensors_in(content, str(path)), _hparams_in(content)
    raise ValueError(f"{path} is no checkpoint: it starts with {head!r}, neither safetensors nor a file of torch.save")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file ({error}); download or write it again") from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused: reading it would run code that it names, or it is damaged. Only tensors, numbers, "
            "strings and containers of them are read. If you trust the file, open it where running its code is safe, and "
            f"save its state dict alone with torch.save or as safetensors. What was found: {_first_lines(error)}"
        ) from error
    except (RuntimeError, EOFError) as error:
        if "TorchScript" in str(error):  # as OpenAI's CLIP comes
            raise ValueError(
                f"{path} is a TorchScript archive, a program with weights in it, and programs are not run here. If you "
                "trust the file, save its weights alone: "
                "torch.save(torch.jit.load(path, map_location='cpu').state_dict(), 'weights.pt')"
            ) from error
        raise ValueError(
            f"{path} is damaged or cut short ({_first_lines(error)}); download or write it again"
        ) from error


def _first_lines(error: BaseException) -> str:
    """What PyTorch found, without its advice to switch the protection off."""
    found = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return (found or str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _hparams_in(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping) or "kinema" not in content:
        return {}
    return dict(content.get("hyper_parameters", {}))


def _tensors_in(content: Any, where: str) -> dict[str, Tensor]:
    for shelf in _SHELVES:
        if isinstance(content, Mapping) and isinstance(content.get(shelf), Mapping):
            content = content[shelf]
            break
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds a {type(content).__name__}, not a dict of tensors by name; save a state dict")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{where} holds no tensors; its entries are {list(content)[:8]}")
    return tensors
