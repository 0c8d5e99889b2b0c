"""A trained run to look at: one of your own, or one trained now."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from kinema.data.home import data_home
from kinema.training.record import find_run

_FINISHED = "finished"


def trained_run(variable: str, config: str | Path, options: Sequence[str] = (), *, root: Path | None = None) -> Path:
    """The run folder that an environment variable names; else that of a configuration, which is trained unless it was.

    A run is trained once for each content of the configuration and the options. Changes of the source are not seen:
    remove the folder to train again.

    Args:
        variable: Such as KINEMA_RUN_TSM; it names a run, or a folder of runs, of which the newest is taken.
        config: A configuration of `kinema fit`.
        options: More options of `kinema fit`, such as "--trainer.max_epochs=1".
        root: Folder of the runs; `notebook_runs` beside the data that kinema makes when None. What a run says goes to a
            file beside its folder.

    Raises:
        FileNotFoundError: If the variable names no run.
        RuntimeError: If training failed, with the last of what it said.
    """
    if os.environ.get(variable):
        return find_run(os.environ[variable]).path
    from kinema.cli import main

    config = Path(config)
    told = "\n".join([config.read_text(encoding="utf-8"), *options])
    root = data_home() / "notebook_runs" if root is None else root
    name, number = f"{config.parent.name}-{config.stem}", hashlib.sha256(told.encode()).hexdigest()[:8]
    folder = root / name / number
    if (folder / _FINISHED).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{number}.log")
    where = [f"--run.root={root}", f"--run.name={name}", f"--run.id={number}", "--run.wandb=off"]
    arguments = ["fit", "--config", str(config), "--trainer.enable_progress_bar=false", *options, *where]
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        status = main(arguments)
    if status:
        last = " | ".join(log.read_text(encoding="utf-8").splitlines()[-3:])
        raise RuntimeError(f"kinema fit --config {config} ended with status {status}: {last}")
    (folder / _FINISHED).touch()
    return folder
