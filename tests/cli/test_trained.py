"""A run to look at: named, or trained once; and the data of a run."""

from pathlib import Path

import pytest

from kinema.cli import trained
from kinema.cli.trained import trained_run
from kinema.training.restore import Predictor, data_of_run

from conftest import REPOSITORY, TINY


@pytest.fixture
def calls(monkeypatch):
    """Pretend to train; what was asked for is kept."""
    asked = []

    def fit(arguments):
        asked.append(arguments)
        options = dict(argument[2:].split("=", 1) for argument in arguments if "=" in argument)
        folder = Path(options["run.root"]) / options["run.name"] / options["run.id"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").touch()
        print("it was said")
        return fit.status

    fit.status = 0
    monkeypatch.setattr("kinema.cli.main", fit)
    asked.append(fit)
    return asked


@pytest.fixture
def config(tmp_path):
    (tmp_path / "quickstart").mkdir()
    path = tmp_path / "quickstart" / "tsm.yaml"
    path.write_text("a: 1\n")
    return path


def test_a_named_run_is_taken_and_nothing_is_trained(tmp_path, monkeypatch, calls, config):
    for name in ("old", "new"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "config.yaml").touch()
    monkeypatch.setenv("KINEMA_RUN_TSM", str(tmp_path / "mine" / "old"))
    assert trained_run("KINEMA_RUN_TSM", config) == tmp_path / "mine" / "old"
    monkeypatch.setenv("KINEMA_RUN_TSM", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="is no run"):
        trained_run("KINEMA_RUN_TSM", config)
    assert len(calls) == 1


def test_without_a_name_it_is_trained_once_for_each_content(tmp_path, monkeypatch, calls, config, capsys):
    monkeypatch.delenv("KINEMA_RUN_TSM", raising=False)
    monkeypatch.setenv("KINEMA_DATA", str(tmp_path / "data"))
    first = trained_run("KINEMA_RUN_TSM", config, ["--trainer.max_epochs=1"])
    assert first.parent == tmp_path / "data" / "notebook_runs" / "quickstart-tsm"
    assert trained_run("KINEMA_RUN_TSM", config, ["--trainer.max_epochs=1"]) == first
    assert len(calls) == 2 and "--trainer.max_epochs=1" in calls[1] and calls[1][:3] == ["fit", "--config", str(config)]
    assert "it was said" not in capsys.readouterr().out, "paths of this machine have no place in a notebook"
    assert "it was said" in first.with_name(f"{first.name}.log").read_text()
    assert trained_run("KINEMA_RUN_TSM", config, ["--trainer.max_epochs=2"]) != first
    config.write_text("a: 2\n")
    assert trained_run("KINEMA_RUN_TSM", config, ["--trainer.max_epochs=1"]) != first
    assert len(calls) == 4


def test_a_run_that_failed_is_told_and_tried_again(tmp_path, monkeypatch, calls, config):
    monkeypatch.delenv("KINEMA_RUN_TSM", raising=False)
    calls[0].status = 1
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ended with status 1: it was said"):
            trained_run("KINEMA_RUN_TSM", config, root=tmp_path)
    assert len(calls) == 3


def test_the_data_of_a_run(cli, motion_root, monkeypatch, tmp_path):
    run = cli("fit", "--trainer.max_epochs", 1, "--data.size", 32, "--data.resize", 36)
    data = data_of_run(run)
    assert len(data.manifests["val"]) == 24 and len(data.class_names) == 12
    clips = data.val_dataloader().dataset[3]["clip"]
    assert clips.shape == (1, 3, 8, 32, 32)
    views = Predictor.from_run(run).clips(data.root / data.manifests["val"].records[3].path)
    assert (views[0].pixels == clips[0]).all()
    monkeypatch.setenv("KINEMA_DATA", str(tmp_path / "data"))
    same = trained_run("NOT_SET", REPOSITORY / "experiments/quickstart/tsm.yaml", _tiny(motion_root))
    assert (same / "val_scores.csv").is_file() and (same / trained._FINISHED).is_file()


def _tiny(motion_root):
    options = [f"{name}={value}" for name, value in zip(TINY[::2], TINY[1::2], strict=True)]
    return [*options, f"--data.root={motion_root}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
