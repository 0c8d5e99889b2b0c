"""From which values a backbone starts: those of its authors, for image weights, or some that suit training from nothing."""

from typing import Literal, get_args

WeightInit = Literal["authors", "scratch"]
WEIGHT_INITS: tuple[WeightInit, ...] = get_args(WeightInit)


def check_weight_init(weight_init: str) -> None:
    """Refuse what is none.

    Raises:
        ValueError: If it is unknown.
    """
    if weight_init not in WEIGHT_INITS:
        raise ValueError(f"weight_init={weight_init!r} is unknown; give one of {', '.join(WEIGHT_INITS)}")
