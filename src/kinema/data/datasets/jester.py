"""Jester (Materzynska et al. 2019, ICCV workshops): 27 hand gestures before a webcam, as folders of frames at 12 per second."""

from typing import Any

from kinema.data.datasets.annotations import Listing
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.something import ClassOrder, name_with_order, read_twentybn


class Jester(ArchiveData):
    """Jester: 27 hand gestures; six of them name a side or a turn, so never flip without `flip_pairs`.

    Lists are `jester-v1-{train,validation,labels}.csv` in the form of Something-Something V1.

    Args:
        root: Folder of the folders of frames.
        class_order: How classes are numbered: `sorted` by name as in the code of TSM, or as `listed` in the file of classes, as
            mmaction2 does.
        frames: Name of a frame by its number; None for video files.
        frames_fps: Frames per second.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        class_order: ClassOrder = "sorted",
        frames: str | None = "{:05d}.jpg",
        frames_fps: float = 12,
        **archive: Any,
    ) -> None:
        super().__init__(root, frames=frames, frames_fps=frames_fps, **archive)
        self.class_order: ClassOrder = class_order

    @property
    def archive_name(self) -> str:
        return name_with_order("jester", self.class_order)

    def read_archive(self) -> Listing:
        return read_twentybn(self, "jester-v1", num_classes=27, name="Jester", class_order=self.class_order)
