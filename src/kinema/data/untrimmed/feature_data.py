"""Windows of features for temporal action localization, as a LightningDataModule."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from lightning import LightningDataModule
from torch import Tensor

from kinema.data.loader import EpochBatches, ResumableLoader
from kinema.data.untrimmed.feature_files import (
    CLASSES,
    SUFFIX,
    FeatureError,
    FeatureFacts,
    FeatureFile,
    describe,
    describe_video,
    feature_path,
    read_rows,
    read_video,
)
from kinema.data.untrimmed.reach import times_of, told_of_hop, told_of_long, told_of_lost, told_of_unseen
from kinema.data.untrimmed.segments import Annotations, Faults, Segment, checked, read_activitynet, refuse_or_count
from kinema.data.untrimmed.window_samples import TrainWindow, TrainWindows, WholeVideos, collate_windows
from kinema.data.untrimmed.windows import Placing, Window, Windows, in_bins, inside

Part = Literal["train", "val", "test"]

_SLACK_S = 1.0
"""Seconds by which a video may be shorter or longer than a list says: lists round, or were made from other files of it."""


class FeatureData(LightningDataModule):
    """Feature files of whole videos and the segments annotated in them.

    A window without a whole segment is no training window, and one that shows no clip is none at all. Told in `notes` is how
    many these are, how many segments lie in no training window, and how many are longer than any proposal.

    Args:
        root: Folder of the feature files, `<video>.safetensors`.
        annotations: A JSON file in the form of ActivityNet and HACS Segments, or the folder of EPIC-KITCHENS-100's lists.
        num_bins: Bins T of a window.
        max_bins: Bins D of the longest proposal.
        bin_s: Seconds of one bin; None stretches each whole video to T bins, as on ActivityNet and HACS. EPIC-KITCHENS-100
            has windows of 200 bins of 0.266667 s and proposals of up to 100.
        hop_bins: Bins from one window to the next; `max_bins` when None.
        placing: What a bin shows; see `kinema.data.untrimmed.windows.Windows`.
        classes: File of the class names in the order of the class scores, one a line. When None, `classes.txt` among the
            features, which `kinema features` writes; an annotated class that it does not name is a fault where features have
            class scores. Without either, sorted names.
        parts: Which subsets of the annotations are train, val and test; test is val where it has no segment.
        missing: Whether a video without a feature file is refused, or left out and counted.
        faults: Whether faulty segments are refused, or left out and counted.
        prefix: What stands before the names of videos in the names of files, such as `v_` for ActivityNet.
        batch_size: Training windows of a batch on one process.
        num_workers: Worker processes of each loader.
        in_memory: Read every file once and keep it.
        seed: Seed of the order of windows; that of the run when None.
    """

    def __init__(
        self,
        root: str,
        annotations: str,
        *,
        num_bins: int = 100,
        max_bins: int = 100,
        bin_s: float | None = None,
        hop_bins: int | None = None,
        placing: Placing = "time",
        classes: str | None = None,
        parts: tuple[str, str, str] = ("train", "val", "test"),
        missing: Faults = "refuse",
        faults: Faults = "refuse",
        prefix: str = "",
        batch_size: int = 16,
        num_workers: int = 0,
        in_memory: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.root, self.annotations_path = Path(root).expanduser(), Path(annotations).expanduser()
        self.windows = Windows(num_bins, max_bins, bin_s, hop_bins, placing)
        self.classes, self.parts = classes, dict(zip(("train", "val", "test"), parts, strict=True))
        self.missing: Faults = missing
        self.faults: Faults = faults
        self.prefix, self.batch_size, self.num_workers, self.in_memory, self.seed = (
            prefix,
            batch_size,
            num_workers,
            in_memory,
            seed,
        )
        self.annotations: dict[str, Annotations] = {}
        self.facts: dict[str, FeatureFacts] = {}
        self.notes: list[str] = []
        self._files: dict[str, FeatureFile] = {}
        self._train_loader: ResumableLoader | None = None
        self._resume_from: dict[str, int] | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes by id; known after `setup`."""
        return self.annotations["train"].classes

    @property
    def tasks(self) -> dict[str, list[str]]:
        """Where segments have several labels: what each tells and its class names by id; empty for one label."""
        return self.annotations["train"].tasks

    @property
    def dim(self) -> int:
        """Channels of the features; known after `setup`."""
        return next(iter(self.facts.values())).dim

    @property
    def num_classes(self) -> tuple[int, ...]:
        """Classes of each task."""
        return tuple(len(names) for names in self.tasks.values()) or (len(self.class_names),)

    def setup(self, stage: str | None = None) -> None:
        if self.annotations:
            return
        if not self.root.is_dir():
            raise FeatureError(f"the folder of features {self.root} does not exist; write it with 'kinema features'")
        listed = self._read_annotations()
        notes = list(listed.notes)
        annotations = {}
        for part, subset in self.parts.items():
            if part == "test" and not any(video.subset == subset for video in listed.videos.values()):
                continue
            of_part = listed.where(subset=subset)
            if part == "test" and not of_part.segments:  # held back by its authors
                continue
            annotations[part] = self._with_features(of_part, part, notes)
            if part == "val" and not annotations[part].segments:
                raise FeatureError(
                    f"none of the {len(annotations[part].videos)} 'val' videos (subset '{subset}') has a segment, so nothing "
                    "can be measured on them; annotate one, or name another subset with --data.parts"
                )
        annotations.setdefault("test", annotations["val"])
        self._check_dimensions(annotations["train"])
        self.annotations, self.notes = annotations, notes
        durations = {video: facts.duration for video, facts in self.facts.items()}
        for part in ("train", "val"):
            self.notes += told_of_long(annotations[part].segments, self.windows, durations, part)
        self.notes += told_of_hop(self.windows)
        for part, of_part in annotations.items():
            if part != "test" or of_part is not annotations["val"]:
                self.notes += told_of_unseen(
                    [self.facts[video] for video in of_part.videos], self.windows, f"'{part}' videos"
                )
        places, empty = self._training_windows()
        if not places:
            raise FeatureError(
                f"none of {empty} training windows holds a whole segment; windows of {self._window_told()} may be too short"
            )
        if empty:
            self.notes.append(f"{empty} training windows without a whole segment are not used, {len(places)} are")
        by_video: dict[str, list[Window]] = {}
        for place in places:
            by_video.setdefault(place.video, []).append(place.window)
        self.notes += told_of_lost(annotations["train"].by_video(), by_video)

    def train_dataloader(self) -> ResumableLoader:
        places, _ = self._training_windows()
        loader = self._loader(TrainWindows(self, places), training=True)
        self._train_loader = loader
        if self._resume_from is not None:
            loader.load_state_dict(self._resume_from)
            self._resume_from = None
        return loader

    def val_dataloader(self) -> ResumableLoader:
        return self._loader(WholeVideos(self, "val"), training=False)

    def test_dataloader(self) -> ResumableLoader:
        return self._loader(WholeVideos(self, "test"), training=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Features alone: what is annotated is small, and compared where targets are made."""
        if isinstance(batch, list):
            return [self.transfer_batch_to_device(video, device, dataloader_idx) for video in batch]
        return batch | {"features": batch["features"].to(device)}

    def state_dict(self) -> dict[str, Any]:
        """The place within the epoch; see `VideoDataModule.state_dict`."""
        return {} if self._train_loader is None else {"train_loader": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_from = state_dict.get("train_loader")

    def file(self, video: str) -> FeatureFile:
        """The features of a video of the annotations."""
        if video in self._files:
            return self._files[video]
        file = read_video(self.root, f"{self.prefix}{video}")
        if self.in_memory:
            self._files[video] = file
        return file

    def columns(self, video: str, window: Window) -> Float[Tensor, "D T"]:
        """What a window shows of a video; read are the clips that it is made of alone, unless files are kept in memory.

        Args:
            video: Its name in the annotations.
            window: One of `windows.seen`.
        """
        facts = self.facts[video]
        rows = self.windows.rows(facts, window)
        assert rows is not None, "only windows that show something are listed"
        if self.in_memory:
            return self.windows.place(self.file(video).features[rows], facts, window)
        picked = read_rows(self.root, f"{self.prefix}{video}", rows, count=len(facts.centers))
        return self.windows.place(picked, facts, window)

    def targets_of(self, segments: Sequence[Segment], window: Window) -> tuple[Tensor, Tensor]:
        """Start and end in bins, and classes, of the segments that lie wholly in a window."""
        times = times_of(segments)
        each = [s.label if isinstance(s.label, tuple) else (s.label,) for s in segments]
        labels = torch.tensor(each, dtype=torch.int64).reshape(len(segments), len(self.tasks) or 1)
        kept = inside(times, window)
        return in_bins(times[kept], window), labels[kept]

    def _read_annotations(self) -> Annotations:
        if self.annotations_path.is_dir():
            from kinema.data.datasets.epic_segments import read_epic  # its folder holds data modules

            if self.classes is not None:
                raise ValueError(f"classes={self.classes} was given; EPIC-KITCHENS-100 has its own lists, leave it out")
            return read_epic(self.annotations_path, faults=self.faults)
        if self.classes is not None:
            path = Path(self.classes).expanduser()
            if not path.is_file():
                raise FileNotFoundError(f"the file of class names {path} does not exist; write one name a line")
            return self._read_list(_names(path))
        listed, path = self._read_list(), self.root / CLASSES
        if not path.is_file():
            return listed
        names = _names(path)
        strange = sorted(set(listed.classes) - set(names))
        if not strange:
            return self._read_list(names)
        if not self._scored(listed):
            told = f"{len(strange)} annotated classes are not in {path}, such as '{strange[0]}': it is not used"
            return replace(listed, notes=[*listed.notes, told])
        # Sorted names would be taken for those of other columns of the scores.
        shown = ", ".join(f"'{name}'" for name in strange[:5]) + (", ..." if len(strange) > 5 else "")
        kind = f"not among the {len(names)} names of {path}, which tells what the class scores of these features are of"
        notes = refuse_or_count({kind: [shown, *strange[1:]]}, self.faults, of="annotated classes")
        listed = self._read_list(names)
        return replace(listed, notes=[*notes, *listed.notes])

    def _scored(self, annotations: Annotations) -> bool:
        """Whether a feature file of these videos has class scores."""
        paths = (feature_path(self.root, f"{self.prefix}{video}") for video in annotations.videos)
        return any(describe(path).num_classes for path in paths if path.is_file())

    def _read_list(self, classes: Sequence[str] | None = None) -> Annotations:
        return read_activitynet(self.annotations_path, classes=classes, subsets=self.parts.values(), faults=self.faults)

    def _with_features(self, annotations: Annotations, part: str, notes: list[str]) -> Annotations:
        """The videos that have a feature file, with durations; the others are refused or counted."""
        absent = []
        for video in annotations.videos:
            path = feature_path(self.root, f"{self.prefix}{video}")
            if path.is_file():
                self.facts[video] = describe_video(self.root, f"{self.prefix}{video}")
            else:
                absent.append(video)
        if absent and (self.missing == "refuse" or len(absent) == len(annotations.videos)):
            held = sorted(path.name for path in self.root.glob(f"*{SUFFIX}"))
            raise FeatureError(
                f"{len(absent)} of {len(annotations.videos)} '{part}' videos have no feature file in {self.root}, such as "
                f"{self.prefix}{absent[0]}{SUFFIX} (it holds {len(held)}, such as {held[:1]}); write them with 'kinema "
                "features', set --data.prefix, or leave them out with --data.missing count"
            )
        if absent:
            notes.append(f"{len(absent)} of {len(annotations.videos)} '{part}' videos have no feature file: left out")
        videos = {name: video for name, video in annotations.videos.items() if name in self.facts}
        durations = {name: self.facts[name].duration for name in videos}
        differ = [n for n, v in videos.items() if v.duration and abs(v.duration - durations[n]) > _SLACK_S]
        if differ:
            first = differ[0]
            notes.append(
                f"{len(differ)} '{part}' videos are not as long as annotated, such as {first} with {durations[first]:g} s "
                f"in place of {videos[first].duration:g} s: the file counts"
            )
        found = checked(
            Annotations(
                {name: replace(video, duration=durations[name]) for name, video in videos.items()},
                [segment for segment in annotations.segments if segment.video in videos],
                annotations.classes,
                annotations.tasks,
            ),
            faults=self.faults,
            slack_s=_SLACK_S,
        )
        notes += found.notes
        return found

    def _check_dimensions(self, annotations: Annotations) -> None:
        """All files have the same channels, and class scores of the annotated classes if any."""
        first = next(iter(self.facts.values()))
        tasks = {task: len(names) for task, names in annotations.tasks.items()} or {"": len(annotations.classes)}
        for facts in self.facts.values():
            if facts.dim != first.dim:
                raise FeatureError(
                    f"the features of {facts.video} have {facts.dim} channels and those of {first.video} {first.dim}; write "
                    "all with one network"
                )
            if facts.num_classes and facts.num_classes != tasks:
                raise FeatureError(
                    f"{facts.video} has scores of {_told(facts.num_classes)} and the annotations have {_told(tasks)}; name the "
                    f"classifier's classes in their order with --data.classes FILE, as {self.root / CLASSES} of 'kinema "
                    "features' does, or write features with another classifier"
                )

    def _training_windows(self) -> tuple[list[TrainWindow], int]:
        annotations = self.annotations["train"]
        by_video = annotations.by_video()
        places, empty = [], 0
        for video in annotations.videos:
            facts = self.facts[video]
            for window in self.windows.seen(facts):
                if len(self.targets_of(by_video[video], window)[0]):
                    places.append(TrainWindow(video, window))
                else:
                    empty += 1
        return places, empty

    def _window_told(self) -> str:
        return "whole videos" if self.windows.bin_s is None else f"{self.windows.num_bins * self.windows.bin_s:g} s"

    def _loader(self, dataset: TrainWindows | WholeVideos, *, training: bool) -> ResumableLoader:
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if world_size > 1:
            raise ValueError("features are dealt to one process; train with --trainer.devices 1")
        batch_size = min(self.batch_size, len(dataset)) if training else 1
        batches = EpochBatches(
            len(dataset),
            batch_size,
            shuffle=training,
            seed=self.seed if self.seed is not None else int(os.environ.get("PL_GLOBAL_SEED", 0)),
            rank=rank,
            world_size=world_size,
        )
        return ResumableLoader(
            dataset,
            batches,
            collate_fn=collate_windows if training else list,
            num_workers=self.num_workers,
            persistent_workers=training and self.num_workers > 0,
        )


def _names(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _told(classes: dict[str, int]) -> str:
    return " and ".join(f"{number} {task + ' ' if task else ''}classes" for task, number in classes.items())
