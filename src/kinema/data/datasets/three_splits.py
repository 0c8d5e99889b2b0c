"""What UCF101 and HMDB51 share: three splits of the same videos, one of which a run is on."""

from typing import Any, Literal

from kinema.data.datasets.archive import ArchiveData


class ThreeSplits(ArchiveData):
    """A data set of three splits, whose numbers are given as their mean.

    Args:
        root: Folder of the videos.
        split: Which of the three splits.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    short_name: str

    def __init__(self, root: str, *, split: Literal[1, 2, 3] = 1, **archive: Any) -> None:
        super().__init__(root, **archive)
        if split not in (1, 2, 3):
            raise ValueError(f"split={split} was given; there are the splits 1, 2 and 3")
        self.split = split

    @property
    def archive_name(self) -> str:
        return f"{self.short_name}-split{self.split}"
