"""Options that leave no trace in tensors: those a run was trained with, compared with those a network was built with."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from kinema.models import create_model, list_options

_FREE = {"dropout", "drop_path", "attention_dropout", "feed_forward_dropout", "checkpointing"}  # of training alone
_UNSAID = object()
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
    theirs = _theirs(built, hparams)
    ours = _computed(built)
    if _computed(theirs) == ours:
        return
    said = {*list_options(built["name"])} & hparams.keys()
    other = [option for option in sorted(said) if _of(theirs, option) != _of(built, option)]
    differ = [option for option in other if _computed(_with(built, option, theirs)) != ours] or other
    wanted = ", ".join(f"{option}={theirs[option]!r}" for option in differ if option in theirs)
    raise ValueError(
        f"the checkpoint was trained with {_words(theirs, differ)}; the model was built with {_words(built, differ)}, which "
        f"computes something else from the same tensors. Build it with kinema.create_model({built['name']!r}, "
        f"{', '.join(['...', wanted] if wanted else ['...'])}), or take the weights alone with kinema.init_from"
    )


def _theirs(built: Mapping[str, Any], hparams: Mapping[str, Any]) -> dict[str, Any]:
    """What the run's network was built with; what the run does not say is ours.

    A module keeps options as None that are those of the network's size, and options that it passed by, such as those of a
    calibration that there is not; a network refuses the latter, and so they are found.
    """
    options = [option for option in list_options(built["name"]) if option in hparams.keys() - _FREE]
    said = {option: _tuple(hparams[option]) for option in options if hparams[option] is not None}
    rest = {option: value for option, value in built.items() if option not in options}
    if _computed({**rest, **said}) is not None:
        return {**rest, **said}
    found, taken = rest, True
    while taken:  # one may be taken because of another
        taken = False
        for option, value in said.items():
            if option not in found and _computed({**found, option: value}) is not None:
                found, taken = {**found, option: value}, True
    return found


def _with(built: Mapping[str, Any], option: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in built.items() if name != option}
    return {**rest, option: theirs[option]} if option in theirs else rest


def _of(options: Mapping[str, Any], option: str) -> Any:
    return _tuple(options[option]) if option in options else _UNSAID


def _words(options: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(
        f"{name}={options[name]!r}" if name in options else f"{name} left at its default" for name in names
    )


def _computed(options: Mapping[str, Any]) -> list[tuple[Any, ...]] | None:
    """What a network computes, but for its values: its modules with their plain attributes. None if there is no such one."""
    try:
        with torch.device("meta"):
            network = create_model(**options)
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
