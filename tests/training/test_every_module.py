"""Every LightningModule trains two steps, goes on from its checkpoint and evaluates, through the command line."""

import json

import pytest
import torch

import kinema.training
from kinema.cli.training import TrainingCLI
from kinema.training import VideoClassifier

MODULES = {
    "TSN": {"backbone": "nano"},
    "TSM": {"backbone": "nano"},
    "TAda2D": {"backbone": "nano"},
    "R3D": {"backbone": "nano", "tada": "3d"},
    "R2Plus1D": {"backbone": "nano", "tada": "2d+1d"},
    "SlowOnly": {"backbone": "nano", "tada": "2d"},
    "SlowFast": {"backbone": "nano", "tada": "2d"},
    "TAdaConvNeXt": {"size": "nano"},
    "TimeSformer": {"size": "nano", "attention_scheme": "axial", "checkpointing": "true"},
    "TimeSformerRotary": {"size": "nano", "token_shift": "true", "attention_dropout": "0.1"},
    "TAdaFormer": {"size": "nano", "double": "true", "enhanced": "true"},
    "UniFormer": {"size": "nano", "light": "true", "class_head": "true", "checkpointing": "[1,0,1,0]"},
}


def test_none_is_forgotten():
    exported = {
        name
        for name in kinema.training.__all__
        if isinstance(kind := getattr(kinema.training, name), type) and issubclass(kind, VideoClassifier)
    }
    assert exported - {"VideoClassifier"} == set(MODULES)


class Parsed(TrainingCLI):
    """Builds everything but the trainer, so nothing is written."""

    def instantiate_trainer(self, **kwargs):
        return None


@pytest.mark.parametrize("name", MODULES)
def test_several_numbers_of_classes_come_from_command_line_and_file(name, tmp_path):
    options = [f"--model.{option}={value}" for option, value in MODULES[name].items()]
    command = ["fit", f"--model=kinema.training.{name}", *options, "--data=MotionData", "--data.root=nowhere"]
    model = Parsed([*command, "--model.num_classes=[97, 300]"]).model
    assert model.num_classes == (97, 300)
    clip = torch.zeros(1, 3, 8, 64, 64)
    model.eval()
    with torch.no_grad():
        assert [tuple(logits.shape) for logits in model(clip)] == [(1, 97), (1, 300)]
    (tmp_path / "classes.yaml").write_text("model:\n  init_args:\n    num_classes: [4, 5]\n")
    assert Parsed([*command, "--config", str(tmp_path / "classes.yaml")]).model.num_classes == (4, 5)
    assert Parsed([*command, "--model.num_classes=7"]).model.num_classes == 7


@pytest.mark.parametrize("name", MODULES)
def test_it_trains_resumes_and_evaluates(name, cli):
    options = [f"--model=kinema.training.{name}"]
    options += [f"--model.{option}={value}" for option, value in MODULES[name].items()]
    options += ["--model.optimizer.lr=0.001", "--trainer.limit_val_batches=2", "--data.batch_size=2"]
    options += ["--trainer.limit_train_batches=2"]
    first = cli("fit", *options, "--trainer.max_epochs=1")
    ended = torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)
    assert ended["global_step"] == 2
    second = cli("fit", *options, "--trainer.max_epochs=2", "--ckpt_path", first)
    after = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    assert after["global_step"] == 4
    assert any(not torch.equal(value, after["state_dict"][key]) for key, value in ended["state_dict"].items())
    third = cli("validate", *options, "--ckpt_path", second)
    assert 0 <= json.loads((third / "metrics.json").read_text())["top1"] <= 1
