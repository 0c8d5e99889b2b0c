"""Video-level numbers: all from one table of scores, computed once."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from kinema.evaluation.task_views import TaskScores
from kinema.evaluation.views import VideoScores


def video_metrics(videos: VideoScores | TaskScores) -> dict[str, float]:
    """Accuracy over videos.

    `top1` and `top5` count an undecodable video as wrong; `top1_decodable` and `top5_decodable` leave it out.
    `mean_class` is the mean over classes of the top-1 accuracy of the class, undecodable videos counted as wrong.
    With fewer than five classes, `top5` is the accuracy of that many guesses. A video with a score that is NaN or infinite has
    no best class and counts as wrong; `not_finite` says how many there are, where there are any.

    Where samples have several labels, these are of their combination, which is right if all labels are; `verb_top1`,
    `noun_top5` and so on are of each task by itself, and `fused_top1` of the combination by scores averaged over the views
    before they were multiplied. For a verb and a noun the combination also stands as `action_top1` and `action_top5`.
    """
    if bad := int(not_finite(videos).sum()):
        return video_metrics(_without_guess(videos)) | {
            "undecodable": int((~videos.decoded).sum()),
            "not_finite": bad,
        }
    if isinstance(videos, TaskScores):
        return _task_metrics(videos)
    total, decodable = len(videos.labels), int(videos.decoded.sum())
    num_classes = videos.scores.shape[1]
    metrics: dict[str, float] = {"videos": total, "undecodable": total - decodable}
    for k in (1, 5):
        right = _right(videos, top_k=min(k, num_classes))
        metrics[f"top{k}"] = right / total
        metrics[f"top{k}_decodable"] = right / decodable if decodable else 0.0
    guesses = torch.where(videos.decoded, videos.scores.nan_to_num(0).argmax(1), (videos.labels + 1) % num_classes)
    if num_classes > 1:
        accuracy = multiclass_accuracy(guesses, videos.labels, num_classes, average="none")
        metrics["mean_class"] = float(accuracy[videos.labels.unique()].double().mean())
    else:
        metrics["mean_class"] = metrics["top1"]
    return metrics


def not_finite(videos: VideoScores | TaskScores) -> Bool[Tensor, " videos"]:
    """Videos that were decoded and have a score, of any task, that is NaN or infinite."""
    parts = videos.tasks.values() if isinstance(videos, TaskScores) else [videos]
    # Those of videos that could not be decoded are NaN on purpose.
    return torch.stack([part.decoded & ~part.scores.isfinite().all(dim=1) for part in parts]).any(dim=0)


def _without_guess(videos: VideoScores | TaskScores) -> VideoScores | TaskScores:
    """The same, what is not finite treated as what was not decoded."""
    kept = videos.decoded & ~not_finite(videos)
    if isinstance(videos, TaskScores):
        return replace(videos, tasks={name: replace(part, decoded=kept) for name, part in videos.tasks.items()})
    return replace(videos, decoded=kept)


def _task_metrics(videos: TaskScores) -> dict[str, float]:
    total, decodable = len(videos.decoded), int(videos.decoded.sum())
    metrics: dict[str, float] = {"videos": total, "undecodable": total - decodable}
    for k in (1, 5):
        # Not `rank < k` alone: with fewer combinations than k an undecodable video would be right.
        right = int(((videos.rank < k) & videos.decoded).sum())
        metrics[f"top{k}"] = right / total
        metrics[f"top{k}_decodable"] = right / decodable if decodable else 0.0
        metrics[f"fused_top{k}"] = int(((videos.fused_rank < k) & videos.decoded).sum()) / total
    for task, scores in videos.tasks.items():
        of_task = video_metrics(scores)
        metrics |= {f"{task}_{name}": of_task[name] for name in ("top1", "top5")}
    if set(videos.tasks) == {"verb", "noun"}:
        metrics |= {f"action_top{k}": metrics[f"top{k}"] for k in (1, 5)}
    return metrics


def _right(videos: VideoScores, *, top_k: int) -> int:
    kept = videos.decoded
    if not kept.any():
        return 0
    best = videos.scores[kept].topk(top_k, dim=1).indices
    return int((best == videos.labels[kept, None]).any(1).sum())
