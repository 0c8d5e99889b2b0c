"""The boundary-matching network as a LightningModule: it learns where something begins and ends from feature files."""

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kinema.checkpoints import init_from
from kinema.checkpoints.load import Inflation
from kinema.data.loader import sample_seed
from kinema.data.untrimmed.feature_data import FeatureData
from kinema.data.untrimmed.feature_files import FeatureFile
from kinema.data.untrimmed.window_samples import VideoWindows, WindowBatch
from kinema.data.untrimmed.windows import Windows
from kinema.localization.inference import Detection, PostProcessing, detections_of, propose, video_maps
from kinema.localization.labels import Targets, proposal_labels, proposal_offsets, stack_targets, window_targets
from kinema.localization.losses import Losses, LossWeights, localization_losses
from kinema.localization.network import BoundaryMaps, BoundaryMatchingNetwork
from kinema.localization.results_file import write_detections
from kinema.localization.scoring import detection_metrics
from kinema.training.classifier import NonFiniteLossError, as_options
from kinema.training.optim import Optimizer, build_optimizer
from kinema.training.record import RunFolder, checkpoint_of
from kinema.training.recorded import RecordedModule
from kinema.training.schedule import Schedule, keep_options, options_of, scheduled

_WINDOWS_AT_ONCE = 8


