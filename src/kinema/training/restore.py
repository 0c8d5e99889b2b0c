"""From a run back to a model that predicts."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.checkpoints import load_checkpoint
from kinema.data.clips import EvalClips
from kinema.data.datamodule import VideoDataModule
from kinema.data.transforms import Normalisation
from kinema.evaluation.task_views import joint_scores
from kinema.training.classifier import VideoClassifier
from kinema.training.record import checkpoint_of, find_run


class NonFiniteScoresError(ValueError):
    """Scores that are no numbers, of which the best class would be any."""


def need_finite(scores: Float[Tensor, " K"], name: str) -> Float[Tensor, " K"]:
    """The scores as they are.

    Args:
        scores: Of every class.
        name: What they are of.

    Raises:
        NonFiniteScoresError: If one is infinite or no number.
    """
    wrong = int((~scores.isfinite()).sum())
    if wrong:
        raise NonFiniteScoresError(
            f"{name}: {wrong} of {len(scores)} scores are not finite numbers, so no class is named; the weights hold such "
            "numbers or give them, as behind a training that diverged: use another checkpoint"
        )
    return scores


def load_classifier(path: str | Path) -> VideoClassifier:
    """Build the LightningModule that wrote a checkpoint, with its weights and class names, in evaluation mode.

    The file is read as data (`weights_only=True`) and its class is looked up among kinema's own, so that a checkpoint
    can name no code to run.

    Raises:
        ValueError: If the file is no checkpoint of kinema, or that of a localizer.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[VideoClassifier, dict[str, Any], int]:
    """The module of a checkpoint, what else kinema has written into it, and how many epochs it has done."""
    import kinema.training as modules

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        facts, hparams, weights = checkpoint["kinema"], checkpoint["hyper_parameters"], checkpoint["state_dict"]
        kind = getattr(modules, facts["module"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no checkpoint written by kinema ({error!r} is missing); "
            "for weights of other code bases use kinema.load_checkpoint"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, VideoClassifier)):
        raise ValueError(
            f"{path} is a localizer ({facts['module']}), and a classifier is needed; give the run of the classifier whose "
            "features it learnt on"
        )
    module: VideoClassifier = kind(**hparams)
    module.load_state_dict(weights)
    module.class_names, module.tasks = facts.get("class_names"), facts.get("tasks", {})
    return module.eval(), facts, _epochs_done(checkpoint)


def _epochs_done(checkpoint: Mapping[str, Any]) -> int:
    """Whole epochs behind a checkpoint, which may have been written in the middle of one."""
    try:
        return checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except KeyError:
        return checkpoint.get("epoch", -1) + 1


