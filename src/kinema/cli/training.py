"""`kinema fit | validate | test`: the Lightning CLI, with its traps closed.

The configuration always wins over a checkpoint: resuming or validating never changes what was written or typed.
"""

import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from lightning import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from kinema.checkpoints.files import checkpoint_file
from kinema.checkpoints.load import Inflation
from kinema.cli.messages import say
from kinema.cli.overview import short_help
from kinema.data import datasets  # imported, they are known to --data by their names
from kinema.data.datamodule import VideoDataModule
from kinema.evaluation.frame_order import FrameOrder
from kinema.training.averaging import AverageWeights, Ema
from kinema.training.callbacks import Checkpoints, DecodeGuard, RandomState, RecordEvaluation, Report, ValidateLast
from kinema.training.classifier import takes_all
from kinema.training.loggers import JsonLinesLogger, WandbMode, wandb_logger
from kinema.training.memory import keep_freed_memory
from kinema.training.record import RunFolder, checkpoint_of
from kinema.training.recorded import RecordedModule

_STRICT: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}


@dataclass(frozen=True)
class Run:
    """Where a run is recorded.

    Args:
        name: Groups the runs of one configuration: `<root>/<name>/<id>/`.
        root: Folder of all runs.
        id: Folder of this run; its start time when None. Give the id of an earlier run to go on in its folder.
        wandb: `auto` is online where wandb has a key and offline elsewhere; `off` leaves it out.
        project: Project in wandb.
        group: Group in wandb, such as the experiment.
        job_type: Job type in wandb, such as the variant of the experiment.
        frame_orders: After training also evaluate with the frames of every video in these orders: shuffled, reversed or
            frozen (the middle frame alone). What is lost tells what the network used.
        checkpoint_every_steps: Also write `last.ckpt` every so many steps, not only after each epoch.
        videos_per_step: Add up gradients over as many batches as it takes to come to this many videos in an optimiser step,
            on the devices given.
    """

    name: str = "run"
    root: str = "runs"
    id: str | None = None
    wandb: WandbMode = "auto"
    project: str = "kinema"
    group: str | None = None
    job_type: str | None = None
    frame_orders: list[FrameOrder] = field(default_factory=list)
    checkpoint_every_steps: int | None = None
    videos_per_step: int | None = None


