"""Runs from a wandb project, as the rows that run folders give: `kinema fit` logs there what it writes down here."""

from collections.abc import Iterable, Mapping
from typing import Any

from kinema.sweeps.collect import RunRow


def read_wandb(project: str, *, api: Any = None) -> dict[str, list[RunRow]]:
    """The finished runs of a project, by experiment (wandb's group), ordered by variant and seed.

    wandb is not told everything that a run folder holds: the tree of the source and the number of parameters stay
    empty, and `device` is the kind of accelerator.

    Args:
        project: "ENTITY/PROJECT", or a project of whoever is logged in.
        api: `wandb.Api()`, made here when None; it reaches the network.

    Raises:
        ValueError: If no run of the project has finished with a validation accuracy.
    """
    if api is None:
        import wandb

        api = wandb.Api()
    by_group: dict[str, list[RunRow]] = {}
    for run in _finished(api.runs(project)):
        by_group.setdefault(run.group or "no group", []).append(_row_of(run))
    if not by_group:
        raise ValueError(
            f"the wandb project {project} holds no finished run with val/top1; give ENTITY/PROJECT of kinema"
        )
    return {
        group: sorted(rows, key=lambda row: (row.variant, row.seed, row.run))
        for group, rows in sorted(by_group.items())
    }


def _finished(runs: Iterable[Any]) -> list[Any]:
    return [run for run in runs if run.state == "finished" and "val/top1" in run.summary]


def _row_of(run: Any) -> RunRow:
    config: Mapping[str, Any] = run.config
    summary: Mapping[str, Any] = run.summary
    trainer: Mapping[str, Any] = config.get("trainer") or {}
    return RunRow(
        variant=run.job_type or run.name,
        seed=int(config.get("seed_everything") or 0),
        top1=float(summary["val/top1"]),
        top5=float(summary.get("val/top5", float("nan"))),
        videos=int(summary.get("val/videos", 0)),
        undecodable=int(summary.get("val/undecodable", 0)),
        epochs=int(trainer.get("max_epochs") or 0),
        seconds=float(summary.get("_runtime", 0.0)),
        commit=getattr(run, "commit", None) or "",
        uncommitted_changes=False,
        device=str(trainer.get("accelerator") or ""),
        cpu_threads=0,
        run=run.id,
    )
