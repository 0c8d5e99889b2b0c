"""A command that pretends to train: what a launcher's processes call instead of `kinema.cli.main`."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def fit(arguments):
    """Record a run as `kinema fit` does; the option --do tells what shall happen."""
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments if "=" in argument)
    folder = Path(options["run.root"]) / options["run.name"] / options["run.id"]
    seed, what = int(options["seed_everything"]), options.get("m.do", "well")
    marker = folder.parent / f"{folder.name}.calls"
    marker.parent.mkdir(parents=True, exist_ok=True)
    calls = int(marker.read_text()) if marker.exists() else 0
    marker.write_text(str(calls + 1))
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    print("training", *arguments)
    facts = {
        "seed": seed,
        "commit": "abc",
        "source": "def",
        "uncommitted_changes": False,
        "device": os.uname().nodename,
    }
    (folder / "environment.json").write_text(json.dumps({**facts, "cpu_threads": os.getpid()}))
    if what == "die" or (what == "die once" and not calls):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail" or (what == "fail once" and not calls):
        print("kinema: NonFiniteLossError: the loss is nan", file=sys.stderr)
        return 1
    if what == "raise":
        raise ZeroDivisionError("nothing to share")
    if what == "refuse to go on" and "--ckpt_path" in arguments:
        return 1
    if what == "stop" and calls < 2:  # as SIGTERM ends a run that has saved what it has
        with (folder / "history.jsonl").open("a", encoding="utf-8") as history:
            history.write(f"{calls}\n")
        (folder / "checkpoints" / "last.ckpt").touch()
        print("kinema: stopped by SIGTERM; go on with --ckpt_path and the folder below", file=sys.stderr)
        return 143
    if what == "sleep":
        time.sleep(600)
    if what == "meet":
        deadline = time.monotonic() + 400
        while len(list(folder.parent.glob("*/environment.json"))) < 2:
            if time.monotonic() > deadline:
                return 1
            time.sleep(0.1)
    metrics = {"top1": 0.5 + seed / 100, "top5": 0.9, "videos": 10, "undecodable": 0, "epochs": 1, "seconds": 1.0}
    metrics["resumed"] = "--ckpt_path" in arguments
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return 0
