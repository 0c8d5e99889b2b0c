"""Kinetics-400, -600 and -700 (Kay et al. 2017, arXiv:1705.06950; Carreira et al. 2018, 2019, arXiv:1808.01340, 1907.06987).

Lists are `train.csv`, `val.csv` and `test.csv` with the columns `label,youtube_id,time_start,time_end,split[,is_cc]`. Media
are 10-second clips `<youtube_id>_<start>_<end>.mp4`, both in whole seconds with six digits, by split and class or all
together. Classes are numbered in the order of their names.
"""

from typing import Any, Literal

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

_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_SPLITS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


class Kinetics(ArchiveData):
    """Kinetics: 10-second clips of human actions from YouTube.

    Many videos are gone from YouTube. `kinema data prepare` lists those that are missing; training leaves them out, and in
    validation they count as wrong, with the accuracy on the others beside it.

    Args:
        root: Folder of the clips.
        version: Number of classes of the release.
        overlaps: Whether two clips of one split may share a stretch of their video; clips of two splits never may.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        version: Literal[400, 600, 700] = 400,
        overlaps: Overlaps = "refuse",
        **archive: Any,
    ) -> None:
        super().__init__(root, **archive)
        if version not in (400, 600, 700):
            raise ValueError(f"version={version} was given; there are Kinetics-400, -600 and -700")
        self.version, self.overlaps = version, overlaps

    @property
    def archive_name(self) -> str:
        return f"kinetics{self.version}"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder()
        name = f"kinetics_{self.version}"
        rows: dict[str, list[Row]] = {}
        for split in ("train", "val", "test"):
            needed = folder.find if split == "test" else folder.need
            path = needed(f"{split}.csv", f"{name}_{split}.csv", f"{name.replace('_', '-')}_{split}.csv")
            if path is None:
                continue
            listed = read_table(path, _COLUMNS[1:] if split == "test" else _COLUMNS)
            if "label" in listed[0].values:  # the test videos of some releases come without
                rows[split] = listed
        classes = sorted({row["label"] for row in rows["train"]})
        others = "".join(f"give version={other}, or " for other in (400, 600, 700) if other == len(classes))
        check_num_classes(
            len(classes), self.version, f"Kinetics-{self.version}", folder.found[0], subset=self.subset, others=others
        )
        ids = {label: index for index, label in enumerate(classes)}
        media = MediaIndex(self.root, pictures=self.folders is not None)
        records: list[tuple[VideoRecord, str]] = []
        ranges: list[tuple[VideoRecord, str]] = []
        for split, listed in rows.items():
            for row in listed:
                if row["split"] not in _SPLITS[split]:
                    raise ManifestError(f"{row.where}: the split is '{row['split']}' in the list of {split}")
                start, end = time_range(row["time_start"], row["time_end"], row.where)
                stem = f"{row['youtube_id']}_{int(start):06d}_{int(end):06d}"
                label = row["label"]
                path = media.find(
                    stem,
                    f"{split}/{label}/{stem}" + ("" if self.folders else ".mp4"),
                    prefer=(*_SPLITS[split], label, label.replace(" ", "_")),
                )
                facts = {"youtube_id": row["youtube_id"], "time_start": str(float(start)), "time_end": str(float(end))}
                class_of = class_id(label, ids, row.where)
                records.append((VideoRecord(path, class_of, split=split, metadata=facts), row.where))
                ranges.append((VideoRecord(row["youtube_id"], class_of, start, end, split), row.where))
        refuse_duplicates(
            (((one.path, str(one.start), str(one.end)), where) for one, where in ranges),
            "clip (youtube id, start, end)",
        )
        notes = check_overlaps(ranges, within_split=self.overlaps)
        return Listing(Manifest([record for record, _ in records], classes), folder.found, notes)
