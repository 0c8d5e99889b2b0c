"""Feature files: what a network saw along a whole video, one safetensors file per video.

A network slides over the video with clips of `clip_frames` frames, one every `stride` frames. Of each clip the file holds the
features, the seconds it covers, and, where the network is a classifier, the scores of its classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

SUFFIX = ".safetensors"
CLASSES = "classes.txt"
"""Beside the feature files: the names of the classes of their scores, one a line in the order of the scores."""
TIMES = ("starts", "centers", "ends")
LOGITS = "logits"
_TEXTS = ("video", "model", "commit")
NUMBERS = ("duration", "fps", "stride", "clip_frames")


class FeatureError(ValueError):
    """A feature file that cannot be used as it is; the text names the file, what is wrong, and the way out."""


@dataclass(frozen=True)
class FeatureFile:
    """What a network saw along one video.

    Args:
        video: Name of the video; the file is `<video>.safetensors`.
        features: One row per clip, in the order of time.
        starts: Second at which each clip begins.
        centers: Second of the middle of each clip.
        ends: Second at which each clip ends.
        duration: Length of the video in seconds.
        fps: Frames per second the clips were cut at.
        stride: Frames from one clip to the next.
        clip_frames: Frames of the video that a clip covers.
        model: Which network, in words.
        commit: Commit of the code that wrote the file; empty when unknown.
        logits: Class scores of each clip before any softmax: one matrix, or one per task ("verb", "noun"); None without.

    Raises:
        FeatureError: If shapes disagree, there is no clip, clips are out of order, or a number is not finite.
    """

    video: str
    features: Float[Tensor, "N D"]
    starts: Float[Tensor, " N"]
    centers: Float[Tensor, " N"]
    ends: Float[Tensor, " N"]
    duration: float
    fps: float
    stride: float
    clip_frames: int
    model: str = ""
    commit: str = ""
    logits: Float[Tensor, "N K"] | Mapping[str, Float[Tensor, "N K"]] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or not self.features.numel():
            raise FeatureError(
                f"{self.video}: the features have shape {tuple(self.features.shape)}; (clips, channels) with at least one of "
                "each was expected"
            )
        _check_clips(self, len(self.features))
        for name, scores in self.tensors_of_logits().items():
            if scores.ndim != 2 or len(scores) != len(self.features):
                raise FeatureError(
                    f"{self.video}: {name} has shape {tuple(scores.shape)} and there are {len(self.features)} clips; one row "
                    "of class scores per clip was expected"
                )
        for name, tensor in {"features": self.features, **self.tensors_of_logits()}.items():
            check_finite(self.video, name, tensor)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        """Channels D of the features."""
        return self.features.shape[1]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks its class scores are of; empty where they are of one, or absent."""
        return list(self.logits) if isinstance(self.logits, Mapping) else []

    def tensors_of_logits(self) -> dict[str, Tensor]:
        """Class scores under their names in the file."""
        if self.logits is None:
            return {}
        if isinstance(self.logits, Mapping):
            return {f"{LOGITS}.{task}": scores for task, scores in self.logits.items()}
        return {LOGITS: self.logits}


def _check_clips(file: "FeatureFile | FeatureFacts", count: int) -> None:
    for name in TIMES:
        times: Tensor = getattr(file, name)
        if times.shape != (count,):
            raise FeatureError(
                f"{file.video}: {name} has shape {tuple(times.shape)} and there are {count} clips; one second per clip was "
                "expected"
            )
        # Clips at either end of a video may be cut short, so only middles must differ.
        steps = times.diff()
        if not bool(torch.isfinite(times).all()) or bool((steps <= 0 if name == "centers" else steps < 0).any()):
            raise FeatureError(f"{file.video}: {name} must be finite and rise from clip to clip")
    if bool((file.starts > file.centers).any() or (file.centers > file.ends).any()):
        raise FeatureError(f"{file.video}: a clip must start before its middle and end behind it")
    for name in NUMBERS:
        if not (math.isfinite(getattr(file, name)) and getattr(file, name) > 0):
            raise FeatureError(f"{file.video}: {name} is {getattr(file, name)}; a number above 0 was expected")


def feature_path(folder: str | Path, video: str) -> Path:
    """Where the feature file of a video lies.

    Raises:
        FeatureError: If the name of the video would lead out of the folder.
    """
    if not video or Path(video).name != video or video in (".", ".."):
        raise FeatureError(f"'{video}' is no name of a video; a file name without folders was expected")
    return Path(folder) / f"{video}{SUFFIX}"


