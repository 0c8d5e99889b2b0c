"""Temporal segment networks (Wang et al. 2016, arXiv:1608.00859): frames meet in the consensus alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

from kinema.backbones.frames import FrameBackbone
from kinema.backbones.holes import OperatorFactory
from kinema.backbones.mobilenetv2 import mobilenetv2
from kinema.backbones.resnet import resnet, small_resnet
from kinema.models.heads import Consensus
from kinema.models.network import SegmentNetwork
from kinema.models.options import NamedMixer, NonLocal, TSNMobileNetOptions, TSNNanoOptions, TSNOptions
from kinema.operators.nonlocal_block import NonLocalBlock
from kinema.operators.temporal_conv import TemporalConv
from kinema.operators.temporal_pool import TemporalMaxPool

NumClasses = int | Sequence[int]
_MIXERS: dict[str, OperatorFactory] = {
    "temporal_conv": TemporalConv,
    "depthwise_temporal_conv": partial(TemporalConv, depthwise=True),
}


def tsn_nano(
    num_classes: NumClasses = 400,
    num_frames: int = 8,
    **options: Unpack[TSNNanoOptions],
) -> SegmentNetwork:
    """TSN on a small ResNet for frames of about 64 pixels; its size is an option."""
    depths, width = options.pop("depths", (1, 1, 2, 1)), options.pop("width", 16)
    return _on_resnet(partial(small_resnet, width=width), depths, num_classes, num_frames, **options)


def tsn_r18(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TSNOptions]) -> SegmentNetwork:
    """TSN on ResNet-18: 11.4 M parameters, 14.5 GMACs for 8 frames of 224 pixels."""
    return _on_resnet(partial(resnet, bottleneck=False), (2, 2, 2, 2), num_classes, num_frames, **options)


def tsn_r50(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TSNOptions]) -> SegmentNetwork:
    """TSN on ResNet-50: 24.3 M parameters, 32.7 GMACs for 8 frames of 224 pixels."""
    return _on_resnet(resnet, (3, 4, 6, 3), num_classes, num_frames, **options)


def tsn_r101(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TSNOptions]) -> SegmentNetwork:
    """TSN on ResNet-101: 43.3 M parameters, 62.4 GMACs for 8 frames of 224 pixels."""
    return _on_resnet(resnet, (3, 4, 23, 3), num_classes, num_frames, **options)


def tsn_mobilenetv2(
    num_classes: NumClasses = 400,
    num_frames: int = 8,
    **options: Unpack[TSNMobileNetOptions],
) -> SegmentNetwork:
    """TSN on MobileNetV2: 2.7 M parameters, 2.4 GMACs for 8 frames of 224 pixels."""
    return _join(mobilenetv2, num_classes, num_frames, **options)


def _on_resnet(
    build: Callable[..., FrameBackbone],
    layers: Sequence[int],
    num_classes: NumClasses,
    num_frames: int,
    *,
    non_local: NonLocal = "none",
    temporal_pool: bool = False,
    **options: Any,
) -> SegmentNetwork:
    """The two additions of the TSM code to a ResNet stand at fixed blocks, so the model names them to the backbone."""
    after_block: dict[str, OperatorFactory] = {}
    if non_local != "none":
        operator = partial(NonLocalBlock, affinity=non_local)
        after_block = {f"layer2.{i}": operator for i in (0, 2) if i < layers[1]}
        after_block |= {f"layer3.{i}": operator for i in (0, 2, 4) if i < layers[2]}
    before_stage = {"layer2": lambda channels: TemporalMaxPool()} if temporal_pool else {}
    build = partial(build, layers, after_block=after_block, before_stage=before_stage)
    return _join(build, num_classes, num_frames, **options)


def _join(
    build: Callable[..., FrameBackbone],
    num_classes: NumClasses,
    num_frames: int,
    *,
    dropout: float = 0.5,
    consensus: Consensus = "mean",
    mixer: OperatorFactory | NamedMixer | None = None,
    **options: Any,
) -> SegmentNetwork:
    if isinstance(mixer, str):
        if mixer not in _MIXERS:
            raise ValueError(f"mixer={mixer!r} is unknown; give {', '.join(_MIXERS)}, a function of channels, or None")
        mixer = _MIXERS[mixer]
    backbone = build(mixer=mixer, **options)
    return SegmentNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout, consensus=consensus)
