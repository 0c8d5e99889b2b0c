"""kinema: efficient temporal modelling of video.

`import kinema` alone imports nothing heavy: each public name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kinema.checkpoints import init_from, load_checkpoint
    from kinema.evaluation.cost import profile
    from kinema.models import create_model, describe_options, list_models, list_options
    from kinema.models.temporalize import temporalize

_HOME_OF = {
    "create_model": "kinema.models",
    "describe_options": "kinema.models",
    "list_models": "kinema.models",
    "list_options": "kinema.models",
    "load_checkpoint": "kinema.checkpoints",
    "init_from": "kinema.checkpoints",
    "profile": "kinema.evaluation.cost",
    "temporalize": "kinema.models.temporalize",
}

__all__ = [
    "__version__",
    "create_model",
    "describe_options",
    "init_from",
    "list_models",
    "list_options",
    "load_checkpoint",
    "profile",
    "temporalize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'kinema' has no attribute '{name}'; it offers {sorted(_HOME_OF)}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
