"""The long-video task on HowTo100M (Miech et al. 2019, arXiv:1906.03327) of TimeSformer (arXiv:2102.05095, section 4.6).

Which task does a video of several minutes teach? Of the tasks in `HowTo100M_v1.csv` (columns `video_id,category_1,category_2,
rank,task_id`) those with at least 100 videos are kept: 1,059. Clips are laid side by side over the whole video and their
scores averaged (`clip_kind: uniform`).
"""

from pathlib import Path
from typing import Any

from kinema.data.datasets.annotations import Listing, read_lines, read_table
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import check_num_classes, class_id, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.manifest import Manifest, ManifestError, VideoRecord, split_by_path

_COLUMNS = ("video_id", "category_1", "category_2", "task_id")


class HowTo100MTasks(ArchiveData):
    """HowTo100M, long videos: which of 1,059 tasks is taught.

    TimeSformer splits about 85,000 to 35,000 videos and does not say which. Here a hash of the video's name decides, task by
    task, so that everybody gets the same split; numbers of the paper and of this split may differ by it.

    Args:
        root: Folder of the videos, `<video_id>.*`.
        min_videos: Fewest videos of a task that is kept, counted in the list, not on disk.
        test_fraction: Share of the videos of a task that are tested: 35,000 of 120,000 in the paper.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    def __init__(self, root: str, *, min_videos: int = 100, test_fraction: float = 35 / 120, **archive: Any) -> None:
        super().__init__(root, **archive)
        if min_videos < 2:
            raise ValueError(f"min_videos={min_videos} leaves tasks with nothing to test; give at least 2")
        self.min_videos, self.test_fraction = min_videos, test_fraction

    @property
    def archive_name(self) -> str:
        return "howto100m"

    @property
    def listing_options(self) -> dict[str, Any]:
        return super().listing_options | {"min_videos": self.min_videos, "test_fraction": self.test_fraction}

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("HowTo100M")
        path = folder.need("HowTo100M_v1.csv")
        rows = read_table(path, _COLUMNS)
        refuse_duplicates(((row["video_id"], row.where) for row in rows), "video_id")
        names = _task_names(folder.need("task_ids.csv"))
        known = {task: place for place, task in enumerate(names)}
        counts: dict[str, int] = {}
        for row in rows:
            class_id(row["task_id"], known, row.where)
            counts[row["task_id"]] = counts.get(row["task_id"], 0) + 1
        kept = sorted((task for task, count in counts.items() if count >= self.min_videos), key=int)
        if not kept:
            raise ManifestError(f"{path}: no task has {self.min_videos} videos, the most is {max(counts.values())}")
        check_num_classes(len(kept), 1059, f"HowTo100M (tasks with {self.min_videos} videos)", path, subset=self.subset)
        ids = {task: index for index, task in enumerate(kept)}
        media = MediaIndex(self.root, pictures=self.folders is not None)
        places: list[VideoRecord] = []
        named: list[VideoRecord] = []
        for row in rows:
            if row["task_id"] in ids:
                name, label = row["video_id"], ids[row["task_id"]]
                facts = {"task_id": row["task_id"], "rank": row.values.get("rank", "")}
                # Split by the name, which is the same wherever the file lies.
                named.append(VideoRecord(name, label))
                place = media.find(name, name + ("" if self.folders else ".mp4"))
                places.append(VideoRecord(place, label, metadata=facts))
        _, tested = split_by_path(Manifest(named, [names[task] for task in kept]), val_fraction=self.test_fraction)
        held_out = {record.path for record in tested.records}
        records = [
            VideoRecord(
                place.path, place.label, split="test" if one.path in held_out else "train", metadata=place.metadata
            )
            for one, place in zip(named, places, strict=True)
        ]
        return Listing(Manifest(records, [names[task] for task in kept]), folder.found, [])


def _task_names(path: Path) -> dict[str, str]:
    """Names of the tasks by id; releases separate the two by a tab or a comma, and the first line may be a header."""
    names: dict[str, str] = {}
    for row in read_lines(path):
        separator = "\t" if "\t" in row["line"] else ","
        number, _, name = row["line"].partition(separator)
        if number.strip().isdigit() and name.strip():
            if number.strip() in names:
                raise ManifestError(f"{row.where}: the task {number.strip()} stands there a second time")
            names[number.strip()] = name.strip().strip('"')
        elif names:
            raise ManifestError(f"{row.where}: '<task id>,<name>' was expected, found '{row['line']}'")
    return names
