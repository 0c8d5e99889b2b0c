"""UTD-MHAD depth as a data module (Chen, Jafari and Kehtarnavaz, ICIP 2015): 27 actions before a Kinect.

The recordings are offered for research and are not part of kinema. It is depth, not RGB: grey in three channels, nearer
is brighter, background 0.
"""

from typing import Any, Literal

from kinema.data.datamodule import VideoDataModule
from kinema.data.manifest import Manifest, read_manifest

# The subjects of the authors' cross-subject protocol; 8 is absent where the recordings were prepared.
TRAIN_SUBJECTS = ("1", "3", "5", "7")


class UTDMHADDepth(VideoDataModule):
    """Depth recordings listed by `index.csv` (path, label, split, subject, trial, frames), split by subject.

    Never mirror these clips without swapping the labels that name a side, and know that circles change direction too.

    Args:
        root: Folder of the recordings.
        protocol: `cross_subject` trains on subjects 1, 3, 5, 7 and validates on 2, 4, 6. `development` holds out one
            training subject, to choose hyperparameters without seeing the validation subjects.
        held_out: The training subject held out by `development`.
        data: Options of `VideoDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        protocol: Literal["cross_subject", "development"] = "cross_subject",
        held_out: str = "7",
        **data: Any,
    ) -> None:
        super().__init__(root, manifest="index.csv", **data)
        if held_out not in TRAIN_SUBJECTS:
            raise ValueError(f"held_out must be a training subject, one of {TRAIN_SUBJECTS}, got '{held_out}'")
        self.protocol, self.held_out = protocol, held_out

    def read_manifests(self) -> dict[str, Manifest]:
        if self.protocol == "cross_subject":
            return super().read_manifests()
        train = read_manifest("index.csv", root=self.root).where(split="train")
        kept = [subject for subject in TRAIN_SUBJECTS if subject != self.held_out]
        val = train.where(subjects=[self.held_out])
        return {"train": train.where(subjects=kept), "val": val, "test": val}
