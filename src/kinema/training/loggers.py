"""Where the numbers of a run go: a file of JSON lines always, wandb beside it."""

import json
import netrc
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

WandbMode = Literal["auto", "online", "offline", "off"]


class JsonLinesLogger(Logger):
    """Append one JSON object per logging step to a file; a resumed run goes on in the same file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> str:
        return self._path.parent.name

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        return self._path

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration lies beside the file, in `config.yaml`."""


def wandb_logger(
    folder: Path,
    *,
    mode: WandbMode,
    project: str,
    name: str,
    group: str | None,
    config: dict[str, Any],
    job_type: str | None = None,
) -> Logger | None:
    """A wandb logger of a run, or None when it is off.

    `auto` follows the environment variable WANDB_MODE where it is set; otherwise it is online when wandb has a key on
    this machine and offline when not, so that nobody is asked anything.
    """
    if mode == "off" or (mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"):
        return None
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    if mode == "auto":
        mode = "online" if os.environ.get("WANDB_MODE", "online") == "online" and _has_wandb_key() else "offline"
    logger = WandbLogger(
        name=name,
        save_dir=folder,
        project=project,
        group=group,
        job_type=job_type,
        offline=mode == "offline",
        id=f"{name}-{folder.name}".replace("/", "-"),
        # Offline there is nothing to tell: the run folder is printed anyway.
        settings=wandb.Settings(silent=mode == "offline"),
    )
    logger._wandb_init.pop("anonymous", None)  # which wandb warns of whatever its value
    if rank_zero_only.rank == 0:  # pyrefly: ignore[missing-attribute]
        logger.experiment.config.update(config)
    return logger


def _has_wandb_key() -> bool:
    """Whether wandb could log in without asking: a key in the environment, or in the netrc file it writes one to."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