class BMN(RecordedModule):
    """Boundary-matching network: where something begins and ends in long videos, from their features.

    Lin et al. 2019, arXiv:1907.09702, in the form and with the training of TAdaConv's authors on EPIC-KITCHENS-100: AdamW at
    0.002 with a cosine over all epochs behind one of warm-up. What they do in 10 epochs of 16 windows a step, over 8 devices,
    is here as long as `--trainer.max_epochs` says.

    Sizes that belong to the data (channels, bins, classes) are taken from it and kept in the checkpoint.

    Args:
        in_channels: Channels of the features; taken from the data when None.
        windows: How a video is cut into windows; taken from the data when None.
        class_head: Whether the network also learns the classes of proposals, for `post.fusion` "network".
        regression: Whether it also learns to move the boundaries of proposals.
        num_samples: Samples N of a proposal.
        num_points: Points that each sample averages.
        context: What is seen before and behind a proposal, in lengths of it.
        dim: Channels of base, boundaries and samples.
        dim_collapsed: Channels of a proposal once its samples are collapsed.
        dim_map: Channels of the convolutions over proposals.
        base_layers: Convolutions of the base.
        groups: Groups of the convolutions of base and boundaries.
        loss: Weights of the losses, and from where on an overlap is one.
        post: How proposals become detections, in evaluation and afterwards.
        optimizer: Optimiser; `Optimizer("adamw", lr=0.002, weight_decay=1e-4)` when None.
        schedule: Learning rate over time; one epoch of warm-up and a cosine when None.
        num_classes: Classes of each task of the class head; from the data.
    """

    headline: ClassVar[str] = "average_mAP"
    headline_told: ClassVar[str] = "average mAP"

    def __init__(
        self,
        in_channels: int | None = None,
        *,
        windows: Windows | None = None,
        class_head: bool = False,
        regression: bool = False,
        num_samples: int = 32,
        num_points: int = 3,
        context: float = 0.5,
        dim: int = 256,
        dim_collapsed: int = 512,
        dim_map: int = 128,
        base_layers: int = 2,
        groups: int = 4,
        loss: LossWeights | None = None,
        post: PostProcessing | None = None,
        optimizer: Optimizer | None = None,
        schedule: Schedule | None = None,
        num_classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for name, value in list(self.hparams.items()):  # checkpoints are read as data, which knows no dataclasses
            self.hparams[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        self._set_hparams(_plain(dict(self.hparams)))
        self._hparams_initial = None
        self.model_name = "bmn"
        self.loss, self.post = as_options(LossWeights, loss), as_options(PostProcessing, post)
        self.optimizer = (
            Optimizer("adamw", lr=0.002, weight_decay=1e-4) if optimizer is None else as_options(Optimizer, optimizer)
        )
        self.schedule = (
            Schedule("cosine", warmup_epochs=1.0, warmup_start=0.005)
            if schedule is None
            else as_options(Schedule, schedule)
        )
        self.class_head = class_head
        self.sizes = {
            "regression": regression,
            "num_samples": num_samples,
            "num_points": num_points,
            "context": context,
            "dim": dim,
            "dim_collapsed": dim_collapsed,
            "dim_map": dim_map,
            "base_layers": base_layers,
            "groups": groups,
        }
        if self.post.fusion == "network" and not class_head:
            raise ValueError("post.fusion='network' takes classes from a class head; give --model.class_head true")
        self.in_channels = in_channels
        self.windows = None if windows is None else as_options(Windows, windows)
        self.num_classes = None if num_classes is None else tuple(num_classes)
        self.class_names: list[str] | None = None
        self.tasks: dict[str, list[str]] = {}
        self.init_weights: Path | None = None
        self.inflation: Inflation = "mean"
        self.evaluated: dict[str, dict[str, float]] = {}
        self.detections: dict[str, dict[str, list[Detection]]] = {}
        self.network: BoundaryMatchingNetwork  # pyrefly: ignore[bad-override]
        if in_channels is not None and self.windows is not None and (num_classes is not None or not class_head):
            self._build()

    @classmethod
    def from_run(cls, path: str | Path, *, which: str = "last", device: str | torch.device = "cpu") -> "BMN":
        """The trained network of a run folder, or of the newest run below a folder, or of a checkpoint, ready to propose.

        Raises:
            FileNotFoundError: If there is no such run or checkpoint.
            ValueError: If it is of another module.
        """
        file = Path(path).expanduser()
        try:
            checkpoint = torch.load(
                file if file.is_file() else checkpoint_of(file, which), map_location="cpu", weights_only=True
            )
            facts = checkpoint.get("kinema", {})
        except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
            raise ValueError(f"{path} is no checkpoint of kinema; give a run of {cls.__name__}") from error
        if facts.get("module") != cls.__name__:
            raise ValueError(
                f"{path} holds a {facts.get('module', 'checkpoint of another program')}, no {cls.__name__}"
            )
        module = cls(**checkpoint["hyper_parameters"])
        module.load_state_dict(checkpoint["state_dict"])
        module.class_names, module.tasks = facts["class_names"], facts["tasks"]
        return module.to(device).eval()

    def propose(self, file: FeatureFile, *, options: PostProcessing | None = None) -> list[Detection]:
        """Find the segments of one video, as in evaluation; see `kinema.localization.inference.propose`."""
        assert self.windows is not None
        return propose(self.network, file, windows=self.windows, options=options or self.post)

    def forward(self, features: Float[Tensor, "B D T"]) -> BoundaryMaps:
        """The maps of windows."""
        return self.network(features)

    def configure_model(self) -> None:
        """Take the sizes of the data, and the weights to start from."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, FeatureData):
            raise ValueError(f"BMN reads feature files and {type(data).__name__} has none; give --data FeatureData")
        self._agree("in_channels", self.in_channels, data.dim)
        self._agree("windows", self.windows, data.windows)
        self.in_channels, self.windows = data.dim, data.windows
        if self.class_head:
            self._agree("num_classes", self.num_classes, data.num_classes)
            self.num_classes = data.num_classes
        self.class_names, self.tasks = list(data.class_names), dict(data.tasks)
        if not hasattr(self, "network"):
            self._build()
        if self.init_weights is not None:
            report = init_from(self.network, self.init_weights)
            self.init_weights = None
            print(report)

    def training_step(self, batch: WindowBatch, batch_index: int) -> Tensor:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        generator = torch.Generator().manual_seed(sample_seed(seed, self.current_epoch, batch_index))
        losses = self.losses(self(batch["features"]), batch["segments"], batch["labels"], generator=generator)
        if not torch.isfinite(losses.total):
            raise NonFiniteLossError(
                f"the loss is {losses.total.item()} at epoch {self.current_epoch}, step {self.global_step}; the batch holds "
                f"{', '.join(batch['names'])}. Lower the learning rate, or look at these features"
            )
        self._log_losses("train", losses, len(batch["features"]))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(batch["features"]))
        return losses.total

    def losses(
        self,
        maps: BoundaryMaps,
        segments: Sequence[Float[Tensor, "G 2"]],
        labels: Sequence[Tensor],
        *,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """The losses of windows in which these segments lie, in bins."""
        sizes = self.network.num_bins, self.network.max_bins
        each = [window_targets(of_window, *sizes) for of_window in segments]
        device, dtype = maps.confidence.device, maps.confidence.dtype
        offsets = None
        if maps.offsets is not None:
            moved = [proposal_offsets(of_window, targets) for of_window, targets in zip(segments, each, strict=True)]
            offsets = torch.stack(moved).to(device, dtype)
        classes: tuple[Tensor, ...] = ()
        if maps.classes:
            found = [proposal_labels(label, targets) for label, targets in zip(labels, each, strict=True)]
            classes = tuple(torch.stack(task).to(device) for task in zip(*found, strict=True))
        targets = Targets(*(part.to(device) for part in stack_targets(each)))
        return localization_losses(
            maps, targets, weights=self.loss, offsets=offsets, labels=classes, generator=generator
        )

    def on_validation_epoch_start(self) -> None:
        self.detections["val"] = {}

    def on_test_epoch_start(self) -> None:
        self.detections["test"] = {}

    def validation_step(self, batch: list[VideoWindows], batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: list[VideoWindows], batch_index: int) -> None:
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.network, nn.Module(), self.optimizer.for_batch(self._windows_per_step))
        scheduler = scheduled(optimizer, self.schedule, self.trainer)
        self._options = options_of(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        keep_options(self.trainer, self._options)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kinema"] = {"module": type(self).__name__, "class_names": self.class_names, "tasks": self.tasks}

    def measured(self, part: str) -> dict[str, float] | None:
        return self.evaluated.get(part)

    def write_results(self, part: str, run: RunFolder, data: Any) -> None:
        """The detections of every video, in the form of ActivityNet's evaluator."""
        write_detections(run.path / f"{part}_detections.json", self.detections[part], data.annotations[part])

    @property
    def _windows_per_step(self) -> int:
        data = self.trainer.datamodule  # pyrefly: ignore[missing-attribute]
        return data.batch_size * self.trainer.accumulate_grad_batches

    def _build(self) -> None:
        assert self.in_channels is not None and self.windows is not None
        counts = self.num_classes if self.class_head else None
        windows = self.windows
        self.network = BoundaryMatchingNetwork(
            self.in_channels, windows.num_bins, windows.max_bins, num_classes=counts, **self.sizes
        )
        self.hparams.update(
            in_channels=self.in_channels, windows=asdict(windows), num_classes=None if counts is None else list(counts)
        )

    def _agree(self, name: str, ours: Any, theirs: Any) -> None:
        if ours is not None and ours != theirs:
            raise ValueError(
                f"the model has {name}={ours} and the data {theirs}; leave --model.{name} out to take it from the data, or "
                "train anew"
            )

    def _evaluate(self, part: str, batch: list[VideoWindows]) -> None:
        for video in batch:
            inputs = video["features"]
            batches = [
                self(inputs[begin : begin + _WINDOWS_AT_ONCE]) for begin in range(0, len(inputs), _WINDOWS_AT_ONCE)
            ]
            # Drawn alike in every epoch, so that the loss tells epochs apart.
            generator = torch.Generator().manual_seed(0)
            for number, maps in enumerate(batches):
                place = slice(number * _WINDOWS_AT_ONCE, (number + 1) * _WINDOWS_AT_ONCE)
                losses = self.losses(maps, video["segments"][place], video["labels"][place], generator=generator)
                self._log_losses(part, losses, len(maps.start))
            assert self.windows is not None
            file, windows = video["file"], video["windows"]
            maps = video_maps(windows, batches, file)
            self.detections[part][video["name"]] = detections_of(maps, file, self.windows, windows, self.post)

    def _finish(self, part: str) -> None:
        data = self.trainer.datamodule  # pyrefly: ignore[missing-attribute]
        found = self.detections[part]
        annotations = data.annotations[part].of_videos(found)
        self.evaluated.pop(part, None)
        if not annotations.segments:  # as of the first videos alone, with limit_val_batches
            if not self.trainer.sanity_checking and self.trainer.is_global_zero:
                print(
                    f"note: nothing is annotated in the {len(found)} '{part}' videos that were evaluated, so they have no "
                    f"average precision; evaluate more videos with --trainer.limit_{part}_batches",
                    file=sys.stderr,
                )
            return
        metrics = detection_metrics(annotations, found)
        self.evaluated[part] = metrics | {"videos": len(found), "segments": len(annotations.segments)}
        for name, value in metrics.items():
            self.log(f"{part}/{name}", value, prog_bar=name == self.headline, rank_zero_only=True)

    def _log_losses(self, part: str, losses: Losses, size: int) -> None:
        shown = {"loss": losses.total}
        shown |= {name: getattr(losses, name) for name in ("boundary", "regression", "classification")}
        shown |= {"offsets": losses.offsets} if self.sizes["regression"] else {}
        shown |= {"classes": losses.classes} if self.class_head else {}
        for name, value in shown.items():
            key = name if name == "loss" else f"loss_{name}"
            self.log(
                f"{part}/{key}", value.detach(), prog_bar=name == "loss", batch_size=size, on_epoch=part != "train"
            )


def _plain(value: Any) -> Any:
    """Tuples as lists, as a configuration has them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
