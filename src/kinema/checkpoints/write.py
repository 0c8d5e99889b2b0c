"""Write a network's weights, in kinema's layout or in that of the code the architecture comes from."""

import re
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from kinema.checkpoints import tadaconv

_OURS = re.compile(r"\.trunk\.|\.operator\.|\.conv\.conv|conv_branch\.a\.conv|conv1\.a\.\d")
"""What stays of kinema's names where the authors have none: wrappers of other operators, stems of several layers."""


def write_weights(model: nn.Module, path: str | Path) -> None:
    """Write kinema's own layout as safetensors.

    Raises:
        ValueError: If the file's name does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name}: kinema's weights are written as safetensors; end the name in .safetensors")
    safetensors.torch.save_file(_tensors(model.state_dict()), path)


def write_official(model: nn.Module, path: str | Path) -> str:
    """Write the layout of the authors' code, which their loader reads and `kinema.load_checkpoint` too.

    Of the TAdaConv family so far: a file of torch.save with the tensors under "model_state".

    Returns:
        What was written, in words.

    Raises:
        ValueError: If the architecture has no official layout, or no tensor of it would be found there.
    """
    tensors = tadaconv.to_theirs(model)
    nameless = [ours for ours, theirs in zip(model.state_dict(), tensors, strict=True) if _OURS.search(theirs)]
    pools = tadaconv.pools_behind_its_stem(model)
    if nameless or pools or not tadaconv.recognises(set(tensors)):
        lacking = f"there is nothing like {nameless[0]} there" if nameless else "it is of another family"
        if pools and not nameless:
            lacking = "ResNets have no max pool there, and stride 2 in the first stage instead"
        raise ValueError(
            f"this network has no counterpart in {tadaconv.ORIGIN}: {lacking}. Networks of full size of the TAdaConv family "
            "have one (tada2d_r50, slowonly_r50, slowfast_r50, r3d_r50, r2plus1d_r50, tadaconvnext*, tadaformer*); write "
            "kinema's layout"
        )
    torch.save({"model_state": tensors, "epoch": 0}, Path(path))
    return tadaconv.describe({name: tuple(tensor.shape) for name, tensor in tensors.items()})


def _tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
