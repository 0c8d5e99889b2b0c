"""From a run back to a model that predicts."""

from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from kinema.data.clips import EvalClips
from kinema.data.datamodule import VideoDataModule
from kinema.evaluation.task_views import joint_scores
from kinema.training.classifier import VideoClassifier
from kinema.training.record import checkpoint_of, find_run


def load_classifier(path: str | Path) -> VideoClassifier:
    """Build the LightningModule that wrote a checkpoint, with its weights and class names, in evaluation mode.

    The file is read as data (`weights_only=True`) and its class is looked up among kinema's own, so that a checkpoint
    can name no code to run.

    Raises:
        ValueError: If the file is no checkpoint of kinema.
    """
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
    module: VideoClassifier = kind(**hparams)
    module.load_state_dict(weights)
    module.class_names, module.tasks = facts["class_names"], facts.get("tasks", {})
    return module.eval()


@dataclass(frozen=True)
class Predictor:
    """A trained classifier with the way its run cut test clips.

    Args:
        module: The classifier.
        clips: All views of a video, as in the run's validation.
        checkpoint: Where the weights came from.
    """

    module: VideoClassifier
    clips: EvalClips
    checkpoint: Path | None = None

    @classmethod
    def from_run(cls, path: str | Path, *, which: str = "last", device: str | torch.device = "cpu") -> "Predictor":
        """Load a run folder, or the newest run below a folder."""
        checkpoint = checkpoint_of(path, which)
        run = find_run(checkpoint.parents[1])
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        module = load_classifier(checkpoint).to(device)
        return cls(module, _data_of(config["data"]).eval_clips, checkpoint)

    @property
    def class_names(self) -> list[str]:
        if self.module.tasks:  # every combination, in the order of the flat scores
            return [" ".join(names) for names in product(*self.module.tasks.values())]
        if self.module.class_names:
            return self.module.class_names
        count = self.module.num_classes
        return [str(label) for label in range(count if isinstance(count, int) else 0)]

    @torch.inference_mode()
    def __call__(self, source: str | Path | bytes) -> Tensor:
        """Scores of one video, averaged over its views as in validation; probabilities that sum to 1.

        Where the network has several classifiers, of every combination of their classes.

        Raises:
            DecodeError: If the video cannot be decoded.
        """
        views = torch.stack([view.pixels for view in self.clips(source)]).to(self.module.device)
        logits = self.module(self.module.normalise(views))
        if isinstance(logits, tuple):
            parts = [part.double() for part in logits]
            if self.module.average == "logits":
                parts = [part.mean(0, keepdim=True) for part in parts]
            return joint_scores([part.softmax(1) for part in parts]).flatten().cpu()
        logits = logits.double()
        if self.module.average == "logits":
            return logits.mean(0).softmax(0).cpu()
        return logits.softmax(1).mean(0).cpu()


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
