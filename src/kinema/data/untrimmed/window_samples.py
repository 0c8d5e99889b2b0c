"""What `kinema.data.untrimmed.feature_data` hands out: windows to train on, and whole videos to evaluate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from kinema.data.untrimmed.feature_files import FeatureError, FeatureFile
from kinema.data.untrimmed.segments import Annotations, Segment
from kinema.data.untrimmed.windows import Window, Windows


class WindowBatch(TypedDict):
    """Training windows.

    Args:
        features: Stacked.
        segments: What happens in each window: start and end in bins.
        labels: Classes of these segments, one column per task.
        names: Video and start of each window, for messages.
    """

    features: Float[Tensor, "B D T"]
    segments: list[Float[Tensor, "G 2"]]
    labels: list[Int[Tensor, "G tasks"]]
    names: list[str]


class VideoWindows(TypedDict):
    """All windows of one video, for evaluation.

    Args:
        features: Stacked.
        windows: Where each lies.
        segments: As in `WindowBatch`, of each window.
        labels: As in `WindowBatch`, of each window.
        file: The feature file.
        name: Name of the video in the annotations.
    """

    name: str
    features: Float[Tensor, "W D T"]
    windows: list[Window]
    segments: list[Float[Tensor, "G 2"]]
    labels: list[Int[Tensor, "G tasks"]]
    file: FeatureFile


@dataclass(frozen=True)
class TrainWindow:
    """Where a window lies."""

    video: str
    window: Window


class WindowSource(Protocol):
    """What samples are made from: `kinema.data.untrimmed.feature_data.FeatureData`."""

    @property
    def annotations(self) -> Mapping[str, Annotations]: ...
    @property
    def windows(self) -> Windows: ...
    def file(self, video: str) -> FeatureFile: ...
    def columns(self, video: str, window: Window) -> Tensor: ...
    def targets_of(self, segments: Sequence[Segment], window: Window) -> tuple[Tensor, Tensor]: ...


class TrainWindows(Dataset):
    """Windows of the training videos: columns, segments in bins, their classes, and a name for messages."""

    def __init__(self, data: WindowSource, places: list[TrainWindow]) -> None:
        self.data, self.places = data, places
        self.by_video = data.annotations["train"].by_video()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, str]:
        place = self.places[key[1]]
        columns = self.data.columns(place.video, place.window)
        segments, labels = self.data.targets_of(self.by_video[place.video], place.window)
        return columns, segments, labels, f"{place.video} from {place.window.start:g} s"


class WholeVideos(Dataset):
    """Videos of a part, each with all windows that show something of it."""

    def __init__(self, data: WindowSource, part: str) -> None:
        self.data = data
        self.by_video = data.annotations[part].by_video()
        self.videos = list(self.by_video)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> VideoWindows:
        video = self.videos[key[1]]
        file = self.data.file(video)
        windows = self.data.windows.seen(file)
        if not windows:
            raise FeatureError(
                f"{video}: no clip lies within the {file.duration:g} s of the video; write the file anew"
            )
        columns = [self.data.windows.sample(file.features, file, window) for window in windows]
        targets = [self.data.targets_of(self.by_video[video], window) for window in windows]
        return {
            "name": video,
            "features": torch.stack([column for column in columns if column is not None]),
            "windows": windows,
            "segments": [segments for segments, _ in targets],
            "labels": [labels for _, labels in targets],
            "file": file,
        }


def collate_windows(samples: list[tuple[Tensor, Tensor, Tensor, str]]) -> WindowBatch:
    """Put training windows in one batch."""
    features, segments, labels, names = zip(*samples, strict=True)
    return {
        "features": torch.stack(features),
        "segments": list(segments),
        "labels": list(labels),
        "names": list(names),
    }
