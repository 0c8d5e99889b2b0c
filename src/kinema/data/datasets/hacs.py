"""HACS Clips (Zhao et al. 2019, ICCV, arXiv:1712.09374): two-second clips of 200 actions, cut from long YouTube videos.

The list is `HACS_clips_v1.1.1.csv` with the columns `classname,youtube_id,subset,start,end,label`; the label says whether the
action is seen (1) or not (-1).
"""

from typing import Any

from kinema.data.datasets.annotations import Listing, Row, read_table
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import (
    Overlaps,
    check_num_classes,
    check_overlaps,
    class_id,
    refuse_duplicates,
    time_range,
)
from kinema.data.datasets.media import MediaIndex
from kinema.data.manifest import Manifest, ManifestError, VideoRecord

_COLUMNS = ("classname", "youtube_id", "subset", "start", "end", "label")
_SPLITS = {"training": "train", "validation": "val", "testing": "test"}


class HACSClips(ArchiveData):
    """HACS Clips: two seconds each of 200 actions; the clips in which the action is seen.

    A clip is looked for as a file of its own, `<youtube_id>_<start>` with the start as it is listed, and else within the
    whole video, `<youtube_id>` or `v_<youtube_id>`, where its time range is used. Test clips have no public labels and are
    left out.

    Args:
        root: Folder of the clips or videos.
        overlaps: Whether clips of one class and split may overlap; clips of two splits never may.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    def __init__(self, root: str, *, overlaps: Overlaps = "refuse", **archive: Any) -> None:
        super().__init__(root, **archive)
        self.overlaps: Overlaps = overlaps

    @property
    def archive_name(self) -> str:
        return "hacs"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("HACS_v1.1.1")
        path = folder.need("HACS_clips_v1.1.1.csv")
        rows = read_table(path, _COLUMNS)
        for row in rows:
            if row["subset"] not in _SPLITS:
                raise ManifestError(f"{row.where}: the subset '{row['subset']}' is none of {', '.join(_SPLITS)}")
        classes = sorted({row["classname"] for row in rows if row["subset"] == "training"})
        check_num_classes(len(classes), 200, "HACS", path, subset=self.subset)
        ids = {name: index for index, name in enumerate(classes)}
        media = MediaIndex(self.root, pictures=self.folders is not None)
        records: list[VideoRecord] = []
        ranges: list[tuple[VideoRecord, str]] = []
        for row in rows:
            if row["label"] not in ("1", "-1", "0", ""):
                raise ManifestError(
                    f"{row.where}: the label should be 1 (seen) or -1 (not seen), found '{row['label']}'"
                )
            if row["label"] == "1":
                record, whole = self._record(row, ids, media)
                records.append(record)
                ranges.append((whole, row.where))
        refuse_duplicates(
            (((one.path, str(one.start), one.label), where) for one, where in ranges), "clip (youtube id, start, class)"
        )
        notes = check_overlaps(ranges, within_split=self.overlaps, same_class=True)
        return Listing(Manifest(records, classes), folder.found, notes)

    def _record(self, row: Row, ids: dict[str, int], media: MediaIndex) -> tuple[VideoRecord, VideoRecord]:
        """The sample, and the stretch of the original video that it is."""
        name, split = row["youtube_id"], _SPLITS[row["subset"]]
        start, end = time_range(row["start"], row["end"], row.where)
        label = class_id(row["classname"], ids, row.where)
        whole = VideoRecord(name, label, start, end, split)
        prefer = (row["classname"], row["classname"].replace(" ", "_"), row["subset"], split)
        suffix = "" if self.folders else ".mp4"
        facts = {"youtube_id": name}
        for stem in (f"{name}_{row['start']}", f"{name}_{row['start']}_{row['end']}"):
            if place := media.find(stem, "", prefer=prefer):
                return VideoRecord(place, label, split=split, metadata=facts), whole
        place = media.find(f"v_{name}", "", prefer=prefer) or media.find(name, f"{name}{suffix}", prefer=prefer)
        return VideoRecord(place, label, start, end, split, metadata=facts), whole
