"""Temporal segment networks (Wang et al. 2016, arXiv:1608.00859): a frame-wise network and a consensus, no temporal operator."""

from typing import TypedDict, Unpack

from kinema.backbones.resnet import ResNet
from kinema.models.heads import Consensus, SegmentHead
from kinema.models.network import SegmentNetwork


class TSNOptions(TypedDict, total=False):
    """Options of every TSN: `dropout` before the classifier, `consensus` over the segments, `in_channels` of the clip."""

    dropout: float
    consensus: Consensus
    in_channels: int


def tsn_nano(num_classes: int = 400, num_frames: int = 8, **options: Unpack[TSNOptions]) -> SegmentNetwork:
    """TSN on a small ResNet for frames of 64 pixels."""
    return _tsn(num_classes, num_frames, **options)


def _tsn(num_classes, num_frames, *, dropout=0.5, consensus="mean", in_channels=3):
    backbone = ResNet(
        (1, 1, 2, 1), bottleneck=False, channels=(16, 32, 64, 128), small_frames=True, in_channels=in_channels
    )
    head = SegmentHead(backbone.num_features, num_classes, dropout=dropout, consensus=consensus)
    return SegmentNetwork(backbone, head, num_frames=num_frames)
