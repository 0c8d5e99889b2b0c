"""Detections of many videos in one file, in the form of ActivityNet's evaluator."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from kinema.data.untrimmed.segments import Annotations, Label
from kinema.localization.inference import Detection


def write_detections(path: Path, found: Mapping[str, Sequence[Detection]], annotations: Annotations) -> None:
    """Write `{"results": {video: [{"label", "score", "segment"}]}}`, times in seconds, each video's best first.

    With several tasks each detection also has the id of its class in each of them ("verb", "noun").
    """
    results = {video: [_row(detection, annotations) for detection in each] for video, each in found.items()}
    content = {"version": "kinema", "results": results, "external_data": {}}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_detections(path: str | Path, annotations: Annotations) -> dict[str, list[Detection]]:
    """Read what `write_detections` writes, such as `val_detections.json` of a run, or what another program wrote in this form.

    Args:
        path: The JSON file.
        annotations: Say which id each label has. With several tasks the ids are read, not the label.

    Returns:
        The detections of each video, in the order of the file; their times in seconds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another form, a segment is reversed, or a label is no class of the annotations.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no detections {path}; give a JSON file such as val_detections.json of a run"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no whole JSON file ({error}); write it anew") from error
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not all(isinstance(rows, list) for rows in results.values()):
        raise ValueError(f"{path}: a mapping 'results' from videos to lists of detections was expected")
    ids = {name: number for number, name in enumerate(annotations.classes)}
    return {
        video: [_detection(row, annotations, ids, f"{path}, video {video}") for row in rows]
        for video, rows in results.items()
    }


def _detection(row: Any, annotations: Annotations, ids: Mapping[str, int], where: str) -> Detection:
    try:
        start, end = map(float, row["segment"])
        score = float(row["score"])
    except (KeyError, TypeError, ValueError):
        start = end = score = math.nan
    if not (math.isfinite(start) and math.isfinite(end) and math.isfinite(score)):
        raise ValueError(
            f"{where}: 'segment' [start, end] in seconds, 'score' and 'label' were expected, found {row!r:.80}"
        )
    if end < start:
        raise ValueError(
            f"{where}: a segment ends at {end:g} s, before it starts at {start:g} s; give its start first: {row!r:.80}"
        )
    return Detection(start, end, score, _label(row, annotations, ids, where))


def _label(row: Mapping[str, Any], annotations: Annotations, ids: Mapping[str, int], where: str) -> Label | None:
    if row.get("label") is None:
        return None
    if annotations.tasks:
        found = tuple(number for number in map(row.get, annotations.tasks) if _is_id(number))
        if len(found) < len(annotations.tasks):
            raise ValueError(f"{where}: an id was expected of each of {list(annotations.tasks)}, found {row!r:.80}")
        for (task, names), number in zip(annotations.tasks.items(), found, strict=True):
            if not 0 <= number < len(names):
                raise ValueError(
                    f"{where}: {number} is no {task}; the annotations have {len(names)}, with ids from 0 to {len(names) - 1}"
                )
        return found
    if row["label"] not in ids:
        raise ValueError(
            f"{where}: the label {row['label']!r} is none of the {len(ids)} classes of the annotations; correct it, or give "
            "classes to read_activitynet"
        )
    return ids[row["label"]]


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _row(detection: Detection, annotations: Annotations) -> dict[str, object]:
    label = detection.label
    row: dict[str, object] = {"segment": [detection.start, detection.end], "score": detection.score}
    if label is None:
        return row
    row["label"] = annotations.name_of(label)
    if isinstance(label, tuple):
        row |= dict(zip(annotations.tasks, label, strict=True))
    return row
