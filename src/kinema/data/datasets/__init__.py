"""Data modules of particular datasets, one file per family."""

from kinema.data.datasets.diving48 import Diving48
from kinema.data.datasets.epic_kitchens import EpicKitchens100
from kinema.data.datasets.hacs import HACSClips
from kinema.data.datasets.hmdb51 import HMDB51
from kinema.data.datasets.howto100m import HowTo100MTasks
from kinema.data.datasets.jester import Jester
from kinema.data.datasets.kinetics import Kinetics
from kinema.data.datasets.motion import MotionData
from kinema.data.datasets.something import SomethingSomethingV1, SomethingSomethingV2
from kinema.data.datasets.ucf101 import UCF101
from kinema.data.datasets.utd_mhad import UTDMHADDepth

__all__ = [
    "HMDB51",
    "UCF101",
    "Diving48",
    "EpicKitchens100",
    "HACSClips",
    "HowTo100MTasks",
    "Jester",
    "Kinetics",
    "MotionData",
    "SomethingSomethingV1",
    "SomethingSomethingV2",
    "UTDMHADDepth",
]
