"""Data modules of particular datasets, one file per family."""

from kinema.data.datasets.motion import MotionData
from kinema.data.datasets.utd_mhad import UTDMHADDepth

__all__ = ["MotionData", "UTDMHADDepth"]