@dataclass(frozen=True)
class Predictor:
    """A trained classifier with the way its run cut test clips.

    Args:
        module: The classifier.
        clips: All views of a video, as in the run's validation.
        checkpoint: Where the weights came from.
        notes: What a user should know of it: that class names are missing, or that training has not ended.
    """

    module: VideoClassifier
    clips: EvalClips
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_run(cls, path: str | Path, *, which: str = "last", device: str | torch.device = "cpu") -> "Predictor":
        """Load a run folder, or the newest run below a folder."""
        return cls.from_checkpoint(checkpoint_of(path, which), device=device)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, *, clips: EvalClips | None = None, device: str | torch.device = "cpu"
    ) -> "Predictor":
        """Load a checkpoint of kinema, in its run or taken out of it.

        Args:
            path: The file.
            clips: How to cut clips. When None as its run says, whose configuration stands two folders above; else as the
                checkpoint says.
            device: Where to predict.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint of kinema, or nothing says how its clips are cut.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint file {path}; give a .ckpt file that 'kinema fit' wrote")
        module, facts, done = _read(path)
        file = path.absolute().parent.parent / "config.yaml"
        config = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if clips is None and config:
            clips = _data_of(config["data"]).eval_clips
        if clips is None and facts.get("clips"):
            clips = EvalClips.from_facts(facts["clips"])
        if clips is None:
            raise ValueError(
                f"{path} was taken out of its run and is older than checkpoints that say how clips are cut; put it back, as "
                "RUN/checkpoints/NAME.ckpt, or say the number of frames and their size (--num-frames and --size)"
            )
        notes = (*without_names(module, path), *_unfinished(config.get("trainer", {}), done, path))
        return cls(module.to(device), clips, path, notes)

    @classmethod
    def from_weights(
        cls,
        path: str | Path,
        model: str,
        num_classes: int | Sequence[int],
        clips: EvalClips,
        *,
        options: Mapping[str, Any] | None = None,
        normalisation: Normalisation | None = None,
        class_names: Sequence[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> "Predictor":
        """Load weights in any layout that kinema reads, such as those that the authors of a network published.

        Args:
            path: The file.
            model: Name of the network, see `kinema.list_models()`.
            num_classes: Of these weights.
            clips: How to cut clips: as the authors do, or scores are not theirs.
            options: Of the network.
            normalisation: That of the authors.
            class_names: In the authors' order.
            device: Where to predict.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the weights are not of this network, or there are as many names as there are not classes.
        """
        module = VideoClassifier(
            model, num_classes, {**(options or {}), "num_frames": clips.scheme.num_frames}, normalisation=normalisation
        )
        load_checkpoint(module.network, path)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"{len(class_names)} class names were given for num_classes={num_classes}; give one for each"
            )
        module.class_names = None if class_names is None else list(class_names)
        notes = (
            ()
            if class_names is not None
            else ("weights hold no class names, so numbers are shown; name them by --classes",)
        )
        return cls(module.eval().to(device), clips, Path(path), notes)

    @property
    def class_names(self) -> list[str]:
        """Names by id; numbers where nothing says them. Several classifiers: every combination, in the order of scores."""
        if self.module.tasks:
            return [" ".join(names) for names in product(*self.module.tasks.values())]
        if self.module.class_names:
            return self.module.class_names
        count = self.module.num_classes
        return [str(label) for label in range(count if isinstance(count, int) else prod(count or ()))]

    def cutting(self, source: str | Path | bytes) -> EvalClips:
        """How this source is cut: where the run was trained on folders of pictures, a file is a video all the same."""
        if self.clips.cache is None or (not isinstance(source, bytes) and Path(source).is_dir()):
            return self.clips
        clips = copy.copy(self.clips)
        clips.cache = None
        return clips

    @torch.inference_mode()
    def __call__(self, source: str | Path | bytes) -> Float[Tensor, " K"]:
        """Scores of one video, averaged over its views as in validation; probabilities that sum to 1.

        Where the network has several classifiers, of every combination of their classes.

        Raises:
            DecodeError: If the video cannot be decoded.
            NonFiniteScoresError: If the network gives no numbers for it.
        """
        views = torch.stack([view.pixels for view in self.cutting(source)(source)])
        return self.scores(views, name="the video" if isinstance(source, bytes) else str(source))

    @torch.inference_mode()
    def scores(self, views: UInt8[Tensor, "V C T H W"], *, name: str = "a clip") -> Float[Tensor, " K"]:
        """Scores of one video from its views.

        Args:
            views: Its clips.
            name: What they are of, for the message.

        Raises:
            NonFiniteScoresError: If a score is not finite.
        """
        return need_finite(self._scores(views), name)

    def _scores(self, views: UInt8[Tensor, "V C T H W"]) -> Float[Tensor, " K"]:
        logits = self.module(self.module.normalise(views.to(self.module.device)))
        if isinstance(logits, tuple):
            parts = [part.double() for part in logits]
            if self.module.average == "logits":
                parts = [part.mean(0, keepdim=True) for part in parts]
            return joint_scores([part.softmax(1) for part in parts]).flatten().cpu()
        logits = logits.double()
        if self.module.average == "logits":
            return logits.mean(0).softmax(0).cpu()
        return logits.softmax(1).mean(0).cpu()


def without_names(module: VideoClassifier, path: Path) -> tuple[str, ...]:
    if module.class_names or module.tasks:
        return ()
    return (f"{path.name} was written without the names of its classes, so numbers are shown; name them by --classes",)


def _unfinished(trainer: Mapping[str, Any], done: int, path: Path) -> tuple[str, ...]:
    """What to say of a run that has not come to its last epoch: it trains still, or was stopped."""
    wanted, last = trainer.get("max_epochs"), path.with_name("last.ckpt")
    if not wanted or wanted < 1 or (trainer.get("max_steps") or -1) > 0:
        return ()
    reached = done
    if path.name != last.name and last.is_file():  # the best epoch may be any
        reached = _epochs_done(torch.load(last, map_location="cpu", weights_only=True, mmap=True))
    if reached >= wanted:
        return ()
    which = f"behind epoch {done}" if done else "from before the end of the first epoch"
    return (f"training has not ended, it has done {reached} of {wanted} epochs; {path.name} holds the weights {which}",)


def data_of_run(path: str | Path) -> VideoDataModule:
    """The data that a run was trained on, set up: its manifests and loaders.

    Data that kinema makes is made if it is not there; other data must lie where the run's configuration says.

    Args:
        path: A run folder, or a folder of runs, of which the newest is taken.
    """
    config = yaml.safe_load(find_run(path).config.read_text(encoding="utf-8"))
    data = _data_of(config["data"])
    data.prepare_data()
    data.setup("validate")
    return data


def _data_of(config: dict[str, Any]) -> VideoDataModule:
    module, _, name = config["class_path"].rpartition(".")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, VideoDataModule)):
        raise ValueError(f"the run's data class {config['class_path']} is no VideoDataModule; correct its config.yaml")
    return kind(**config["init_args"])
