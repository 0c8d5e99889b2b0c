"""What many tests share: one tiny motion set, and calls of the command line within this process."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from kinema.cli import main
from kinema.data.motion import prepare_motion

# For all tests of one process: some watch the memory of the process.
os.environ["KINEMA_KEEP_FREED_MEMORY"] = "0"

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def motion_root(tmp_path_factory):
    """Where the motion set of the tests is made."""
    return tmp_path_factory.mktemp("motion")


@pytest.fixture(scope="session")
def motion(motion_root):
    """The tiny motion set, with 36 training and 24 validation videos; its files are not to be changed."""
    return prepare_motion(motion_root, num_train=36, num_val=24, progress=False)


TINY = ["--data.num_train", "36", "--data.num_val", "24", "--data.num_workers", "0", "--data.batch_size", "4"]


@pytest.fixture
def cli(motion_root, tmp_path, capsys):
    """Call a kinema command; fit, validate and test run on the tiny set and give the run folder."""

    def call(command, *arguments, config="quickstart/tsm.yaml", status=0):
        options = [command]
        if config:
            options += ["--config", str(REPOSITORY / "experiments" / config), "--run.root", str(tmp_path / "runs")]
            options += ["--run.wandb", "off", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
            options += ["--data.root", str(motion_root), *TINY]
        before = signal.getsignal(signal.SIGTERM)
        code = main([*options, *map(str, arguments)])
        signal.signal(signal.SIGTERM, before)
        call.output = capsys.readouterr()
        assert code == status, call.output.err
        return Path(call.output.out.splitlines()[-1]) if call.output.out else None

    return call


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())
