"""Classification metrics against numbers of another code base (tests/parity/metrics.json)."""

import json
from pathlib import Path

import pytest
import torch

from kinema.evaluation.confusion import confusion
from kinema.evaluation.metrics import video_metrics
from kinema.evaluation.views import VideoScores

REFERENCE = json.loads((Path(__file__).parents[1] / "parity" / "classification_metrics.json").read_text())


def test_accuracies_and_confusion():
    scores, labels = torch.tensor(REFERENCE["scores"], dtype=torch.float64), torch.tensor(REFERENCE["labels"])
    count = len(labels)
    videos = VideoScores(torch.arange(count), scores, labels, torch.ones(count, dtype=torch.bool), torch.ones(count))
    metrics = video_metrics(videos)
    top1, _, top5 = REFERENCE["top_k_accuracy_1_2_5"]
    assert metrics["top1"] == pytest.approx(top1, abs=1e-8)
    assert metrics["top5"] == pytest.approx(top5, abs=1e-8)
    assert metrics["mean_class"] == pytest.approx(REFERENCE["mean_class_accuracy"], abs=1e-7)
    assert confusion(videos).tolist() == REFERENCE["confusion_matrix"]
