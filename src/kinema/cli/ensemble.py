"""`kinema ensemble RUN RUN ...`: average the scores that runs recorded for every video."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from kinema.cli.messages import say


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kinema ensemble", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders that were evaluated on the same videos")
    parser.add_argument("--weights", type=float, nargs="+", metavar="W", help="one for each run; equal when not given")
    parser.add_argument("--part", choices=("val", "test"), default="val", help="which of their scores")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="also write scores and metrics there")
    options = parser.parse_args(arguments[1:])

    from kinema.evaluation.metrics import video_metrics
    from kinema.evaluation.score_files import write_scores, write_task_scores
    from kinema.evaluation.task_views import TaskScores
    from kinema.training.ensemble import average_runs

    try:
        ensemble = average_runs(options.runs, weights=options.weights, part=options.part)
        metrics = video_metrics(ensemble.videos)
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            scores = options.output / f"{options.part}_scores.csv"
            if isinstance(ensemble.videos, TaskScores):
                write_task_scores(scores, ensemble.videos, ensemble.names, ensemble.class_names)
            else:
                write_scores(scores, ensemble.videos, ensemble.names, ensemble.class_names[""])
            told = {"runs": [str(path) for path in ensemble.runs], "weights": ensemble.weights, "part": options.part}
            (options.output / "metrics.json").write_text(json.dumps(metrics | told, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        say(error)
        return 1
    for path, weight, member in zip(ensemble.runs, ensemble.weights, ensemble.members, strict=True):
        lost = int((~member.decoded).sum())
        told = f", {lost} undecodable, which count as wrong in the mean too" if lost else ""
        print(f"{_told(video_metrics(member))}, weight {weight:.3f}{told}: {path}")
    print(f"{_told(metrics)} on {len(ensemble.names)} videos: the mean of {len(ensemble.runs)} runs")
    return 0


def _told(metrics: dict[str, float]) -> str:
    told = f"top-1 {metrics['top1']:.1%}, top-5 {metrics['top5']:.1%}"
    of_tasks = [
        f"{name.removesuffix('_top1')} {value:.1%}"
        for name, value in metrics.items()
        if name.endswith("_top1") and name not in ("fused_top1", "action_top1")
    ]
    return f"{told} ({', '.join(of_tasks)})" if of_tasks else told
