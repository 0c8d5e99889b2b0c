"""LightningModules: all training logic in one, and one thin module per architecture."""

from kinema.training.classifier import NonFiniteLossError, VideoClassifier
from kinema.training.optim import Optimizer
from kinema.training.schedule import Schedule
from kinema.training.tada2d import TAda2D
from kinema.training.tadaconvnext import TAdaConvNeXt
from kinema.training.tadaformer import TAdaFormer
from kinema.training.tsm import TSM
from kinema.training.tsn import TSN

__all__ = [
    "TSM",
    "TSN",
    "NonFiniteLossError",
    "Optimizer",
    "Schedule",
    "TAda2D",
    "TAdaConvNeXt",
    "TAdaFormer",
    "VideoClassifier",
]