def read(path: str | Path) -> FeatureFile:
    """Read one feature file.

    Raises:
        FileNotFoundError: If there is no such file.
        FeatureError: If it is damaged, or something is missing or wrong in it.
    """
    path = Path(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    _need(path, metadata, set(tensors))
    try:
        return FeatureFile(
            video=metadata["video"],
            features=tensors["features"],
            **{name: tensors[name].double() for name in TIMES},
            **_numbers(metadata),
            model=metadata.get("model", ""),
            commit=metadata.get("commit", ""),
            logits=_logits(tensors),
        )
    except (FeatureError, ValueError, OverflowError) as error:
        raise FeatureError(f"{path}: {error}") from error


@dataclass(frozen=True)
class FeatureFacts:
    """What a feature file holds, told without reading its features.

    Args:
        video: Name of the video.
        dim: Channels of the features.
        starts, centers, ends: Seconds of each clip.
        num_classes: Classes of its scores by task, "" where there is one; empty without scores.
        duration: Length of the video in seconds.
        fps: Frames per second the clips were cut at.
        stride: Frames from one clip to the next.
        clip_frames: Frames of the video that a clip covers.

    Raises:
        FeatureError: As for `FeatureFile`.
    """

    video: str
    dim: int
    starts: Float[Tensor, " N"]
    centers: Float[Tensor, " N"]
    ends: Float[Tensor, " N"]
    num_classes: dict[str, int]
    duration: float
    fps: float
    stride: float
    clip_frames: int

    def __post_init__(self) -> None:
        _check_clips(self, len(self.centers))


def describe(path: str | Path) -> FeatureFacts:
    """What a feature file holds.

    Raises:
        FileNotFoundError, FeatureError: As for `read`, but for what its features and class scores hold.
    """
    path = Path(path)
    with _opened(path) as file:
        metadata, names = file.metadata() or {}, set(file.keys())
        _need(path, metadata, names)
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(names)}
        times = {name: file.get_tensor(name).double() for name in TIMES}
    widths = {}
    for name, shape in shapes.items():
        if name != "features" and not name.startswith(LOGITS):
            continue
        if len(shape) != 2 or shape[0] != len(times["centers"]) or not shape[1]:
            raise FeatureError(
                f"{path}: {name} has shape {shape} and there are {len(times['centers'])} clips; one row per clip was expected"
            )
        if name != "features":
            widths[name.removeprefix(LOGITS).removeprefix(".")] = shape[1]
    try:
        return FeatureFacts(metadata["video"], shapes["features"][1], **times, num_classes=widths, **_numbers(metadata))
    except (FeatureError, ValueError, OverflowError) as error:
        raise FeatureError(f"{path}: {error}") from error


def describe_video(folder: str | Path, video: str) -> FeatureFacts:
    """What the feature file of a video holds.

    Raises:
        FileNotFoundError, FeatureError: As for `describe`; also if the file says that it is of another video.
    """
    path = feature_path(folder, video)
    facts = describe(path)
    _need_video(path, facts.video, video)
    return facts


def read_rows(folder: str | Path, video: str, rows: slice, *, count: int) -> Float[Tensor, "M D"]:
    """Read the features of some clips of a video alone.

    Args:
        folder, video: As for `read_video`.
        rows: Which clips, one after another.
        count: Clips of the whole file.

    Raises:
        FileNotFoundError: If there is no such file.
        FeatureError: If it is damaged, holds another number of clips, or these features are not finite.
    """
    path = feature_path(folder, video)
    with _opened(path) as file:
        features = file.get_slice("features")
        if features.get_shape()[0] != count:
            raise FeatureError(
                f"{path}: there were {count} clips and are {features.get_shape()[0]} now; start again with this file"
            )
        found = features[rows]
    check_finite(video, "features", found, first=rows.start)
    return found


def check_finite(video: str, name: str, tensor: Float[Tensor, "M D"], *, first: int = 0) -> None:
    """Refuse rows of features or class scores that are no numbers; `first` is the clip of the first row.

    Raises:
        FeatureError: If there are some.
    """
    if not bool(torch.isfinite(tensor).all()):
        rows = (~torch.isfinite(tensor).all(1)).nonzero()[:, 0].tolist()
        raise FeatureError(
            f"{video}: {name} of {len(rows)} clips are not finite, first of clip {first + rows[0]}; write the file anew"
        )


def read_video(folder: str | Path, video: str) -> FeatureFile:
    """Read the feature file of a video from a folder.

    Raises:
        FileNotFoundError, FeatureError: As for `read`; also if the file says that it is of another video.
    """
    path = feature_path(folder, video)
    file = read(path)
    _need_video(path, file.video, video)
    return file


def _need_video(path: Path, found: str, video: str) -> None:
    if found != video:
        raise FeatureError(f"{path}: the file is of the video '{found}'; it was renamed, write it anew")


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no feature file {path}; write it with 'kinema features'")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise FeatureError(f"{path} is no safetensors file, or a damaged one ({error}); write it anew") from error


def _need(path: Path, metadata: Mapping[str, str], names: set[str]) -> None:
    missing = {*TIMES, "features"} - names | {*_TEXTS[:1], *NUMBERS} - set(metadata)
    if missing:
        raise FeatureError(
            f"{path}: {', '.join(sorted(missing))} missing; a feature file of kinema was expected, it holds "
            f"{', '.join(sorted(names))}"
        )


def _numbers(metadata: Mapping[str, str]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name in NUMBERS:
        try:
            numbers[name] = float(metadata[name])
        except ValueError:
            raise FeatureError(f"{name} is '{metadata[name]}'; a number was expected") from None
    numbers["clip_frames"] = int(numbers["clip_frames"])
    return numbers


def _logits(tensors: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor] | None:
    if LOGITS in tensors:
        return tensors[LOGITS]
    tasks = {name.removeprefix(f"{LOGITS}."): tensor for name, tensor in tensors.items() if name.startswith(LOGITS)}
    return {task: tasks[task] for task in sorted(tasks, key=lambda task: (task != "verb", task))} or None
