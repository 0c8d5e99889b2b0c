"""Classifiers whose classes are in another order than the labels of a data set.

The class of a row is what its author's list says. Scores of a network that numbers classes in one way, compared to labels
that number them in another, are right about once in as many times as there are classes.
"""

from collections.abc import Sequence
from importlib.resources import files

import torch
from torch import Tensor, nn


def kinetics400_of_uniformer() -> list[str]:
    """The 400 names of Kinetics-400 in the order of the published UniFormer classifiers (Sense-X/UniFormer, Apache-2.0)."""
    return (files("kinema.checkpoints") / "kinetics400_of_uniformer.txt").read_text(encoding="utf-8").splitlines()


def sort_classes(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Put the classes of a network into the order of their names, in place.

    Args:
        model: Network of `kinema.create_model`, with one classifier.
        names: Name of each class, in the order that its classifier has now.

    Returns:
        The names in the order that it has then.

    Raises:
        ValueError: If there is not one name for each class.
    """
    wanted = sorted(names)
    reorder_classes(model, names, wanted)
    return wanted


def reorder_classes(model: nn.Module, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Put the classes of a network into another order, in place: rows of its classifiers change places.

    Args:
        model: Network of `kinema.create_model`, with one classifier.
        names: Name of each class, in the order that its classifier has now.
        wanted: The same names, in the order that it shall have.

    Raises:
        ValueError: If the two do not hold the same names once each, or not one for each class.
    """
    if len(set(names)) != len(names) or sorted(names) != sorted(wanted):
        differ = sorted(set(names) ^ set(wanted))[:4]
        raise ValueError(
            f"{len(names)} names in one order and {len(wanted)} in the other are not the same names once each (only in one: "
            f"{differ}); give the same list, spelt alike, in two orders"
        )
    heads = [getattr(model, head).fc for head in ("head", "head_cls") if hasattr(model, head)]
    for fc in heads:
        if not isinstance(fc, nn.Linear) or fc.out_features != len(names):
            sizes = fc.out_features if isinstance(fc, nn.Linear) else [part.out_features for part in fc]
            raise ValueError(
                f"{len(names)} names were given for {sizes} classes; give one for each class of one classifier"
            )
    place = {name: row for row, name in enumerate(names)}
    rows = torch.tensor([place[name] for name in wanted])
    with torch.no_grad():
        for fc in heads:
            for parameter in fc.parameters():
                parameter.copy_(_rows(parameter, rows))


def _rows(parameter: Tensor, rows: Tensor) -> Tensor:
    return parameter[rows.to(parameter.device)]
