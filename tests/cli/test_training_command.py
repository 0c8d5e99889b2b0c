"""`kinema fit | validate | test` as a user calls them, on a tiny set."""

import csv
import json

import pytest
import torch
import yaml
from conftest import metrics_of

FIT = ("--trainer.max_epochs", 1)


def test_fit_leaves_everything_to_run_again_and_validate_agrees(cli, monkeypatch):
    run = cli("fit", *FIT)
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml",
        "environment.json",
        "history.jsonl",
        "metrics.json",
        "val_scores.csv",
        "val_confusion.png",
        "checkpoints",
    }
    metrics = metrics_of(run)
    assert 0 <= metrics["top1"] <= metrics["top5"] <= 1
    assert metrics["videos"] == 24 and metrics["undecodable"] == 0 and metrics["seconds"] > 0
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert any("val/top1" in line for line in history)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["packages"]["torch"] == torch.__version__.split("+")[0]
    rows = list(csv.DictReader((run / "val_scores.csv").read_text().splitlines()))
    assert len(rows) == 24
    assert sum(int(row["right"]) for row in rows) / 24 == metrics["top1"]

    monkeypatch.delenv("KINEMA_RUN_ID")
    checked = cli("validate", "--config", run / "config.yaml", "--ckpt_path", run, config="quickstart/tsm.yaml")
    assert checked != run
    assert {name: metrics_of(checked)[name] for name in ("top1", "top5")} == {
        name: metrics[name] for name in ("top1", "top5")
    }
    assert (checked / "val_scores.csv").read_text() == (run / "val_scores.csv").read_text()
