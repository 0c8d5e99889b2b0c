"""Weights and clips that anybody can make again from a name and a shape, as the reference numbers were made."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def reference(name):
    """One file of reference numbers, its layout written out as a dict from name to shape."""
    entry = json.loads((HERE / f"{name}.json").read_text())
    shapes = dict(entry["others"])
    for norm, channels in entry["norms"].items():
        shapes |= {f"{norm}.{leaf}": [channels] for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = []
    return entry | {"shapes": shapes}


def filled(shapes, scale):
    """A state dict: every tensor drawn from its own name.

    Args:
        shapes: Name to shape.
        scale: End of a name, or "@conv" for all with four axes or more, to a factor. Some networks need one, or their
            numbers would die out or explode.
    """
    return {name: torch.from_numpy(_fill(name, tuple(shape), scale)) for name, shape in shapes.items()}


def _fill(name, shape, scale):
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    inner = list(shape)
    while inner and inner[0] == 1:
        inner = inner[1:]
    leaf = name.rsplit(".", 1)[-1]
    if name.endswith("running_var"):
        values = 1 + 0.1 * np.abs(values)
    elif name.endswith("running_mean"):
        values = 0.1 * values
    elif len(inner) >= 2:
        values = values * np.sqrt(1 / np.prod(inner[1:]))
    elif leaf == "weight" or "gamma" in leaf:
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    for end, factor in scale.items():
        if name.endswith(end) or (end == "@conv" and len(shape) >= 4):
            values = values * factor
    return values


def clip_of(input_shape):
    """The rule's clip as (1, C, T, H, W).

    The TSM authors stack frames along channels, (1, T * 3, H, W); mmaction2 has (1, T, 3, H, W), TAdaConv's authors
    (1, 3, T, H, W), of which SlowFast takes two, the slow and the fast: one of the fast is enough.
    """
    if isinstance(input_shape[0], list):
        input_shape = input_shape[1]
    values = torch.from_numpy(np.random.RandomState(0).standard_normal(input_shape))
    if values.ndim == 5 and values.shape[1] == 3:
        return values
    return values.reshape(1, -1, 3, *input_shape[-2:]).transpose(1, 2).contiguous()
