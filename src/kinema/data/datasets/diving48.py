"""Diving48 (Li, Li and Vasconcelos 2018, ECCV): 48 dives that differ in take-off, somersaults, twists and entry.

Lists are `Diving48_V2_{train,test}.json`, entries `{"vid_name", "label", "start_frame", "end_frame"}`, and
`Diving48_vocab.json`, the names of the classes. Media are `<vid_name>.mp4`, one dive each.
"""

from typing import Any

from kinema.data.datasets.annotations import Listing, read_json, read_json_rows
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import check_num_classes, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.manifest import Manifest, ManifestError, VideoRecord


class Diving48(ArchiveData):
    """Diving48: 48 dives, where scene and people say nothing of the class; its test list validates.

    Only the second version of the annotations is read: that of 2020, which corrects many labels of the first.

    Args:
        root: Folder of the videos.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    def __init__(self, root: str, **archive: Any) -> None:
        super().__init__(root, **archive)

    @property
    def archive_name(self) -> str:
        return "diving48" if self.folders is None else "diving48-frames"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("Diving48_V2")
        old = folder.find("Diving48_train.json")
        if old is not None and folder.find("Diving48_V2_train.json") is None:
            raise ManifestError(
                f"{old} is version 1 of the annotations, whose labels were corrected in version 2; copy Diving48_V2_train.json "
                "and Diving48_V2_test.json beside it"
            )
        folder.found.clear()
        path = folder.need("Diving48_vocab.json")
        # The release writes a class as the list of its four parts.
        classes = [
            " ".join(map(str, name)) if isinstance(name, list) else str(name)
            for name in read_json(path, list, "a list of classes")
        ]
        check_num_classes(len(classes), 48, "Diving48", path, subset=self.subset)
        refuse_duplicates([(name, f"{path} entry {place}") for place, name in enumerate(classes)], "class")
        media = MediaIndex(self.root, pictures=self.folders is not None)
        fields = {"vid_name": str, "label": int, "start_frame": int, "end_frame": int}
        records, keys = [], []
        for split in ("train", "test"):
            for entry, where in read_json_rows(folder.need(f"Diving48_V2_{split}.json"), fields):
                name, label = entry["vid_name"], entry["label"]
                first, last = entry["start_frame"], entry["end_frame"]
                if not 0 <= label < len(classes):
                    raise ManifestError(
                        f"{where}: the label {label} is none of the {len(classes)} classes of {path.name}"
                    )
                if not 0 <= first < last:
                    raise ManifestError(f"{where}: the frames {first} to {last} are empty or reversed")
                place = media.find(name, name + ("" if self.folders else ".mp4"))
                # The files are cut to the dive already: the range counts frames of the broadcast's recording of it.
                facts = {"start_frame": str(first), "end_frame": str(last)}
                records.append(VideoRecord(place, label, split=split, metadata=facts))
                keys.append((name, where))
        refuse_duplicates(keys, "vid_name")
        return Listing(Manifest(records, classes), folder.found, [])
