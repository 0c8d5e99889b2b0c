"""The examples for clusters: what they would start, with the launcher replaced by one that tells."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from kinema.cli.training import TrainingCLI

from conftest import REPOSITORY

SCRIPTS = sorted((REPOSITORY / "scripts").glob("*_example.sh"))


@pytest.fixture
def launched(tmp_path):
    """Run a script with `srun` and `torchrun` that write their arguments down, and give these."""

    def launch(script, status=0, *, more=(), **environment):
        told = tmp_path / "told"
        scontrol = tmp_path / "scontrol"
        scontrol.write_text(f'#!/bin/bash\necho "$@" > "{tmp_path}/requeued"\n')
        scontrol.chmod(0o755)
        for name in ("srun", "torchrun"):
            fake = tmp_path / name
            fake.write_text(f'#!/bin/bash\nprintf "%s\\0" "{name}" "$@" > "{told}"\nexit {status}\n')
            fake.chmod(0o755)
        given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DATA": "my videos", "SLURM_JOB_ID": "17"} | environment
        done = subprocess.run(
            ["bash", str(script), *more], cwd=tmp_path, env=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return told.read_text().split("\0")[:-1]

    return launch


class ParsedCLI(TrainingCLI):
    """Parse, and build nothing."""

    def instantiate_classes(self):
        pass


def options_of(arguments):
    arguments = arguments[arguments.index("fit") :]
    arguments[arguments.index("--config") + 1] = str(REPOSITORY / "experiments/own_videos.yaml")
    return ParsedCLI(arguments).config["fit"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_options_are_handed_on(launched, script):
    given = ("--init_from", "some weights", "--data.batch_size", "8")
    arguments = launched(script, more=given)
    assert tuple(arguments[-4:]) == given
    options = options_of(arguments)
    assert (options["init_from"], options["data"]["init_args"]["batch_size"]) == ("some weights", 8)


def test_both_examples_are_found():
    assert [script.name for script in SCRIPTS] == ["slurm_example.sh", "torchrun_example.sh"]
    assert all(os.access(script, os.X_OK) for script in SCRIPTS)


def test_slurm_and_lightning_count_the_same_processes(launched):
    script = REPOSITORY / "scripts/slurm_example.sh"
    wanted = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", script.read_text(), re.MULTILINE))
    arguments = launched(script)
    assert arguments[:3] == ["srun", "kinema", "fit"]
    options = options_of(arguments)
    assert str(options.trainer.num_nodes) == wanted["nodes"]
    assert str(options.trainer.devices) == wanted["ntasks-per-node"] == wanted["gpus-per-node"]
    assert options.trainer.strategy == "ddp" and options.data.init_args.root == "my videos"
    assert options.run.id == "slurm-17" and options.ckpt_path is None
    assert wanted["signal"].startswith("TERM@")  # what kinema saves a checkpoint on


def test_a_job_that_is_started_again_goes_on(launched, tmp_path):
    last = tmp_path / "runs" / "slurm" / "slurm-17" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    arguments = launched(REPOSITORY / "scripts/slurm_example.sh")
    path = arguments[arguments.index("--ckpt_path") + 1]
    assert (tmp_path / Path(path)) == last


@pytest.mark.parametrize(("status", "again"), [(143, True), (1, False), (0, False)])
def test_a_job_whose_time_is_up_is_started_again_and_a_failed_one_is_not(launched, tmp_path, status, again):
    launched(REPOSITORY / "scripts/slurm_example.sh", status)
    requeued = tmp_path / "requeued"
    assert requeued.exists() == again and (not again or requeued.read_text() == "requeue 17\n")


def test_torchrun_starts_as_many_processes_as_lightning_expects(launched):
    arguments = launched(REPOSITORY / "scripts/torchrun_example.sh", NODES="2", GPUS="4", HEAD="first:29500", ID="mine")
    assert arguments[0] == "torchrun" and arguments[arguments.index("--module") + 1 :][:2] == ["kinema", "fit"]
    launcher = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    assert (launcher["--nnodes"], launcher["--nproc-per-node"], launcher["--rdzv-endpoint"]) == (
        "2",
        "4",
        "first:29500",
    )
    options = options_of(arguments)
    assert (options.trainer.num_nodes, str(options.trainer.devices), options.run.id) == (2, "4", "mine")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_without_data_says_so(script):
    given = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", str(script)], env=given, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "the folder of the videos" in done.stderr