class ProgressBar(RichProgressBar):
    """Lightning's, without the number of the run."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        metrics = dict(super().get_metrics(trainer, pl_module))
        metrics.pop("v_num", None)
        return metrics


class TrainingCLI(LightningCLI):
    """Lightning's CLI over kinema's modules and data modules, recording each run in its own folder."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.run_folder: RunFolder
        self._asks_for_weights = any(argument.partition("=")[0] == "--init_from" for argument in arguments)
        super().__init__(
            RecordedModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # Our checkpoints carry primitive hyperparameters and name their class; see restore.py.
            load_from_checkpoint_support=False,
            # Errors come here to be told in one line, not after fifty lines of usage.
            parser_kwargs={**_STRICT, **dict.fromkeys(self.subcommands(), _STRICT)},
            trainer_defaults={
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                "enable_checkpointing": False,
                "log_every_n_steps": 10,
                "enable_model_summary": False,
            },
            args=list(arguments),
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning warns whenever arguments are handed over while sys.argv has some too, as in every call of a script.
        self.config = parser.parse_args(args)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        skipped = {"model", "datamodule", "weights_only", "train_dataloaders", "val_dataloaders", "dataloaders"}
        return dict.fromkeys(("fit", "validate", "test"), skipped)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(Run, "run")
        parser.add_class_arguments(Ema, "ema")
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="Weights to start from: an image network or another data set's checkpoint. To go on with a run: --ckpt_path.",
        )
        parser.add_argument(
            "--inflation",
            type=Inflation,
            default="mean",
            help="How kernels of images spread over frames, with --init_from: on every frame, or on the middle one.",
        )

    def _parse_ckpt_path(self) -> None:
        # Lightning would merge the checkpoint's hyperparameters over the command line. Here the command line wins.
        options = self.config[self.config["subcommand"]]
        given = options.get("ckpt_path")
        if given is None:
            return
        path = Path(given)
        if given in ("last", "best"):
            configs = [Path(str(config)) for config in options.get("config") or []]
            folders = [config.parent for config in configs if (config.parent / "checkpoints").is_dir()]
            if not folders:
                raise ValueError(
                    f"--ckpt_path {given} needs a run: give --config RUN/config.yaml, or --ckpt_path RUN with its folder"
                )
            path = checkpoint_of(folders[-1], given)
        elif path.is_dir():
            path = checkpoint_of(path)
        elif not path.is_file():
            raise FileNotFoundError(f"the checkpoint {given} does not exist; give a file, a run folder, last or best")
        options["ckpt_path"] = str(path)
        self._print_differences(path, options)

    def _print_differences(self, path: Path, options: Any) -> None:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        saved = checkpoint.get("hyper_parameters", {})
        ours = options.as_dict()["model"].get("init_args", {}) if "model" in options else {}
        for name in sorted(saved.keys() & ours.keys()):
            if ours[name] is not None and _plain(saved[name]) != _plain(ours[name]):
                print(f"note: {name} was {saved[name]} in the checkpoint and is {ours[name]} now", file=sys.stderr)
        done, wanted = checkpoint.get("epoch", 0) + 1, options.get("trainer", {}).get("max_epochs")
        ended = (
            checkpoint.get("loops", {})
            .get("fit_loop", {})
            .get("epoch_progress", {})
            .get("current", {})
            .get("processed", 0)
        )
        if self.config["subcommand"] == "fit" and wanted and wanted > 0 and ended >= wanted:
            raise ValueError(
                f"the checkpoint has done {done} of {wanted} epochs; to go on, give a larger --trainer.max_epochs (a schedule "
                "that ends at zero is stretched with it)"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        assert self.subcommand is not None
        options = self.config[self.subcommand]
        run, ema = Run(**vars(options["run"])), Ema(**vars(options["ema"]))
        self.run_folder = RunFolder.create(Path(run.root), run.name, run.id)
        try:
            return self._trainer_in(self.run_folder, run, ema, **kwargs)
        except BaseException:
            self.run_folder.remove_if_unused()
            raise

    def _trainer_in(self, folder: RunFolder, run: Run, ema: Ema, **kwargs: Any) -> Trainer:
        assert self.subcommand is not None
        options = self.config[self.subcommand]
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False, format="yaml"))[self.subcommand]
        config.pop("config", None)
        config["run"]["id"] = None  # a run that goes on from this configuration, or evaluates it, is another run
        weights = options.get("init_from")
        if weights and options.get("ckpt_path"):
            if self._asks_for_weights:
                print(
                    "note: --ckpt_path goes on with a run, whose weights count; --init_from is where it began, and is not read",
                    file=sys.stderr,
                )
            weights = None  # what the run started from stands in its configuration, and is in the checkpoint long since
        start = Path(weights) if weights else None
        if start is not None:  # now, before data are prepared for what cannot begin
            start = checkpoint_of(start) if start.is_dir() else checkpoint_file(start)
        self.model.init_weights = start
        self.model.inflation = options["inflation"]
        given = self._get(self.config_init, "trainer", default={})  # pyrefly: ignore[bad-argument-type]
        loggers: list[Any] = [JsonLinesLogger(folder.history)]
        extra = given.get("logger")
        loggers += extra if isinstance(extra, list) else [extra] if extra not in (None, True, False) else []
        wandb = wandb_logger(
            folder.path,
            mode=run.wandb,
            project=run.project,
            name=run.name,
            group=run.group,
            job_type=run.job_type,
            config=config,
        )
        loggers += [wandb] if wandb is not None else []
        callbacks: list[Callback] = [
            RandomState(),
            ValidateLast(folder),
            *([AverageWeights(ema)] if ema.decay is not None else []),  # before what saves
            RecordEvaluation(folder, run.frame_orders),
            DecodeGuard(folder),
            Checkpoints(folder, run.checkpoint_every_steps),
            Report(),
        ]
        shown = given.get("enable_progress_bar") is not False and sys.stdout.isatty()
        callbacks += [ProgressBar()] if shown else []
        trainer_config = {**given, **kwargs, "default_root_dir": str(folder.path), "logger": loggers}
        trainer_config["enable_progress_bar"] = shown  # a log file gets one line per epoch instead
        trainer = self._instantiate_trainer(trainer_config, callbacks)
        if run.videos_per_step is not None and self.subcommand == "fit":
            _fill_step(trainer, self.datamodule.batch_size, run.videos_per_step)
        if trainer.is_global_zero:
            folder.config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            print(folder.path, flush=True)
            folder.write_environment(
                seed=options.get("seed_everything"), decoder=options["data"]["init_args"].get("decoder")
            )
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Lightning would start at once; `execute` does, when the run folder is known to the caller."""

    def execute(self) -> None:
        """Run the subcommand. Checkpoints are read as data, never as code."""
        assert self.subcommand is not None
        start = getattr(self.trainer, self.subcommand)
        options = self.config[self.subcommand]
        if self.subcommand != "fit" and not options.get("ckpt_path") and not options.get("init_from"):
            say("no weights were given (--ckpt_path, --init_from), so initial values are evaluated")
        start(
            self.model,
            datamodule=self.datamodule,
            ckpt_path=self.config[self.subcommand].get("ckpt_path"),
            weights_only=True,
        )


def run(arguments: Sequence[str]) -> int:
    """Run fit, validate or test; the last line printed is the run folder."""
    quieten()
    if {"-h", "--help"} & set(arguments):
        print(short_help(arguments[0]))
        return 0
    arguments = ["--help" if argument == "--help-all" else argument for argument in arguments]
    keep_freed_memory()
    cli: TrainingCLI | None = None
    status = 0
    try:
        cli = TrainingCLI(_with_config_of_run(arguments))
        cli.execute()
    except ArgumentError as error:
        say(told_shortly(str(error)))
        return 2
    except SIGTERMException:
        say("stopped by SIGTERM; go on with --ckpt_path and the folder below")
        status = 143
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning ends the process itself when it is interrupted.
        if cli is None or (isinstance(error, SystemExit) and error.code in (0, None)):
            raise
        held = (cli.run_folder.checkpoints / "last.ckpt").is_file()
        advice = f"go on with 'kinema fit --ckpt_path {cli.run_folder.path}'" if held else "nothing was saved yet"
        say(f"interrupted; {advice}")
        status = 130
    except (ValueError, OSError, RuntimeError, MisconfigurationException) as error:
        say(f"{type(error).__name__}: {told_shortly(str(error))}")
        if cli is not None:
            (cli.run_folder.path / "error.log").write_text(traceback.format_exc(), encoding="utf-8")
        elif os.environ.get("KINEMA_TRACEBACK"):
            traceback.print_exc()
        status = 1
    if cli is not None and cli.trainer.is_global_zero:
        for logger in cli.trainer.loggers:
            # wandb would say its last words after ours.
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=status)
        _summarise(cli, status)
    return status


def _fill_step(trainer: Trainer, batch_size: int, videos: int) -> None:
    """Add up the gradients of as many batches as an optimiser step of so many videos takes."""
    at_once = batch_size * trainer.world_size
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"run.videos_per_step={videos} says how many batches a step has, and so does trainer.accumulate_grad_batches="
            f"{trainer.accumulate_grad_batches}; give one of them"
        )
    batches, rest = divmod(videos, at_once)
    if rest or not batches:
        raise ValueError(
            f"{videos} videos in a step are no whole number of batches of {batch_size} on {trainer.world_size} process(es); "
            f"choose a --data.batch_size that divides {videos / trainer.world_size:g}, or leave this out: with "
            "--model.optimizer.reference_batch_size the learning rate follows the batch"
        )
    trainer.accumulate_grad_batches = batches


def quieten() -> None:
    """Drop what Lightning says at every start; its warnings stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # PyTorch says it of every loader of a recipe where there are fewer cores than on the machine it was written for.
    warnings.filterwarnings("ignore", message="This DataLoader will create .* worker processes in total")


