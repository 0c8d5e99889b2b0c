"""A trained classifier as what slides over whole videos: its network, the crops of its run, and clips on a grid."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.data.published_sampling import PublishedScheme
from kinema.data.sampling import FrameScheme
from kinema.data.transforms import EvalTransform, NumCrops
from kinema.data.untrimmed.clip_grid import ClipGrid, frames_apart
from kinema.data.untrimmed.feature_files import FeatureFile
from kinema.localization.extraction import ClassifierFeatures, described, extract
from kinema.training.restore import Predictor


@dataclass(frozen=True)
class Extractor:
    """What slides, how, and what must be known of it.

    Args:
        embed: The network.
        transform: Which crops of a clip.
        grid: Where clips lie.
        model: Name of the network.
        weights: Hash of the file of its weights.
        class_names: Names of its classes by id, of every task where it has several; the task is "" where it has one. Empty
            where they are not known.
    """

    embed: ClassifierFeatures
    transform: EvalTransform
    grid: ClipGrid
    model: str
    weights: str
    class_names: Mapping[str, Sequence[str]]

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        *,
        stride: int = 8,
        clip_frames: int | None = None,
        frame_interval: int | None = None,
        target_fps: float | None = None,
        num_crops: NumCrops = 1,
    ) -> "Extractor":
        """The classifier of a predictor, its clips as that cuts them where nothing else is said.

        Args:
            predictor: A trained classifier.
            stride: Frames from one clip to the next.
            clip_frames, frame_interval, target_fps: See `ClipGrid`; those of the classifier when None.
            num_crops: Crops of each clip.

        Raises:
            ValueError: If the classifier takes segments of whole videos, so that it does not say how far frames lie apart,
                or they are not a whole number of frames apart, and `frame_interval` says nothing.
        """
        scheme, module = predictor.clips.scheme, predictor.module
        if frame_interval is None:
            frame_interval = _interval(scheme)
        if target_fps is None:
            target_fps = getattr(scheme, "target_fps", None)
        grid = ClipGrid(clip_frames or scheme.num_frames, frame_interval, stride, target_fps)
        transform = EvalTransform(predictor.clips.transform.size, predictor.clips.transform.resize, num_crops)
        tasks = list(module.tasks)
        if not tasks and isinstance(module.num_classes, tuple):
            tasks = (
                ["verb", "noun"] if len(module.num_classes) == 2 else [str(n) for n in range(len(module.num_classes))]
            )
        embed = ClassifierFeatures(module.network, module.normalise, tasks=tasks, device=module.device)
        assert predictor.checkpoint is not None, "weights come from a file"
        names = module.tasks or ({} if module.class_names is None else {"": module.class_names})
        return cls(embed, transform, grid, module.model_name, _hash(predictor.checkpoint), names)

    @property
    def facts(self) -> dict[str, Any]:
        """What makes its features another's: for `extract_all`."""
        names = {task: list(names) for task, names in self.class_names.items()}
        return {"model": self.model, "weights": self.weights, "classes": names}

    @property
    def described(self) -> dict[str, Any]:
        """How its features are made, as `extraction.json` holds it."""
        return described(self.grid, self.transform, self.facts)

    def __call__(self, video: str | Path, **options: Any) -> FeatureFile:
        """The features of one video; options of `kinema.localization.extraction.extract`.

        Raises:
            DecodeError: If the video cannot be decoded.
        """
        return extract(video, self.embed, self.grid, self.transform, model=self.model, **options)


def _interval(scheme: FrameScheme | PublishedScheme) -> int:
    apart = frames_apart(scheme)
    if apart is None:
        raise ValueError(
            f"the classifier takes {scheme.num_frames} segments of each whole video, so it does not say how far the frames of "
            "a clip lie apart; give --frame-interval, such as 4"
        )
    if apart.denominator != 1:
        raise ValueError(
            f"the frames of the classifier's clips lie {float(apart):.4g} apart, and a grid takes whole numbers; give one as "
            f"--frame-interval, such as {max(round(apart), 1)}"
        )
    return int(apart)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
