"""UCF101 (Soomro, Zamir and Shah 2012, arXiv:1212.0402): 101 actions, three splits, each with its own training list.

`classInd.txt` numbers the classes from 1 (`1 ApplyEyeMakeup`), `trainlist0N.txt` holds `Class/v_Class_g08_c01.avi 1` and
`testlist0N.txt` the same without the number.
"""

from kinema.data.datasets.annotations import Listing, read_lines
from kinema.data.datasets.checks import check_num_classes, class_id, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.datasets.three_splits import ThreeSplits
from kinema.data.manifest import Manifest, ManifestError, VideoRecord


class UCF101(ThreeSplits):
    """UCF101: 101 actions; numbers are given as the mean of its three splits.

    Its test list validates: it has no other.

    Args:
        root: Folder of the videos.
        split: Which of the three splits.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    short_name = "ucf101"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("ucfTrainTestlist", "splits")
        path = folder.need("classInd.txt")
        classes = []
        for place, row in enumerate(read_lines(path), start=1):
            number, _, name = row["line"].partition(" ")
            if number != str(place) or not name:
                raise ManifestError(
                    f"{row.where}: '{place} <class>' was expected, found '{row['line']}'; ids count from 1"
                )
            classes.append(name.strip())
        check_num_classes(len(classes), 101, "UCF101", path, subset=self.subset)
        ids = {name: index for index, name in enumerate(classes)}
        media = MediaIndex(self.root, pictures=self.folders is not None)
        records, keys = [], []
        for split, prefix in (("train", "trainlist"), ("test", "testlist")):
            for row in read_lines(folder.need(f"{prefix}{self.split:02d}.txt")):
                file, _, number = row["line"].partition(" ")
                name, _, video = file.partition("/")
                label = class_id(name, ids, row.where)
                if number.strip() not in ("", str(label + 1)):
                    raise ManifestError(
                        f"{row.where}: {name} has the id {number.strip()}, in {path.name} it is {label + 1}; the lists number "
                        "the classes in different orders"
                    )
                stem = video.rpartition(".")[0]
                place = media.find(stem, f"{name}/{stem}" if self.folders else file, prefer=(name,))
                records.append(VideoRecord(place, label, split=split))
                keys.append((stem, row.where))
        refuse_duplicates(keys, "video")
        return Listing(Manifest(records, classes), folder.found, [])
