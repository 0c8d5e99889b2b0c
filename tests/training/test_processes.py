"""Training in two processes: shared-out weights come to the same as whole ones."""

import os
import subprocess
import sys

import pytest
import torch

from conftest import REPOSITORY, TINY

SHARDED = ["--trainer.strategy", "lightning.pytorch.strategies.ModelParallelStrategy"]
ALL = ["--trainer.strategy.data_parallel_size", "2", "--trainer.strategy.tensor_parallel_size", "1"]
WHOLE = ["--trainer.strategy.save_distributed_checkpoint", "false"]


@pytest.fixture
def fit(motion_root, tmp_path):
    """Train in two processes; gives the folder of the run, or what was said where it fails."""

    def call(name, *arguments, status=0):
        command = [
            sys.executable,
            "-m",
            "kinema",
            "fit",
            "--config",
            str(REPOSITORY / "experiments/quickstart/tsm.yaml"),
        ]
        command += ["--data.root", str(motion_root), *TINY, "--run.root", str(tmp_path), "--run.id", name]
        command += ["--run.wandb", "off", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
        command += ["--trainer.enable_progress_bar", "false", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == status, done.stderr
        return tmp_path / "quickstart-tsm" / name if status == 0 else done.stderr

    return call


def state(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_shared_out_weights_come_to_those_of_ddp_and_a_run_goes_on(fit):
    # Frozen norms: with statistics of small batches, rounding alone leads two runs apart.
    options = ["--model.freeze_norm", "all", "--model.optimizer.lr", 0.01]
    ddp = fit("ddp", *options, "--trainer.max_epochs", 2, "--trainer.strategy", "ddp")
    sharded = fit("sharded", *options, "--trainer.max_epochs", 2, *SHARDED, *ALL, *WHOLE)
    one, other = state(ddp)["state_dict"], state(sharded)["state_dict"]
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert type(other[name]) is torch.Tensor and other[name].shape == value.shape, name
        torch.testing.assert_close(
            other[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert (ddp / "val_scores.csv").is_file() and (sharded / "val_scores.csv").is_file()
    further = [*options, "--trainer.max_epochs", 3, "--ckpt_path", sharded]
    resumed = fit("resumed", *further, *SHARDED, *ALL, *WHOLE)
    whole = fit("whole", *options, "--trainer.max_epochs", 3, "--ckpt_path", sharded, "--trainer.strategy", "ddp")
    for name, value in state(whole)["state_dict"].items():
        torch.testing.assert_close(state(resumed)["state_dict"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_settings_under_which_processes_would_train_apart_are_refused(fit):
    told = fit("apart", "--trainer.max_epochs", 1, *SHARDED, *WHOLE, status=1)
    assert "shares out weights among 1 of 2 processes; add --trainer.strategy.data_parallel_size 2" in told
    told = fit("parts", "--trainer.max_epochs", 1, *SHARDED, *ALL, status=1)
    assert "kinema's checkpoints are whole; add --trainer.strategy.save_distributed_checkpoint false" in told
