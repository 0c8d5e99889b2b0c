"""EPIC-KITCHENS-100 (Damen et al. 2022, arXiv:2006.13256): a verb and a noun for each stretch of long kitchen videos.

Lists are `EPIC_100_{train,validation}.csv`, one narrated stretch a line, and `EPIC_100_{verb,noun}_classes.csv`. Media are
whole videos, `<participant>/videos/<video_id>.MP4`, or their frames, `rgb_frames/<video_id>/frame_0000000001.jpg`. Clips are
cut from them while training: nothing needs to be cut beforehand.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

from kinema.data.datasets.annotations import Listing, Row, read_table
from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.checks import Overlaps, check_num_classes, check_overlaps, refuse_duplicates, time_range
from kinema.data.datasets.media import MediaIndex
from kinema.data.manifest import Manifest, ManifestError, VideoRecord

_COLUMNS = (
    "narration_id",
    "participant_id",
    "video_id",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
    "verb_class",
    "noun_class",
)
_NUM_CLASSES = {"verb": 97, "noun": 300}


class EpicKitchens100(ArchiveData):
    """EPIC-KITCHENS-100: 97 verbs and 300 nouns; an action is right if both are.

    Where video files are read, a sample lies between its time stamps; where folders of frames are, between the frame numbers
    that the lists give beside them, which count from 1 and include the last.

    Args:
        root: Folder that holds the folders of the participants, or `rgb_frames`.
        frames: Name of a frame by its number, `frame_{:010d}.jpg` in the release; None for video files.
        frames_fps: Frames per second of such folders, where `EPIC_100_video_info.csv` does not lie beside the lists to say it
            of each video: about 60 in those of the first release, 50 in most of the second.
        overlaps: Whether stretches with the same verb and noun may overlap. Hands do several things at a time and narrations
            overlap in the release, so they are counted, and refused only if asked for; those of two splits are always.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        frames: str | None = None,
        frames_fps: float = 60,
        overlaps: Overlaps = "count",
        **archive: Any,
    ) -> None:
        super().__init__(root, frames=frames, frames_fps=frames_fps, **archive)
        self.overlaps: Overlaps = overlaps

    @property
    def archive_name(self) -> str:
        return "epic100" if self.folders is None else "epic100-frames"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("epic-kitchens-100-annotations")
        tasks = {task: self._classes(folder.need(f"EPIC_100_{task}_classes.csv"), task) for task in ("verb", "noun")}
        self._read_rates()
        media = MediaIndex(self.root, pictures=self.folders is not None)
        samples: list[tuple[VideoRecord, str]] = []
        for split, name in (("train", "train"), ("val", "validation")):
            for row in read_table(folder.need(f"EPIC_100_{name}.csv"), _COLUMNS):
                samples.append((self._record(row, split, tasks, media), row.where))
        refuse_duplicates(((record.metadata["narration_id"], where) for record, where in samples), "narration_id")
        notes = check_overlaps(samples, within_split=self.overlaps, same_class=True)
        return Listing(Manifest([record for record, _ in samples], tasks["verb"], tasks), folder.found, notes)

    def read_manifests(self) -> dict[str, Manifest]:
        self._read_rates()
        return super().read_manifests()

    def _read_rates(self) -> None:
        """Frames per second of each video, which folders of frames do not say."""
        if self.folders is None:
            return
        path = self.annotation_folder("epic-kitchens-100-annotations").find("EPIC_100_video_info.csv")
        for row in [] if path is None else read_table(path, ("video_id", "fps")):
            try:
                rate = Fraction(row["fps"])
            except ValueError:
                rate = Fraction(0)
            if rate <= 0:
                raise ManifestError(f"{row.where}: the rate '{row['fps']}' is no number of frames per second above 0")
            self.folders.rates[row["video_id"]] = rate

    def _classes(self, path: Path, task: str) -> list[str]:
        rows = read_table(path, ("id", "key"))
        for place, row in enumerate(rows):
            if row["id"] != str(place):
                raise ManifestError(
                    f"{row.where}: the id {place} was expected, found {row['id']}; the classes stand in another order than in "
                    "the release, where ids count from 0"
                )
        check_num_classes(len(rows), _NUM_CLASSES[task], f"EPIC-KITCHENS-100 ({task}s)", path, subset=self.subset)
        return [row["key"] for row in rows]

    def _record(self, row: Row, split: str, tasks: dict[str, list[str]], media: MediaIndex) -> VideoRecord:
        start, end = time_range(row["start_timestamp"], row["stop_timestamp"], row.where)
        first, last = (_number(row, column) for column in ("start_frame", "stop_frame"))
        if last < first:
            raise ManifestError(
                f"{row.where}: the frames {first} to {last} are reversed; the last must not come before the first"
            )
        video, participant = row["video_id"], row["participant_id"]
        if self.folders is None:
            place = media.find(video, f"{participant}/videos/{video}.MP4", prefer=(participant, "videos"))
        else:
            place = media.find(video, f"rgb_frames/{video}", prefer=(participant, "rgb_frames"))
            fps = self.folders.fps_of(video)
            start, end = Fraction(max(first, 1) - 1) / fps, Fraction(max(last, 1)) / fps
        verb, noun = (_class(row, task, tasks[task]) for task in ("verb", "noun"))
        facts = {"narration_id": row["narration_id"], "video_id": video}
        return VideoRecord(place, verb, start, end, split, participant, facts, (noun,))


def _class(row: Row, task: str, names: list[str]) -> int:
    number = _number(row, f"{task}_class")
    if number >= len(names):
        raise ManifestError(
            f"{row.where}: {task}_class {number} is none of the {len(names)} {task}s; the lists are of different versions"
        )
    return number


def _number(row: Row, column: str) -> int:
    if not row[column].isdigit():
        raise ManifestError(f"{row.where}: {column} should be a whole number from 0 on, found '{row[column]}'")
    return int(row[column])
