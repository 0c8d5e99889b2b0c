"""Feature files and annotations of a made-up set in which a localizer can learn something."""

import json

import torch

from kinema.data.untrimmed.feature_files import FeatureFile
from kinema.data.untrimmed.feature_writing import write

CLASSES = ["jump", "run", "sit"]


def feature_file(video, segments, *, duration=30.0, stride=6, fps=12.0, dim=8, scores=True, seed=0):
    """Noise, but for one channel per class that is high while it happens; scores tell the class likewise."""
    generator = torch.Generator().manual_seed(seed)
    spacing, length = stride / fps, 1.0
    centers = torch.arange(0.5, duration - 0.499, spacing, dtype=torch.float64)
    features = 0.1 * torch.randn(len(centers), dim, generator=generator)
    logits = torch.zeros(len(centers), len(CLASSES))
    for start, end, label in segments:
        inside = (centers >= start) & (centers < end)
        features[inside, label] += 1.0
        logits[inside, label] += 4.0
    return FeatureFile(
        video,
        features,
        centers - length / 2,
        centers,
        centers + length / 2,
        duration,
        fps,
        stride,
        round(length * fps),
        model="made",
        logits=logits if scores else None,
    )


def made_set(folder, *, num_videos=8, scores=True):
    """A folder of feature files and the JSON of their annotations: three quarters to train, the rest to validate."""
    database = {}
    for number in range(num_videos):
        name = f"video{number}"
        begin, label = 3.0 + number % 4, number % len(CLASSES)
        segments = [(begin, begin + 6.0, label), (begin + 12.0, begin + 16.0, (label + 1) % len(CLASSES))]
        write(folder / "features", feature_file(name, segments, scores=scores, seed=number))
        database[name] = {
            "duration": 30.0,
            "subset": "training" if number < 0.75 * num_videos else "validation",
            "annotations": [{"label": CLASSES[k], "segment": [start, end]} for start, end, k in segments],
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    return folder / "features", folder / "annotations.json"
