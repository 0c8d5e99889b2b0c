"""The published data sets by the names that `kinema data prepare` calls them."""

from typing import Any

from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.diving48 import Diving48
from kinema.data.datasets.epic_kitchens import EpicKitchens100
from kinema.data.datasets.hacs import HACSClips
from kinema.data.datasets.hmdb51 import HMDB51
from kinema.data.datasets.howto100m import HowTo100MTasks
from kinema.data.datasets.jester import Jester
from kinema.data.datasets.kinetics import Kinetics
from kinema.data.datasets.something import SomethingSomethingV1, SomethingSomethingV2
from kinema.data.datasets.ucf101 import UCF101

ARCHIVES: dict[str, tuple[type[ArchiveData], dict[str, Any]]] = {
    "diving48": (Diving48, {}),
    "epic100": (EpicKitchens100, {}),
    "hacs": (HACSClips, {}),
    "hmdb51": (HMDB51, {}),
    "howto100m": (HowTo100MTasks, {}),
    "jester": (Jester, {}),
    "kinetics400": (Kinetics, {"version": 400}),
    "kinetics600": (Kinetics, {"version": 600}),
    "kinetics700": (Kinetics, {"version": 700}),
    "ssv1": (SomethingSomethingV1, {}),
    "ssv2": (SomethingSomethingV2, {}),
    "ucf101": (UCF101, {}),
}


def build_archive(name: str, root: str, **options: Any) -> ArchiveData:
    """The data module of a published data set.

    Args:
        name: One of `ARCHIVES`.
        root: Folder that the archive was unpacked to.
        options: Options of its class.

    Raises:
        ValueError: If there is no such data set, or it has no such option.
    """
    if name not in ARCHIVES:
        raise ValueError(f"there is no data set '{name}'; known are {', '.join(ARCHIVES)}")
    kind, given = ARCHIVES[name]
    try:
        return kind(root, **given | options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; see 'kinema fit --data.help {kind.__name__}'") from error
