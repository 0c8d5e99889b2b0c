"""The folder of a run: everything needed to understand it and to run it again."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "pytorchvideo", "timm", "av", "numpy", "wandb")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `runs/<name>/<id>/`."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str, run_id: str | None = None) -> "RunFolder":
        """Make the folder of a new run.

        The processes that Lightning starts for a distributed run learn its id from the environment; where another
        launcher starts them (torchrun, SLURM), give them the same id.
        """
        inherited = os.environ.get("KINEMA_RUN_ID") if "LOCAL_RANK" in os.environ else None
        run_id = run_id or inherited or datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        os.environ["KINEMA_RUN_ID"] = run_id
        folder = cls(Path(root) / name / run_id)
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
        return folder

    def remove_if_unused(self) -> None:
        """Take the folder of a run that could not be built away again; what has a file in it stays."""
        for folder in (self.checkpoints, self.path, self.path.parent):
            try:
                folder.rmdir()
            except OSError:
                return

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    def scores(self, part: str) -> Path:
        return self.path / f"{part}_scores.csv"

    def confusion(self, part: str) -> Path:
        return self.path / f"{part}_confusion.png"

    def write_metrics(self, values: dict[str, Any]) -> None:
        """Write `metrics.json` in one step, so that a reader never sees half of it."""
        write_atomically(self.metrics, json.dumps(values, indent=2) + "\n")

    def write_environment(self, **facts: Any) -> None:
        """Write versions, machine, command and source state to `environment.json`, and uncommitted changes beside it."""
        commit, diff = source_state()
        environment = {
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu_threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name(),
            "packages": {name: _version(name) for name in ("kinema", *_PACKAGES, "torchcodec")},
            "commit": commit,
            "source": source_tree(),
            "uncommitted_changes": bool(diff),
            **facts,
        }
        write_atomically(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")
        if diff:
            write_atomically(self.path / "changes.diff", diff)


def find_run(path: str | Path) -> RunFolder:
    """The run in a folder, or the newest run below it.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(path).expanduser()
    if (path / "config.yaml").is_file():
        return RunFolder(path)
    runs = sorted(path.glob("*/config.yaml"), key=lambda config: config.stat().st_mtime)
    if not runs:
        raise FileNotFoundError(
            f"{path} is no run: it holds no config.yaml, nor does a folder in it. "
            "Give the folder that 'kinema fit' printed last"
        )
    return RunFolder(runs[-1].parent)


def checkpoint_of(path: str | Path, which: str = "last") -> Path:
    """The checkpoint `last` or `best` of a run folder.

    Raises:
        FileNotFoundError: If the run has not written it.
    """
    folder = Path(path).expanduser()
    if not (folder / "config.yaml").is_file():  # a folder of runs, some of which may have only evaluated, or failed
        held = sorted(folder.glob(f"*/checkpoints/{which}.ckpt"), key=lambda file: file.stat().st_mtime)
        if held:
            return held[-1]
    run = find_run(path)
    checkpoint = run.checkpoints / f"{which}.ckpt"
    if not checkpoint.is_file():
        held = sorted(file.name for file in run.checkpoints.glob("*.ckpt"))
        raise FileNotFoundError(f"the run {run.path} has no checkpoint '{which}'; it holds {held or 'none'}")
    return checkpoint


def source_state() -> tuple[str, str]:
    """Commit of the checkout that kinema was imported from, and uncommitted changes of its source; ("", "") outside a checkout.

    Of the source alone: a sweep writes tables and pictures into the same checkout, and what runs were told is in their
    `config.yaml`.
    """
    source = Path(__file__).resolve().parents[1]
    commit = _git(source, "rev-parse", "HEAD").strip()
    if not commit:
        return "", ""
    new = _git(source, "ls-files", "--others", "--exclude-standard", "--", ".").splitlines()
    return commit, _git(source, "diff", "HEAD", "--", ".") + "".join(f"new file, not shown: {name}\n" for name in new)


def source_tree() -> str:
    """Git's hash of kinema's source at the commit, without changes; "" outside a checkout."""
    source = Path(__file__).resolve().parents[1]
    inside = _git(source, "rev-parse", "--show-prefix").strip()
    return _git(source, "rev-parse", f"HEAD:{inside.rstrip('/')}").strip() if inside else ""


def processor_name(facts: Path = Path("/proc/cpuinfo")) -> str:
    """The processor as the system names it, with family and model: virtual machines call very different ones 'AMD EPYC'.

    Args:
        facts: Where Linux tells them.
    """
    if facts.is_file():
        lines = [line.partition(":") for line in facts.read_text(encoding="utf-8").splitlines()]
        told = {name.strip(): value.strip() for name, _, value in reversed(lines)}  # of the first processor
        if name := told.get("model name"):
            kind = [f"{fact.removeprefix('cpu ')} {told[fact]}" for fact in ("cpu family", "model") if told.get(fact)]
            return f"{name} ({', '.join(kind)})" if kind else name
    return platform.processor() or platform.machine()


def write_atomically(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
