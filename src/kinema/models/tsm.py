"""Temporal shift module (Lin, Gan and Han 2019, arXiv:1811.08383): TSN with a shift in the residual branches."""

from functools import partial
from typing import Unpack

from kinema.backbones.holes import Placement
from kinema.backbones.resnet import ResNet
from kinema.models.heads import SegmentHead
from kinema.models.network import SegmentNetwork
from kinema.models.tsn import TSNOptions
from kinema.operators.shift import TemporalShift


class TSMOptions(TSNOptions, total=False):
    """Options of every TSM, beside those of TSN."""

    shift_fraction: float
    placement: Placement
    causal: bool


def tsm_nano(num_classes: int = 400, num_frames: int = 8, **options: Unpack[TSMOptions]) -> SegmentNetwork:
    """TSM on the small ResNet of `tsn_nano`."""
    return _tsm(num_classes, num_frames, **options)


def _tsm(
    num_classes,
    num_frames,
    *,
    shift_fraction=1 / 4,
    placement="residual",
    causal=False,
    dropout=0.5,
    consensus="mean",
    in_channels=3,
):
    mixer = partial(TemporalShift, fraction=shift_fraction, causal=causal) if shift_fraction else None
    backbone = ResNet(
        (1, 1, 2, 1),
        bottleneck=False,
        channels=(16, 32, 64, 128),
        small_frames=True,
        in_channels=in_channels,
        mixer=mixer,
        placement=placement,
    )
    head = SegmentHead(backbone.num_features, num_classes, dropout=dropout, consensus=consensus)
    return SegmentNetwork(backbone, head, num_frames=num_frames)
