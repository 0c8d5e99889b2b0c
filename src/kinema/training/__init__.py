"""LightningModules: all training of classifiers in one, one thin module per architecture, and localization."""

from kinema.training.bmn import BMN
from kinema.training.classifier import NonFiniteLossError, VideoClassifier
from kinema.training.optim import Optimizer
from kinema.training.resnet3d import R3D, R2Plus1D, SlowOnly
from kinema.training.schedule import Schedule
from kinema.training.slowfast import SlowFast
from kinema.training.tada2d import TAda2D
from kinema.training.tadaconvnext import TAdaConvNeXt
from kinema.training.tadaformer import TAdaFormer
from kinema.training.timesformer import TimeSformer
from kinema.training.timesformer_rotary import TimeSformerRotary
from kinema.training.tsm import TSM
from kinema.training.tsn import TSN
from kinema.training.uniformer import UniFormer

__all__ = [
    "BMN",
    "R3D",
    "TSM",
    "TSN",
    "NonFiniteLossError",
    "Optimizer",
    "R2Plus1D",
    "Schedule",
    "SlowFast",
    "SlowOnly",
    "TAda2D",
    "TAdaConvNeXt",
    "TAdaFormer",
    "TimeSformer",
    "TimeSformerRotary",
    "UniFormer",
    "VideoClassifier",
]
