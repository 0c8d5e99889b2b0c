"""Temporal shift module (Lin, Gan and Han 2019, arXiv:1811.08383): a TSN whose blocks shift channels along time."""

from functools import partial
from typing import Any, Unpack

from kinema.backbones.holes import Placement
from kinema.models.network import SegmentNetwork
from kinema.models.options import TSMMobileNetOptions, TSMNanoOptions, TSMOptions
from kinema.models.tsn import NumClasses, tsn_mobilenetv2, tsn_nano, tsn_r18, tsn_r50, tsn_r101
from kinema.operators.shift import TemporalShift


def tsm_nano(
    num_classes: NumClasses = 400,
    num_frames: int = 8,
    **options: Unpack[TSMNanoOptions],
) -> SegmentNetwork:
    """TSM on the small ResNet of `tsn_nano`."""
    return tsn_nano(num_classes, num_frames, **_shifting(**options))


def tsm_r18(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TSMOptions]) -> SegmentNetwork:
    """TSM on ResNet-18, 8 shifts; size and cost of `tsn_r18`."""
    return tsn_r18(num_classes, num_frames, **_shifting(**options))


def tsm_r50(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TSMOptions]) -> SegmentNetwork:
    """TSM on ResNet-50, 16 shifts; size and cost of `tsn_r50`."""
    return tsn_r50(num_classes, num_frames, **_shifting(**options))


def tsm_r101(num_classes: NumClasses = 400, num_frames: int = 8, **options: Unpack[TSMOptions]) -> SegmentNetwork:
    """TSM on ResNet-101, 18 shifts, in every second block; size and cost of `tsn_r101`."""
    return tsn_r101(num_classes, num_frames, **_shifting(deep=True, **options))


def tsm_mobilenetv2(
    num_classes: NumClasses = 400,
    num_frames: int = 8,
    **options: Unpack[TSMMobileNetOptions],
) -> SegmentNetwork:
    """TSM on MobileNetV2, 10 shifts, in the blocks with a shortcut; size and cost of `tsn_mobilenetv2`."""
    return tsn_mobilenetv2(num_classes, num_frames, **_shifting(**options))


def _shifting(
    *,
    deep: bool = False,
    shift_fraction: float = 1 / 4,
    placement: Placement = "residual",
    causal: bool = False,
    shift_every: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Options of TSM into those of TSN.

    Raises:
        ValueError: If another option would let a causal network read the future.
    """
    if causal:
        for name, off in (("non_local", "none"), ("temporal_pool", False)):
            if options.get(name, off) != off:
                raise ValueError(f"{name}={options[name]!r} reads the future; leave it out of a causal network")
    if shift_every is None:
        shift_every = 2 if deep and placement == "residual" else 1
    mixer = partial(TemporalShift, fraction=shift_fraction, causal=causal) if shift_fraction else None
    return {**options, "mixer": mixer, "placement": placement, "mixer_every": shift_every}
