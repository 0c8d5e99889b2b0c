"""The first page of help of `kinema fit | validate | test`: what is used every day, and where the rest is told."""

import inspect

COMMON = (
    ("--config FILE", "a configuration; give it again to lay another over it"),
    ("--model CLASS", "the architecture, and --model.OPTION its options"),
    ("--data CLASS", "the data set, and --data.OPTION its options: root, num_frames, size, batch_size, ..."),
    (
        "--trainer.max_epochs N",
        "and every other option of Lightning's Trainer: devices, precision, limit_train_batches, ...",
    ),
    ("--run.name NAME", "the run is recorded in runs/NAME/ID; --run.wandb off | offline | online"),
    ("--init_from FILE", "start from image weights, or from another data set's checkpoint"),
    ("--ckpt_path RUN", "go on with a run, or evaluate it: its folder, or a checkpoint"),
)


def short_help(command: str) -> str:
    """Everyday options, architectures and data sets, and the commands that tell all of each."""
    from kinema import training
    from kinema.data import datasets
    from kinema.data.datamodule import VideoDataModule
    from kinema.data.untrimmed.feature_data import FeatureData
    from kinema.training.recorded import RecordedModule

    architectures = _classes(training, RecordedModule)
    architectures.pop("VideoClassifier")  # what the others share
    sets = {"VideoDataModule": VideoDataModule, **_classes(datasets, VideoDataModule), "FeatureData": FeatureData}
    return "\n".join(
        [
            f"usage: kinema {command} --config FILE [--config OVERLAY] [--OPTION VALUE ...]",
            "",
            *_rows(dict(COMMON)),
            "",
            "architectures (--model CLASS):",
            *_rows({name: _summary(kind) for name, kind in architectures.items()}),
            "",
            "data sets (--data CLASS):",
            *_rows({name: _summary(kind) for name, kind in sets.items()}),
            "",
            f"kinema {command} --model.help CLASS      all options of an architecture",
            f"kinema {command} --data.help CLASS       all options of a data set",
            f"kinema {command} --help-all              everything, Lightning's Trainer too",
            f"kinema {command} --config FILE --print_config    the configuration that would run",
        ]
    )


def _classes(module: object, base: type) -> dict[str, type]:
    found = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
    }


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")


def _rows(entries: dict[str, str]) -> list[str]:
    width = max(map(len, entries))
    return [f"  {name:<{width}}  {text}" for name, text in entries.items()]
