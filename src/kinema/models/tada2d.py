"""TAda2D: a ResNet whose 3 x 3 convolutions are calibrated per frame (Huang et al. 2022, arXiv:2110.06178)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

from kinema.backbones.frames import FrameBackbone
from kinema.backbones.resnet import resnet, small_resnet
from kinema.models.calibration import calibration_filling
from kinema.models.network import ClipNetwork
from kinema.models.options import NonLocal, TAda2DNanoOptions, TAda2DOptions
from kinema.models.tsn import NumClasses
from kinema.operators.nonlocal_block import NonLocalBlock


def tada2d_nano(
    num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TAda2DNanoOptions]
) -> ClipNetwork:
    """TAda2D on the small ResNet of `tsn_nano`."""
    depths, width = options.pop("depths", (1, 1, 2, 1)), options.pop("width", 16)
    return _on_resnet(partial(small_resnet, width=width), depths, num_classes, num_frames, **options)


def tada2d_r50(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TAda2DOptions]) -> ClipNetwork:
    """TAda2D on ResNet-50: 27.5 M parameters, 33.0 GMACs for 8 frames of 224 pixels (43.1 at the paper's 256).

    As in the authors' code: no max pooling behind the first convolution, the first block of the first stage strides
    instead; every 3 x 3 convolution is calibrated, the norm behind it is a `TemporalAggregation`, and the clip's pooled
    features are classified. Image weights of a ResNet-50 fit although they were trained with that pooling.

    With causal=True it runs on a stream: routers and aggregation see the past alone. The papers have no such network; what
    comes nearest is Online-TAdaConv (Cao et al. 2022, arXiv:2203.01885), routing "causal".
    """
    return _on_resnet(partial(resnet, stem_pool=False), (3, 4, 6, 3), num_classes, num_frames, **options)


def _on_resnet(
    build: Callable[..., FrameBackbone],
    layers: Sequence[int],
    num_classes: NumClasses,
    num_frames: int,
    *,
    dropout: float = 0.5,
    in_channels: int = 3,
    non_local: NonLocal = "none",
    causal: bool = False,
    **options: Any,
) -> ClipNetwork:
    """Options of TAda2D into a network.

    Raises:
        ValueError: If another option would let a causal network see the future.
    """
    if causal and non_local != "none":
        raise ValueError(f"non_local={non_local!r} reads the future; leave it out of a causal network")
    after_block = {}
    if non_local != "none":
        # One block behind the last stage, scaled, as in the configuration the authors ship.
        after_block = {f"layer4.{layers[3] - 1}": partial(NonLocalBlock, affinity=non_local, scaled=True, pool=False)}
    filling = calibration_filling(num_frames, causal=causal, **options)
    backbone = build(layers, in_channels=in_channels, after_block=after_block, **filling)
    return ClipNetwork(backbone, num_classes, num_frames=num_frames, dropout=dropout)
