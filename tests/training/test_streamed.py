"""Causal modules train from the command line, come back from a checkpoint, and say as a stream what they say of clips."""

import json
import re
import runpy
import sys

import pytest
import torch

from kinema.training import TSM
from kinema.training.restore import load_classifier
from kinema.training.streamed import STREAMED_BEGIN, STREAMED_END, stream_validation, streamed_origin, streamed_table

from conftest import REPOSITORY

FEW = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--data.batch_size=4", "--data.num_frames=4"]


@pytest.mark.parametrize(
    "options",
    [
        ["--model=kinema.training.TAda2D", "--model.backbone=nano"],
        pytest.param(
            ["--model=kinema.training.TimeSformer", "--model.size=nano", "--model.num_frames=4"], marks=pytest.mark.slow
        ),
    ],
    ids=lambda options: options[0].rpartition(".")[2],
)
def test_a_causal_run_says_of_streams_what_it_says_of_clips(options, cli, monkeypatch):
    run = cli("fit", *options, "--model.causal=true", "--model.optimizer.lr=0.01", *FEW)
    module = load_classifier(run / "checkpoints" / "last.ckpt")
    assert module.hparams["causal"] is True and module.network.init_state(1, 64)
    validation = stream_validation(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert len(validation.clips.labels) == 24 and len(validation.frames) == 4
    right = (validation.clips.scores.argmax(1) == validation.clips.labels).double().mean()
    assert right == pytest.approx(metrics["top1"])
    assert validation.disagreeing == [] and 0 < validation.largest_difference < 1e-4
    torch.testing.assert_close(validation.streamed.scores, validation.clips.scores, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(validation.frames[0].scores, validation.clips.scores)
    assert validation.accuracy_by_frame[-1] == pytest.approx(metrics["top1"])
    table = streamed_table({"it": validation})
    assert f"| it | 24 | {100 * metrics['top1']:.2f} | {100 * metrics['top1']:.2f} | 0 |" in table
    assert "behind frame 4 %" in table and "behind frame 6 %" not in table

    monkeypatch.setattr("kinema.training.streamed.load_classifier", lambda path: TSM("nano", 12).eval())
    with pytest.raises(ValueError, match=r"a two-way shift needs the next frame.*causal=True"):
        stream_validation(run)


def test_a_table_of_streams_says_where_it_comes_from(tmp_path, monkeypatch):
    told = streamed_origin()
    assert re.fullmatch(r"Streamed at commit `\w{10}`( with changes)?; .+, \d+ threads?; torch 2\..+\.", told)
    run, script = tmp_path / "it", str(REPOSITORY / "scripts" / "stream_validation.py")
    (tmp_path / "README.md").write_text(f"{STREAMED_BEGIN}\nold\n{STREAMED_END}\n")
    monkeypatch.setattr("kinema.training.streamed.stream_validation", lambda path, device: _scored_twice())
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path), str(run)])
    with pytest.raises(SystemExit):
        runpy.run_path(script, run_name="__main__")
    text = (tmp_path / "README.md").read_text()
    assert "| it | 4 |" in text and told in text and "old" not in text


def _scored_twice():
    from kinema.evaluation.views import VideoScores
    from kinema.training.streamed import StreamedValidation

    count = torch.ones(4, dtype=torch.long)
    scores = VideoScores(torch.arange(4), torch.eye(4), torch.arange(4), count.bool(), count)
    return StreamedValidation(scores, (scores,), 0.0)


def test_guesses_that_differ_are_found():
    from kinema.evaluation.views import VideoScores
    from kinema.training.streamed import StreamedValidation

    def scored(*guesses):
        scores = torch.eye(3)[list(guesses)]
        scores[3] = torch.nan
        count = torch.ones(4, dtype=torch.long)
        return VideoScores(torch.tensor([5, 6, 7, 8]), scores, 0 * count, torch.tensor([True] * 3 + [False]), count)

    assert StreamedValidation(scored(0, 1, 2, 0), (scored(2, 2, 2, 2), scored(0, 2, 2, 1)), 0.0).disagreeing == [6]
