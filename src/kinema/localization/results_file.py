"""Detections of many videos in one file, in the form of ActivityNet's evaluator."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kinema.data.untrimmed.segments import Annotations
from kinema.localization.inference import Detection


def write_detections(path: Path, found: Mapping[str, Sequence[Detection]], annotations: Annotations) -> None:
    """Write `{"results": {video: [{"label", "score", "segment"}]}}`, times in seconds, each video's best first.

    With several tasks each detection also has the id of its class in each of them ("verb", "noun").
    """
    results = {video: [_row(detection, annotations) for detection in each] for video, each in found.items()}
    content = {"version": "kinema", "results": results, "external_data": {}}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _row(detection: Detection, annotations: Annotations) -> dict[str, object]:
    label = detection.label
    row: dict[str, object] = {"segment": [detection.start, detection.end], "score": detection.score}
    if label is None:
        return row
    row["label"] = annotations.name_of(label)
    if isinstance(label, tuple):
        row |= dict(zip(annotations.tasks, label, strict=True))
    return row
