"""HMDB51 (Kuehne et al. 2011, ICCV): 51 actions, three splits of 70 training and 30 test videos for each class.

Each class has a list `<class>_test_split<N>.txt` of lines `name.avi 0|1|2`: unused in this split, training, test.
"""

from kinema.data.datasets.annotations import Listing, read_lines
from kinema.data.datasets.checks import check_num_classes, refuse_duplicates
from kinema.data.datasets.media import MediaIndex
from kinema.data.datasets.three_splits import ThreeSplits
from kinema.data.manifest import Manifest, ManifestError, VideoRecord

_SPLITS = {"0": None, "1": "train", "2": "test"}


class HMDB51(ThreeSplits):
    """HMDB51: 51 actions from films; numbers are given as the mean of its three splits.

    Its test list validates: it has no other. Videos that a split does not use are left out.

    Args:
        root: Folder of the videos.
        split: Which of the three splits.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    short_name = "hmdb51"

    def read_archive(self) -> Listing:
        folder = self.annotation_folder("testTrainMulti_7030_splits", "test_train_splits", "splits")
        ending = f"_test_split{self.split}.txt"
        lists = {
            path.name.removesuffix(ending): path
            for place in reversed(folder.folders)
            if place.is_dir()
            for path in place.glob(f"*{ending}")
        }
        if not lists:
            folder.need(f"<class>{ending}")
        classes = sorted(lists)
        folder.found += [lists[name] for name in classes]
        check_num_classes(len(classes), 51, "HMDB51", lists[classes[0]].parent, subset=self.subset)
        media = MediaIndex(self.root, pictures=self.folders is not None)
        records, keys = [], []
        for label, name in enumerate(classes):
            for row in read_lines(lists[name]):
                file, _, use = row["line"].rpartition(" ")
                if use not in _SPLITS or not file:
                    raise ManifestError(f"{row.where}: '<video> 0|1|2' was expected, found '{row['line']}'")
                stem, split = file.strip().rpartition(".")[0], _SPLITS[use]
                keys.append((stem, row.where))
                if split is not None:
                    place = media.find(stem, f"{name}/{stem}" + ("" if self.folders else ".avi"), prefer=(name,))
                    records.append(VideoRecord(place, label, split=split))
        refuse_duplicates(keys, "video")
        return Listing(Manifest(records, classes), folder.found, [])
