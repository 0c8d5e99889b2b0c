"""Something-Something V1 and V2 (Goyal et al. 2017, arXiv:1706.04261), whose classes are sentences with holes.

V2 lists `{"id", "label", "template", "placeholders"}` in JSON; the template is the class, with its objects in brackets:
"Holding [something] next to [something]". Without the brackets it is a key of `something-something-v2-labels.json`, which
holds the class ids. Media are `<id>.webm`.

V1 lists `id;class` in CSV files without header and one class a line in `something-something-v1-labels.csv`. Media are
folders of JPEG files, `<id>/00001.jpg`, 12 a second.
"""

from collections.abc import Callable
from typing import Any, Literal

from kinema.data.datasets.annotations import Listing, read_json, read_json_rows, read_lines, read_table
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import check_num_classes, class_id, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.manifest import Manifest, ManifestError, VideoRecord

ClassOrder = Literal["sorted", "listed"]


class SomethingSomethingV2(ArchiveData):
    """Something-Something V2: 174 actions with objects, where left and right matter; never flip without `flip_pairs`.

    The videos of the test split have no public labels and are left out.

    Args:
        root: Folder of the videos.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`, such as `frames` for
            folders of pictures.
    """

    def __init__(self, root: str, **archive: Any) -> None:
        super().__init__(root, **archive)

    @property
    def archive_name(self) -> str:
        return "ssv2" if self.folders is None else "ssv2-frames"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("labels")
        v2 = "something-something-v2"
        path = folder.need(f"{v2}-labels.json", "labels.json")
        classes = _names_by_id(read_json(path, dict, "a mapping from class name to id"), str(path))
        check_num_classes(len(classes), 174, "Something-Something V2", path, subset=self.subset)
        ids = {name: index for index, name in enumerate(classes)}
        media = MediaIndex(self.root, pictures=self.folders is not None)
        records, keys = [], []
        for split, name in (("train", "train"), ("val", "validation")):
            listed = read_json_rows(
                folder.need(f"{v2}-{name}.json", f"{name}.json"), {"id": str, "label": str, "template": str}
            )
            for entry, where in listed:
                label = class_id(entry["template"].replace("[", "").replace("]", ""), ids, where)
                place = media.find(entry["id"], entry["id"] + ("" if self.folders else ".webm"))
                records.append(VideoRecord(place, label, split=split, metadata={"id": entry["id"]}))
                keys.append((entry["id"], where))
        refuse_duplicates(keys, "id")
        return Listing(Manifest(records, classes), folder.found, [])


class SomethingSomethingV1(ArchiveData):
    """Something-Something V1: the same 174 classes as V2 as folders of frames at 12 per second.

    Args:
        root: Folder of the folders of frames.
        class_order: How classes are numbered: `sorted` by name, as the code of TSM, TAdaConv and others does; or as `listed` in
            the file of classes, as mmaction2 does. Published classifiers fit one of them.
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
        return name_with_order("ssv1", self.class_order)

    def read_archive(self) -> Listing:
        return read_twentybn(
            self,
            "something-something-v1",
            num_classes=174,
            name="Something-Something V1",
            class_order=self.class_order,
            clean=lambda label: label.replace("[", "").replace("]", ""),
        )


def read_twentybn(
    data: ArchiveData,
    prefix: str,
    *,
    num_classes: int,
    name: str,
    class_order: ClassOrder,
    clean: Callable[[str], str] = str,
) -> Listing:
    """Read the lists of a 20BN release in CSV: `<prefix>-{train,validation,labels}.csv`.

    Args:
        data: The data module that asks.
        prefix: How the names of the lists begin.
        num_classes: Of the release.
        name: Of the release, for messages.
        class_order: See `SomethingSomethingV1`.
        clean: What makes a class name of a label.
    """
    folder = data.annotation_folder("labels")
    path = folder.need(f"{prefix}-labels.csv")
    listed = [(clean(row["line"]), row.where) for row in read_lines(path)]
    refuse_duplicates(listed, "class")
    classes = [label for label, _ in listed]
    check_num_classes(len(classes), num_classes, name, path, subset=data.subset)
    if class_order == "sorted":
        classes = sorted(classes)
    ids = {label: index for index, label in enumerate(classes)}
    media = MediaIndex(data.root, pictures=data.folders is not None)
    records, keys = [], []
    for split, part in (("train", "train"), ("val", "validation")):
        rows = read_table(folder.need(f"{prefix}-{part}.csv"), ("id", "label"), delimiter=";", header=False)
        for row in rows:
            place = media.find(row["id"], row["id"] + ("" if data.folders else ".webm"))
            label = class_id(clean(row["label"]), ids, row.where)
            records.append(VideoRecord(place, label, split=split, metadata={"id": row["id"]}))
            keys.append((row["id"], row.where))
    refuse_duplicates(keys, "id")
    return Listing(Manifest(records, classes), folder.found, [])


def name_with_order(name: str, class_order: ClassOrder) -> str:
    return name if class_order == "sorted" else f"{name}-{class_order}"


def _names_by_id(labels: dict[str, Any], where: str) -> list[str]:
    """Class names in the order of the ids that a mapping gives them; the ids are text in the release."""
    ids = {name: str(number) for name, number in labels.items()}
    wanted = {str(number) for number in range(len(ids))}
    if set(ids.values()) != wanted:
        strange = sorted(set(ids.values()) - wanted)[:3] or "some twice"
        raise ManifestError(
            f"{where}: the ids of its {len(ids)} classes should be 0 to {len(ids) - 1}, each once, found {strange}; copy the "
            "file again from the release"
        )
    return sorted(ids, key=lambda name: int(ids[name]))
