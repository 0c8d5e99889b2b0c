"""What Jester and Something-Something V1 share, both handed out by 20BN: lists in CSV, and folders of frames at 12 a second.

`<prefix>-train.csv` and `-validation.csv` list `id;class` without header, `<prefix>-labels.csv` one class a line. Media are
folders of JPEG files, `<id>/00001.jpg`.
"""

from typing import Any, Literal

from kinema.data.datasets.annotations import Listing, read_lines, read_table
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import check_num_classes, class_id, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.manifest import Manifest, VideoRecord

ClassOrder = Literal["sorted", "listed"]


class TwentyBNFolders(ArchiveData):
    """A release of 20BN as folders of frames; each is a subclass that says what it is called.

    Args:
        root: Folder of the folders of frames.
        class_order: How classes are numbered: `sorted` by name, or as `listed` in the file of classes.
        frames: Name of a frame by its number; None for video files.
        frames_fps: Frames per second.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.

    Attributes:
        short_name: What `kinema data prepare` calls it.
        list_prefix: How the names of its lists begin.
        release: Its name in messages.
        num_release_classes: How many classes it has.
    """

    short_name: str
    list_prefix: str
    release: str
    num_release_classes: int

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

    def class_of(self, label: str) -> str:
        """What makes a class name of a label in a list."""
        return label

    @property
    def archive_name(self) -> str:
        return self.short_name if self.class_order == "sorted" else f"{self.short_name}-{self.class_order}"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("labels")
        path = folder.need(f"{self.list_prefix}-labels.csv")
        listed = [(self.class_of(row["line"]), row.where) for row in read_lines(path)]
        refuse_duplicates(listed, "class")
        classes = [label for label, _ in listed]
        check_num_classes(len(classes), self.num_release_classes, self.release, path, subset=self.subset)
        if self.class_order == "sorted":
            classes = sorted(classes)
        ids = {label: index for index, label in enumerate(classes)}
        media = MediaIndex(self.root, pictures=self.folders is not None)
        records, keys = [], []
        for split, part in (("train", "train"), ("val", "validation")):
            file = folder.need(f"{self.list_prefix}-{part}.csv")
            for row in read_table(file, ("id", "label"), delimiter=";", header=False):
                place = media.find(row["id"], row["id"] + ("" if self.folders else ".webm"))
                label = class_id(self.class_of(row["label"]), ids, row.where)
                records.append(VideoRecord(place, label, split=split, metadata={"id": row["id"]}))
                keys.append((row["id"], row.where))
        refuse_duplicates(keys, "id")
        return Listing(Manifest(records, classes), folder.found, [])
