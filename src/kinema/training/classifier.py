"""The LightningModule that holds all training logic; the architectures are thin modules around it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy

from kinema.checkpoints import init_from
from kinema.checkpoints.load import Inflation
from kinema.data.clips import ClipBatch, EvalClips
from kinema.data.transforms import Normalisation, Normalise
from kinema.evaluation.confusion import confusion, draw_confusion
from kinema.evaluation.frame_order import FrameOrder, reorder_frames
from kinema.evaluation.latency import need_compiler
from kinema.evaluation.metrics import not_finite, video_metrics
from kinema.evaluation.score_files import write_scores, write_task_scores
from kinema.evaluation.task_views import TaskScores, TaskViewScores
from kinema.evaluation.views import Average, VideoScores, ViewScores
from kinema.memory_format import to_channels_last
from kinema.models import create_model
from kinema.training.averaging import need_average
from kinema.training.optim import Optimizer, build_optimizer
from kinema.training.record import RunFolder
from kinema.training.recorded import RecordedModule
from kinema.training.schedule import Schedule, keep_options, options_of, scheduled
from kinema.training.sharding import need_shards, shard_network
from kinema.training.tasks import AllRight, detached, mean_over_tasks

FreezeNorm = Literal["none", "all", "all_but_first"]
T = TypeVar("T")


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the text names the videos of the batch."""


