"""From a raw video to its segments: a classifier's features, a localizer's proposals, and names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from kinema.data.untrimmed.clip_grid import ClipGrid
from kinema.data.untrimmed.feature_files import SUFFIX, FeatureFile, describe
from kinema.data.untrimmed.reach import told_of_unseen
from kinema.localization.extraction import read_facts
from kinema.localization.segment_files import FoundSegment
from kinema.training.bmn import BMN
from kinema.training.extractor import Extractor
from kinema.training.record import find_run
from kinema.training.restore import Predictor

_RATE_APART = 0.1
_UNSURE = 0.2
_FILES_LOOKED_AT = 20


@dataclass(frozen=True)
class Localizer:
    """Finds what happens when in a video file.

    Args:
        extractor: The classifier, sliding as it did for the features that the network learnt on.
        network: The trained network.
        names: What classes are called, by the id that is a detection's label.
        fps: Frames per second of the videos that the network learnt on; None where no feature file tells.
    """

    extractor: Extractor
    network: BMN
    names: Callable[[Any], str]
    fps: float | None = None

    @classmethod
    def of_runs(
        cls,
        classifier: str | Path | Predictor,
        localizer: str | Path,
        *,
        features: str | Path | None = None,
        which: str = "last",
        device: str = "cpu",
    ) -> "Localizer":
        """Load both runs; clips lie and are cut as in the features that the localizer learnt on.

        Args:
            classifier: The run whose features the localizer learnt on, or what `Predictor` made of a checkpoint or of weights.
            localizer: A run of `kinema.training.BMN`, or a checkpoint of one.
            features: The folder of these features; where the localizer's run found them when None. A checkpoint that was taken
                out of its run does not say it.
            which: Which checkpoint of the runs, `last` or `best`.
            device: Where networks run.

        Raises:
            FileNotFoundError: If a run, its checkpoint, or `extraction.json` beside the features is not there.
            ValueError: If the localizer learnt on the features of other weights.
        """
        network = BMN.from_run(localizer, which=which, device=device)
        folder = _features_of(localizer) if features is None else Path(features)
        facts = read_facts(folder)
        grid = ClipGrid(**facts["grid"])
        if not isinstance(classifier, Predictor):
            classifier = Predictor.from_run(classifier, which=which, device=device)
        extractor = Extractor.of(
            classifier,
            stride=grid.stride,
            clip_frames=grid.clip_frames,
            frame_interval=grid.frame_interval,
            target_fps=grid.target_fps,
            num_crops=facts["transform"]["num_crops"],
        )
        other = [name for name, value in extractor.described.items() if facts.get(name) != value]
        if other:
            found = "; ".join(f"{name}: {facts.get(name)} there, {extractor.described[name]} here" for name in other)
            raise ValueError(
                f"the localizer {localizer} learnt on features that {classifier.checkpoint} does not give ({found}); give the "
                f"classifier that made those in {folder}, or train a localizer on features of this one"
            )
        return cls(extractor, network, _namer(network), _rate_of(folder))

    @property
    def facts(self) -> dict[str, Any]:
        """What the results of a video say of the networks."""
        facts = {name: value for name, value in self.extractor.described.items() if name != "classes"}
        return {"classifier": facts}

    def __call__(self, video: str | Path, **options: Any) -> tuple[FeatureFile, list[FoundSegment]]:
        """The features of a video and its segments, best first; options of `kinema.localization.extraction.extract`.

        Raises:
            DecodeError: If the video cannot be decoded.
            FeatureError: If its features are not finite.
            BrokenMapsError: If what the localizer says of it is not.
        """
        file = self.extractor(video, **options)
        found = self.network.propose(file)
        return file, [FoundSegment(each.start, each.end, self.names(each.label), each.score) for each in found]

    def notes(self, file: FeatureFile, segments: Sequence[FoundSegment]) -> list[str]:
        """What one should know of the segments of a video before one trusts them, a sentence each."""
        told = []
        if round(file.duration * file.fps) < file.clip_frames:
            told.append(
                f"it lasts {file.duration:.2f} s and a clip {file.clip_frames / file.fps:.2f} s; its first and last frame are "
                "repeated, and little can be found"
            )
        if self.fps is not None and abs(file.fps / self.fps - 1) > _RATE_APART:
            told.append(
                f"it has {file.fps:g} frames per second, and the localizer learnt on videos of {self.fps:g}, so everything "
                f"seems {'slower' if file.fps > self.fps else 'faster'}; encode it at that rate, or learn on features of "
                "'kinema features --target-fps'"
            )
        windows = self.network.windows
        assert windows is not None
        told += told_of_unseen([file], windows, "this video")
        best = max((each.score for each in segments), default=_UNSURE)
        if best < _UNSURE:
            told.append(f"its best score is {best:.2g}, so no segment is sure")
        return told


def _features_of(run: str | Path) -> Path:
    path = Path(run).expanduser().absolute()
    if path.is_file():
        found = path.parent.parent / "config.yaml"
        if not found.is_file():
            raise FileNotFoundError(
                f"the localizer {run} is a checkpoint that was taken out of its run, which says on which features it learnt; "
                "say with --features in which folder these lie, or give the run"
            )
    else:
        found = find_run(path).config
    config = yaml.safe_load(found.read_text(encoding="utf-8"))
    root = Path(config["data"]["init_args"]["root"]).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"the localizer {run} learnt on the features in {root}, which are not there; say where they lie now with --features"
        )
    return root


def _rate_of(features: Path) -> float | None:
    files = sorted(features.glob(f"*{SUFFIX}"))[:_FILES_LOOKED_AT]
    return median(describe(path).fps for path in files) if files else None


def _namer(network: BMN) -> Callable[[Any], str]:
    names, tasks = network.class_names, list(network.tasks.values())

    def name(label: Any) -> str:
        if label is None:
            return "something"
        if isinstance(label, tuple):
            return " ".join(of_task[part] for of_task, part in zip(tasks, label, strict=True))
        return str(label) if not names else names[label]

    return name
