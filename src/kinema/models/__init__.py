"""Named networks: a backbone, the operator that fills its holes, and a head. One plain function each, collected in `MODELS`."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from kinema.models.tsm import tsm_nano
from kinema.models.tsn import tsn_nano

MODELS: dict[str, Callable[..., nn.Module]] = {builder.__name__: builder for builder in (tsn_nano, tsm_nano)}


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(MODELS)


def create_model(name: str, num_classes: int | Sequence[int] = 400, num_frames: int = 8, **options: Any) -> nn.Module:
    """Build a network by name, with random weights."""
    return MODELS[name](num_classes=num_classes, num_frames=num_frames, **options)