class VideoClassifier(RecordedModule):
    """Trains and evaluates a video network; each architecture is a subclass whose constructor is its schema.

    Args:
        model: Name of the network in `kinema.list_models()`.
        num_classes: K; taken from the data when None. Several for several labels, such as (97, 300) verbs and nouns.
        options: Options of the network.
        optimizer: Optimiser and parameter groups.
        schedule: Learning rate over time.
        label_smoothing: Share of the target spread over all classes.
        freeze_norm: Batch norms that keep their statistics and parameters: TSM's fine-tuning freezes all but the first.
        average: What is averaged over the views of a video.
        normalisation: How uint8 pixels become the network's input; stored with the weights.
        compile: Compile the network with `torch.compile`.
        channels_last: Keep activations channels-last, which convolutions often prefer.
    """

    headline: ClassVar[str] = "top1"
    headline_told: ClassVar[str] = "top-1"

    def __init__(
        self,
        model: str,
        num_classes: int | Sequence[int] | None,
        options: Mapping[str, Any],
        *,
        optimizer: Optimizer | None = None,
        schedule: Schedule | None = None,
        label_smoothing: float = 0.0,
        freeze_norm: FreezeNorm = "none",
        average: Average = "probabilities",
        normalisation: Normalisation | None = None,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["model", "options"])
        self._keep_primitive_hparams()
        self.model_name, self.options = model, dict(options)
        self.num_classes = num_classes if num_classes is None or isinstance(num_classes, int) else tuple(num_classes)
        self.optimizer = as_options(Optimizer, optimizer)
        self.schedule = as_options(Schedule, schedule)
        self.label_smoothing, self.freeze_norm = label_smoothing, freeze_norm
        self.average: Average = average
        self.normalise = Normalise(as_options(Normalisation, normalisation))
        self.compile_network, self.channels_last = compile, channels_last
        self.class_names: list[str] | None = None
        self.tasks: dict[str, list[str]] = {}
        self.init_weights: Path | None = None
        self.inflation: Inflation = "mean"
        self.evaluated: dict[str, VideoScores | TaskScores] = {}
        self._views: ViewScores | None = None
        self.network: nn.Module
        if self.num_classes is not None:
            self._build(self.num_classes)

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Logits of clips that are normalised already."""
        return self.network(clip)

    def configure_model(self) -> None:
        """Build what depends on the data: the classifier's size, and the weights to start from."""
        datamodule = getattr(self.trainer, "datamodule", None)
        names = getattr(datamodule, "class_names", None)
        tasks = getattr(datamodule, "tasks", {})
        if tasks:
            self._agree_with_tasks(tasks)
        elif names is not None:
            self._agree_with(names)
        if not hasattr(self, "network"):
            raise ValueError("num_classes is not known; give --model.num_classes, or data that names its classes")
        if self.init_weights is not None:
            report = init_from(self.network, self.init_weights, inflation=self.inflation)
            self.init_weights = None
            if self.trainer.is_global_zero:
                print(report)
        if self.channels_last:
            to_channels_last(self.network)
        if self.compile_network:
            need_compiler(self.device)
            # In place: wrapping the network would rename every key of the checkpoint.
            self.network.compile()
        if self.device_mesh is not None:
            need_shards(self.trainer, self.device_mesh)
            shard_network(self.network, self.device_mesh["data_parallel"])

    def on_train_epoch_start(self) -> None:
        # Lightning keeps the mode it finds each module in and calls no `train` before the first epoch.
        self.train()

    def training_step(self, batch: ClipBatch, batch_index: int) -> Tensor:
        target = batch.get("target")
        logits, loss = self.logits_and_loss(self.normalise(batch["clip"]), batch["label"] if target is None else target)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {loss.item()} at epoch {self.current_epoch}, step {self.global_step}; the batch holds "
                f"{', '.join(batch['names'])}. Lower the learning rate, clip gradients, or look at these videos"
            )
        size = len(batch["label"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        if target is None:  # a mixed clip is of no one class
            self.train_top1(detached(logits), batch["label"])
            self.log("train/top1", self.train_top1, on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=size)
        return loss

    def logits_and_loss(
        self, clip: Float[Tensor, "B C T H W"], label: Int[Tensor, " B"] | Float[Tensor, "B K"]
    ) -> tuple[Tensor, Tensor]:
        """Logits of normalised clips and what training minimises; a network with a loss of its own overrides this."""
        logits = self(clip)
        return logits, self.cross_entropy(logits, label)

    def cross_entropy(self, logits: Float[Tensor, "B K"], label: Int[Tensor, " B"] | Float[Tensor, "B K"]) -> Tensor:
        """Of smoothed labels: a share s of each target, class ids or weights of classes, is spread over the K classes."""
        if isinstance(logits, tuple):
            return mean_over_tasks(self.cross_entropy, logits, label)
        return F.cross_entropy(logits, label, label_smoothing=self.label_smoothing)

    def on_validation_epoch_start(self) -> None:
        self._collect(self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        self._collect(self.trainer.test_dataloaders)

    def validation_step(self, batch: ClipBatch, batch_index: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: ClipBatch, batch_index: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val", whole=takes_all(self.trainer.limit_val_batches) and not self.trainer.sanity_checking)

    def on_test_epoch_end(self) -> None:
        self._finish("test", whole=takes_all(self.trainer.limit_test_batches))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.optimizer.for_batch(self.videos_per_step)
        optimizer = build_optimizer(self.network, self.network.get_submodule("head"), options)
        scheduler = scheduled(optimizer, self.schedule, self.trainer)
        self._options = options_of(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        keep_options(self.trainer, self._options)

    @property
    def videos_per_step(self) -> int | None:
        """Training videos of one optimiser step over all processes; None where the data does not say how many a batch has."""
        batch_size = getattr(getattr(self.trainer, "datamodule", None), "batch_size", None)
        if batch_size is None:
            return None
        return batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode:
            for norm in self._frozen_norms():
                norm.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kinema"] = {
            "module": type(self).__name__,
            "class_names": self.class_names,
            "tasks": self.tasks,
            "clips": self._clip_facts(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None and self.trainer.state.fn == "fit":
            need_average(self.trainer, checkpoint)
        names = checkpoint.get("kinema", {}).get("class_names")
        if names and self.class_names and names != self.class_names and sorted(names) == sorted(self.class_names):
            raise ValueError(
                f"the checkpoint was trained on the same {len(names)} classes in another order ({names[:3]}..., the data has "
                f"{self.class_names[:3]}...); give the data's list of classes the order of training"
            )
        if names and self.class_names and names != self.class_names:
            raise ValueError(
                f"the checkpoint was trained on {len(names)} classes {names[:3]}..., the data has {len(self.class_names)} "
                f"classes {self.class_names[:3]}...; to start another dataset from these weights use --init_from"
            )
        self.class_names = names or self.class_names

    def need_results(self, part: str) -> None:
        if part in self.evaluated:
            need_finite(self.evaluated[part])

    def measured(self, part: str) -> dict[str, float] | None:
        return video_metrics(self.evaluated[part]) if part in self.evaluated else None

    def write_results(self, part: str, run: RunFolder, data: Any) -> None:
        """The scores of every video, and a confusion matrix of each task."""
        videos = self.evaluated[part]
        names = [data.manifests[part].records[index].name for index in videos.videos.tolist()]
        title = f"{run.path.name}, {part}"
        if isinstance(videos, TaskScores):
            write_task_scores(run.scores(part), videos, names, self.tasks)
            for task, scores in videos.tasks.items():
                picture = run.confusion(f"{part}_{task}")
                draw_confusion(picture, confusion(scores), self.tasks[task], title=f"{title}, {task}")
            return
        classes = self.class_names or [str(label) for label in range(videos.scores.shape[1])]
        write_scores(run.scores(part), videos, names, classes)
        draw_confusion(run.confusion(part), confusion(videos), classes, title=title)

    @torch.no_grad()
    def evaluate_in_order(self, order: FrameOrder) -> VideoScores | TaskScores:
        """The scores of all validation videos with their frames in another order; to be called while a trainer is set up."""
        trainer, training = self.trainer, self.training
        loader = trainer.datamodule.val_dataloader()  # pyrefly: ignore[missing-attribute]
        self._collect(loader)
        assert self._views is not None
        self.eval()
        with trainer.precision_plugin.val_step_context():
            for batch in loader:
                self._evaluate(trainer.strategy.batch_to_device(batch), order)
        self.train(training)
        views, self._views = self._views, None
        return views.compute()

    def _build(self, num_classes: int | tuple[int, ...]) -> None:
        self.num_classes = self.hparams["num_classes"] = num_classes
        self.network = create_model(self.model_name, num_classes=num_classes, **self.options)
        one = isinstance(num_classes, int)
        self.train_top1 = MulticlassAccuracy(num_classes, average="micro") if one else AllRight()
        for norm in self._frozen_norms():
            norm.requires_grad_(False)

    def _frozen_norms(self) -> list[nn.Module]:
        if self.freeze_norm == "none" or not hasattr(self, "network"):
            return []
        norms: list[nn.Module] = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        return norms[1:] if self.freeze_norm == "all_but_first" else norms

    def _agree_with(self, names: list[str]) -> None:
        if self.num_classes is None:
            self._build(len(names))
        elif self.num_classes != len(names):
            raise ValueError(
                f"the model has {self.num_classes} classes and the data has {len(names)} ({names[:3]}...); "
                "leave --model.num_classes out to take it from the data"
            )
        self.class_names = list(names)

    def _agree_with_tasks(self, tasks: Mapping[str, list[str]]) -> None:
        sizes = tuple(len(names) for names in tasks.values())
        if self.num_classes is None:
            self._build(sizes)
        elif self.num_classes != sizes:
            raise ValueError(
                f"the model has {self.num_classes} classes and the data has {sizes} ({', '.join(tasks)}); leave "
                "--model.num_classes out to take it from the data"
            )
        self.tasks = {task: list(names) for task, names in tasks.items()}
        self.class_names = next(iter(self.tasks.values()))

    def _clip_facts(self) -> dict[str, Any] | None:
        """How validation cuts its clips, so that a checkpoint alone is enough to predict with."""
        clips = getattr(getattr(self._trainer, "datamodule", None), "eval_clips", None)
        return clips.facts() if isinstance(clips, EvalClips) else None

    def _collect(self, loader: Any) -> None:
        count = len(loader.dataset)
        if self.tasks:
            sizes = {task: len(names) for task, names in self.tasks.items()}
            self._views = TaskViewScores(count, sizes, average=self.average)
        else:
            self._views = ViewScores(count, average=self.average)

    def _evaluate(self, batch: ClipBatch, order: FrameOrder | None = None) -> None:
        assert self._views is not None
        clip = batch["clip"] if order is None else reorder_frames(batch["clip"], order, batch["video"])
        logits = self(self.normalise(clip))
        self._views.add(
            logits,
            label=batch["label"],
            video=batch["video"],
            view=batch["view"],
            num_views=batch["num_views"],
            decoded=batch["decoded"],
        )

    def _finish(self, part: str, *, whole: bool) -> None:
        assert self._views is not None
        videos = self._views.compute(whole=whole)
        self._views = None
        self.evaluated[part] = videos
        if self.trainer.state.fn != "fit":
            self.need_results(part)
        elif bad := int(not_finite(videos).sum()):
            # Early in training, running statistics of norms may not fit yet and factors of TAdaConv overflow; that passes.
            rank_zero_warn(
                f"the scores of {bad} of {len(videos.decoded)} videos are not finite behind epoch {self.current_epoch + 1} and "
                "count as wrong; if that stays, lower the learning rate or clip gradients"
            )
        for name, value in video_metrics(videos).items():
            self.log(f"{part}/{name}", value, prog_bar=name == "top1", rank_zero_only=True)

    def _keep_primitive_hparams(self) -> None:
        # Checkpoints are read with weights_only=True, which refuses any other type.
        for name, value in list(self.hparams.items()):
            if is_dataclass(value) and not isinstance(value, type):
                self.hparams[name] = asdict(value)
        self._set_hparams(dict(self.hparams))
        self._hparams_initial = None


def need_finite(videos: VideoScores | TaskScores) -> None:
    """Refuse scores that are NaN or infinite: the best of them would be the first class, and look like a result.

    Raises:
        NonFiniteLossError: If some are.
    """
    bad = not_finite(videos)
    if bad.any():
        raise NonFiniteLossError(
            f"the scores of {int(bad.sum())} of {len(bad)} videos are not finite: the network has diverged. Lower the learning "
            "rate or clip gradients"
        )


def takes_all(limit: int | float) -> bool:
    """Whether Lightning evaluates every batch: 1.0 means all of them, 1 one of them."""
    return isinstance(limit, float) and limit == 1.0


def as_options(kind: type[T], value: T | Mapping[str, Any] | None) -> T:
    """A dataclass given as such, as the mapping found in a checkpoint, or not at all."""
    if isinstance(value, kind):
        return value
    return kind(**value) if isinstance(value, Mapping) else kind()
