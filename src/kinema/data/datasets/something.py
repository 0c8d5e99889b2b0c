"""Something-Something V1 and V2 (Goyal et al. 2017, arXiv:1706.04261), whose classes are sentences with holes.

V2 lists `{"id", "label", "template", "placeholders"}` in JSON; the template is the class, with its objects in brackets:
"Holding [something] next to [something]". Without the brackets it is a key of `something-something-v2-labels.json`, which
holds the class ids. Media are `<id>.webm`.

V1 lists `id;class` in CSV files, see `kinema.data.datasets.twentybn`.
"""

from typing import Any

from kinema.data.datasets.annotations import Listing, read_json, read_json_rows
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import check_num_classes, class_id, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.datasets.twentybn import TwentyBNFolders
from kinema.data.manifest import Manifest, ManifestError, VideoRecord


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


class SomethingSomethingV1(TwentyBNFolders):
    """Something-Something V1: the same 174 classes as V2 as folders of frames at 12 per second.

    Args:
        root: Folder of the folders of frames.
        class_order: How classes are numbered: `sorted` by name, as the code of TSM, TAdaConv and others does; or as `listed` in
            the file of classes, as mmaction2 does. Published classifiers fit one of them.
        frames: Name of a frame by its number; None for video files.
        frames_fps: Frames per second.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    short_name, list_prefix, release = "ssv1", "something-something-v1", "Something-Something V1"
    num_release_classes = 174

    def class_of(self, label: str) -> str:
        return label.replace("[", "").replace("]", "")


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
