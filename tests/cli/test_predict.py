"""`kinema predict` on one's own files, and the small commands."""

import csv
import shutil

import pytest
import torch

import kinema.training
from kinema.cli import COMMANDS, main
from kinema.training.restore import Predictor, load_classifier


@pytest.fixture
def run(cli):
    return cli("fit", "--trainer.max_epochs", 1)


def test_predictions_are_those_of_the_validation(run, cli, motion_root, tmp_path):
    predict = Predictor.from_run(run)
    rows = list(csv.DictReader((run / "val_scores.csv").read_text().splitlines()))
    (folder,) = motion_root.iterdir()
    for row in rows[:3]:
        scores = predict(folder / row["video"])
        wanted = torch.tensor([float(row[name]) for name in predict.class_names], dtype=torch.float64)
        torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=1e-5)
    # A checkpoint says by itself how clips are cut and what classes are called.
    alone = Predictor.from_checkpoint(shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt"))
    assert alone.class_names == predict.class_names and alone.clips.facts() == predict.clips.facts()
    torch.testing.assert_close(alone(folder / rows[0]["video"]), predict(folder / rows[0]["video"]))


def test_top_five_are_printed_and_a_bad_file_does_not_stop_the_rest(run, cli, motion_root, tmp_path):
    good = sorted(motion_root.glob("*/videos/**/*.mp4"))[:2]
    (tmp_path / "bad.mp4").write_text("not a video")
    cli("predict", good[0], tmp_path / "bad.mp4", good[1], "--run", run, config=None, status=1)
    assert all(path.name in cli.output.out.replace("\n", "") for path in good)
    assert cli.output.out.count("%") == 10
    assert "bad.mp4" in cli.output.err and "1 of 3 videos" in cli.output.err


def test_a_folder_that_is_no_run(cli, tmp_path):
    cli("predict", tmp_path, "--run", tmp_path, config=None, status=1)
    assert "is no run" in cli.output.err


def test_a_checkpoint_of_another_code_base_and_one_that_names_code(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint written by kinema"):
        load_classifier(tmp_path / "other.ckpt")
    facts = {"kinema": {"module": "os", "class_names": None}, "hyper_parameters": {}, "state_dict": {}}
    torch.save(facts, tmp_path / "code.ckpt")
    with pytest.raises(ValueError, match="no checkpoint written by kinema"):
        load_classifier(tmp_path / "code.ckpt")


def test_models_lists_every_network(cli, capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "tsm_r50" in out and "24.33 M" in out
    assert main(["models", "slowfast_r50"]) == 0
    out = capsys.readouterr().out
    assert main(["models", "tsm_r5"]) == 0 and main(["models", "nonsense"]) == 1
    assert "no network is named 'nonsense'" in capsys.readouterr().err
    assert "alpha" in out and "SlowFast 4x16" in out and "Default 32." in out and "tsm_r50" not in out


def test_overview_and_unknown_commands(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert main(["fti"]) == 2
    assert "'fti' is no command" in capsys.readouterr().err


def test_every_command_explains_itself():
    for name in COMMANDS:
        if name not in ("fit", "validate", "test"):
            with pytest.raises(SystemExit) as end:
                main([name, "--help"])
            assert end.value.code == 0


@pytest.mark.parametrize("name", ["fit", "validate", "test"])
def test_help_of_training_fits_on_a_screen_and_tells_where_the_rest_is(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 50
    modules = [kind for kind in kinema.training.__all__ if kind not in ("NonFiniteLossError", "Optimizer", "Schedule")]
    assert all(kind in out for kind in modules if kind != "VideoClassifier")
    assert "VideoDataModule" in out and "MotionData" in out and "--help-all" in out
    with pytest.raises(SystemExit) as end:
        main([name, "--help-all"])
    assert end.value.code == 0
    assert "--trainer.precision" in capsys.readouterr().out
