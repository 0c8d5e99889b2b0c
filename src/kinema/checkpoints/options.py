"""Options that leave no trace in tensors: those a run was trained with, compared with those a network was built with."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from kinema.models import create_model, list_options

_FREE = {"dropout", "drop_path"}  # of training alone
_PLAIN = (bool, int, float, str, type(None))


def refuse_other_options(model: nn.Module, hparams: Mapping[str, Any]) -> None:
    """Refuse the weights of a run whose options make something else of the same tensors.

    Compared are networks built with the options of the one and of the other: without values, so it takes no memory.

    Args:
        model: Network of `kinema.create_model`, which keeps its options; any other network passes.
        hparams: What the LightningModule of the run was built with.

    Raises:
        ValueError: If an option differs, and with it what is computed.
    """
    built = cast("Mapping[str, Any] | None", getattr(model, "built_with", None))
    if built is None:
        return
    name = built["name"]
    theirs = {option: _tuple(hparams[option]) for option in list_options(name) if option in hparams.keys() - _FREE}
    theirs = {
        option: value for option, value in theirs.items() if option not in built or _tuple(built[option]) != value
    }
    ours = _computed(built)
    if not theirs or _computed(built, **theirs) == ours:
        return
    differ = {
        option: value for option, value in theirs.items() if _computed(built, **{option: value}) != ours
    } or theirs
    wanted = ", ".join(f"{option}={value!r}" for option, value in differ.items())
    given = ", ".join(
        f"{option}={built[option]!r}" if option in built else f"{option} left at its default" for option in differ
    )
    raise ValueError(
        f"the checkpoint was trained with {wanted}; the model was built with {given}, which computes something else from the "
        f"same tensors. Build it with kinema.create_model({name!r}, ..., {wanted}), or take the weights alone with "
        "kinema.init_from"
    )


def _computed(built: Mapping[str, Any], **changes: Any) -> list[tuple[Any, ...]] | None:
    """What a network computes, but for its values: its modules with their plain attributes. None if there is no such one."""
    try:
        with torch.device("meta"):
            network = create_model(**{**built, **changes})
    except (ValueError, TypeError):
        return None
    return [
        (path, type(module).__name__, *sorted((key, value) for key, value in vars(module).items() if _is_plain(value)))
        for path, module in network.named_modules()
    ]


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _tuple(value: Any) -> Any:
    """Lists as tuples, for a configuration knows lists alone."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
