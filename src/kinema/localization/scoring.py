"""From detections of videos to numbers: what was found against what was annotated."""

from collections.abc import Mapping, Sequence

import numpy as np

from kinema.data.untrimmed.segments import Annotations, Label
from kinema.evaluation.detection import (
    ACTIVITYNET_TIOU,
    EPIC_TIOU,
    Spans,
    action_precision,
    average_precision,
    average_recall,
    detection_summary,
    tadaconv_action_precision,
)
from kinema.localization.inference import Detection

_RECALL_AT = (1, 5, 10, 100)


def detection_metrics(
    annotations: Annotations, found: Mapping[str, Sequence[Detection]], *, tiou: Sequence[float] | None = None
) -> dict[str, float]:
    """Average precision and recall of the detections of videos.

    `average_mAP` and `mAP@0.50` and so on; of a verb and a noun `verb_average_mAP`, `noun_...`, `action_...` (which
    `average_mAP` repeats): as the challenge of EPIC-KITCHENS-100 counts them. `tadaconv_verb_average_mAP` and so on are
    those of TAdaConv's code, which leaves out verbs and nouns that are never annotated together. `AR@1` to `AR@100` are recall
    by proposals per annotated video, `AR_AUC` the area under it.

    A video without detections lowers recall. One in which nothing is annotated can only add wrong detections to precision, and
    to recall proposals that are taken from the number of the others'. Where no detection has a label, all classes count as
    one, and `class_agnostic` is 1.

    Args:
        annotations: Of exactly the videos that count.
        found: Detections of each, best first or not; a video that is missing counts as one without any.
        tiou: Thresholds; ActivityNet's, or EPIC's where there are several tasks, when None.

    Raises:
        ValueError: If there are detections of other videos, or some have a label and some not, a score is NaN,
            or nothing is annotated.
    """
    strange = sorted(set(found) - set(annotations.videos))
    if strange:
        raise ValueError(
            f"detections of {len(strange)} videos that are not annotated were given, such as {strange[0]}; give the "
            "annotations of these videos, or leave the detections out"
        )
    numbers = {name: number for number, name in enumerate(annotations.videos)}
    labels = [d.label for each in found.values() for d in each]
    agnostic = bool(labels) and all(label is None for label in labels)
    if not agnostic and any(label is None for label in labels):
        raise ValueError(
            f"{labels.count(None)} of {len(labels)} detections have no label; write features with class scores for all videos"
        )
    rows = [
        (numbers[video], d.start, d.end, d.score, 0 if d.label is None else d.label)
        for video, each in found.items()
        for d in each
    ]
    segments = [(numbers[s.video], s.start, s.end, 0.0, 0 if agnostic else s.label) for s in annotations.segments]
    of_classes = None if agnostic else annotations
    truth, spans = _spans(segments, of_classes), _spans(rows, of_classes)
    if annotations.tasks and not agnostic:
        parts = action_precision(truth, spans, tuple(annotations.tasks), tiou or EPIC_TIOU)
        as_tadaconv = tadaconv_action_precision(truth, spans, tuple(annotations.tasks), tiou or EPIC_TIOU)
        parts |= {f"tadaconv_{task}": as_tadaconv[task] for task in annotations.tasks}
        metrics = detection_summary(parts)
        metrics = {"average_mAP": metrics["action_average_mAP"], **metrics}
    else:
        metrics = detection_summary(average_precision(truth, spans, tiou or ACTIVITYNET_TIOU))
    metrics |= {"class_agnostic": 1.0} if agnostic else {}
    return metrics | recall_metrics(annotations, found)


def recall_metrics(annotations: Annotations, found: Mapping[str, Sequence[Detection]]) -> dict[str, float]:
    """`AR@1` to `AR@100` and `AR_AUC` of proposals, whatever their classes; detections that share a segment count once.

    Proposals are counted per video in which something is annotated, as by ActivityNet's evaluator.
    """
    numbers = {name: number for number, name in enumerate(annotations.videos)}
    truth = _spans([(numbers[s.video], s.start, s.end, 0.0, 0) for s in annotations.segments], None)
    best: dict[tuple[int, float, float], float] = {}
    for video, each in found.items():
        for d in each:
            key = (numbers[video], d.start, d.end)
            best[key] = max(best.get(key, d.score), d.score)
    proposals = _spans([(*key, score, 0) for key, score in best.items()], None)
    recall = average_recall(truth, proposals)
    return {f"AR@{number}": recall.at(number) for number in _RECALL_AT} | {"AR_AUC": recall.auc}


def _spans(rows: Sequence[tuple[int, float, float, float, Label]], annotations: Annotations | None) -> Spans:
    width = len(annotations.tasks) if annotations is not None and annotations.tasks else 0
    labels = np.array([row[4] for row in rows], dtype=np.int64).reshape((len(rows), width) if width else (len(rows),))
    video, start, end, score = (np.array([row[column] for row in rows], dtype=np.float64) for column in range(4))
    return Spans(video.astype(np.int64), start, end, labels, score)