def _summarise(cli: TrainingCLI, status: int) -> None:
    folder = cli.run_folder
    if status == 0 and folder.metrics.is_file():
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
        undecodable = f", {metrics['undecodable']} undecodable" if metrics.get("undecodable") else ""
        stage = "test" if cli.subcommand == "test" else "val"
        limit = getattr(cli.trainer, f"limit_{stage}_batches")
        if not takes_all(limit):
            print(
                f"note: limit_{stage}_batches={limit} left videos out; --trainer.limit_{stage}_batches 1.0 takes all",
                file=sys.stderr,
            )
        if "top1" in metrics:
            told = f"top-1 {metrics['top1']:.1%}, top-5 {metrics['top5']:.1%}"
        elif "average_mAP" in metrics:
            told = f"average mAP {metrics['average_mAP']:.1%}, AR@100 {metrics['AR@100']:.1%}"
        else:  # nothing was annotated in the videos that were evaluated, which was noted
            told = None
        if told is not None:
            print(f"{told} on {metrics['videos']} videos{undecodable} in {metrics['seconds']:.0f} s")
    print(folder.path)


def _with_config_of_run(arguments: Sequence[str]) -> list[str]:
    """A run that is gone on with or evaluated brings its own configuration, unless another is given."""
    arguments = list(arguments)
    if any(argument.partition("=")[0] in ("--config", "-c") for argument in arguments):
        return arguments
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--ckpt_path":
            value = value or (arguments[place + 1] if place + 1 < len(arguments) else "")
            run = Path(value)
            if value not in ("last", "best", "") and not run.exists():
                raise FileNotFoundError(
                    f"there is no run and no checkpoint {value}; give a file, a run folder, last or best"
                )
            if run.is_dir() and not (run / "config.yaml").is_file() and any(run.glob("*/config.yaml")):
                run = checkpoint_of(run).parents[1]  # a folder of runs: the newest that has a checkpoint
                arguments[place : place + (1 if "=" in argument else 2)] = ["--ckpt_path", str(run)]
            if (run / "config.yaml").is_file():
                return [*arguments[:1], "--config", str(run / "config.yaml"), *arguments[1:]]
    return arguments


def told_shortly(text: str) -> str:
    """The heart of an error: jsonargparse wraps layers around what a class said, Lightning lists every weight."""
    if "loading state_dict" in text:
        missing, surplus = (len(re.findall(r'"[^"]+"', part)) for part in (*text.split("Unexpected key", 1), "")[:2])
        return (
            f"the weights of the checkpoint are those of another network: {missing} tensors of this one are not in it, "
            f"{surplus} of its own have no place. Build the network of the checkpoint: --config RUN/config.yaml"
        )
    said = [
        line.strip().removeprefix("- ")
        for line in text.splitlines()
        if line.strip()
        and not re.search(
            r"Does not validate against|Union subtypes|Subtypes: |<class 'NoneType'>|^\s*Given value|NestedArg|"
            r"^\s*Problem with given class_path|^Parser key|init_args\b.*not valid",
            line,
        )
    ]
    deepest = said[-1] if said else text.strip()
    if found := re.search(r"Expected a dot import path string: (\S+)", text):
        return f"there is no LightningModule or data module {found[1]!r}; {_nearest(found[1])}"
    if found := re.search(r"(?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", text):
        return f"option '{found[1]}' is not accepted{_of_class(text)}; see --model.help CLASS, --data.help CLASS or --help-all"
    if deepest.startswith("Expected") and (keys := re.findall(r'Parser key "([\w.]+)"', text)):
        return f"{keys[-1]}: {deepest[0].lower()}{deepest[1:].replace('typing.Literal', 'one of ')}"
    return deepest


def _of_class(text: str) -> str:
    found = re.findall(r"class_path '([\w.]+)'", text)
    return f" by {found[-1]}" if found else ""


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    import kinema.training as modules

    models = _subclasses(modules, RecordedModule)
    data = ["FeatureData", "VideoDataModule", *_subclasses(datasets, VideoDataModule)]
    close = get_close_matches(name, [*models, *data], n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}Known as --model are {', '.join(models)}; as --data {', '.join(data)}"


def _subclasses(module: Any, base: type) -> list[str]:
    kinds = [(name, getattr(module, name)) for name in module.__all__]
    return sorted(name for name, kind in kinds if isinstance(kind, type) and issubclass(kind, base))


def _plain(value: Any) -> Any:
    """Tuples and lists are the same thing in a configuration."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
