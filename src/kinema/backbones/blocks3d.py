"""ResNets of 3-D convolutions from pytorchvideo's blocks, with holes for the convolutions that TAdaConv replaces.

What is built here are stems and stages; `resnet3d` and `slowfast` make backbones of them.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypedDict

from torch import nn

from kinema.backbones.holes import LayerFactory

with warnings.catch_warnings():
    # pytorchvideo imports fvcore, which scripts a loss that nobody here uses, and torch advises against scripting.
    warnings.simplefilter("ignore", FutureWarning)
    from pytorchvideo.models.resnet import create_bottleneck_block, create_res_stage
    from pytorchvideo.models.slowfast import FuseFastToSlow
    from pytorchvideo.models.stem import create_res_basic_stem
    from pytorchvideo.models.weight_init import init_net_weights

# pytorchvideo annotates triples as Tuple[int].
_create_stem: Any = create_res_basic_stem
_create_stage: Any = create_res_stage

__all__ = ["EXPANSION", "STAGES", "Filling3d", "FuseFastToSlow", "fill_convolutions", "trunk3d"]

EXPANSION = 4
"""Channels that a bottleneck gives over those of its convolution in the middle."""
STAGES = ("layer1", "layer2", "layer3", "layer4")


class Filling3d(TypedDict, total=False):
    """What goes into the holes of a backbone of 3-D convolutions.

    convolution: Builds what takes the place of the convolution over pixels in each block, from that convolution. It
        stands among clips (B, C, T, H, W).
    convolution_stages: Names of the stages where it does; None for all.
    """

    convolution: LayerFactory | None
    convolution_stages: Collection[str] | None


def trunk3d(
    layers: Sequence[int],
    *,
    width: int,
    in_channels: int,
    stem_frames: int,
    stem_pool: bool,
    frames_a: Sequence[int],
    frames_b: int,
    lateral: Sequence[int] = (0, 0, 0, 0),
    conv_c: Callable[..., nn.Module] = nn.Conv3d,
    zero_init_last: bool,
) -> nn.Sequential:
    """A stem and four stages of bottlenecks, time kept at its length throughout.

        a: frames_a x 1 x 1   ->   b: frames_b x 3 x 3, strided in the first block   ->   c: 1 x 1 x 1

    These are pytorchvideo's `create_res_basic_stem` and `create_res_stage`, of which its own `create_resnet` is made;
    that one knows three depths only, and always pools behind the stem where its first stage does not stride.
    Convolutions start as in He et al. 2015 (fan-out), as in pytorchvideo and in the code of TAdaConv's authors.

    Args:
        layers: Blocks in each stage; the stages are named "layer1" to "layer4".
        width: Channels of the stem; stage i gives `EXPANSION * width * 2 ** i`.
        in_channels: Channels of the clip.
        stem_frames: Frames that the 7 x 7 convolution of the stem sees, odd.
        stem_pool: Max pooling behind it. Without, the first stage strides instead.
        frames_a: Frames that the first convolution of a block sees, by stage, odd.
        frames_b: Frames that the middle one sees, odd.
        lateral: Channels that come in beside those of the stage before, by stage.
        conv_c: Builds the last convolution of a block.
        zero_init_last: Whether the last norm of a block starts at zero.

    Raises:
        ValueError: If the stem sees an even number of frames, or `layers` are not four numbers.
    """
    if stem_frames < 1 or stem_frames % 2 == 0:
        raise ValueError(f"stem_frames={stem_frames} has no frame in the middle; give an odd number")
    if len(layers) != len(STAGES) or min(layers) < 1:
        raise ValueError(f"layers={tuple(layers)} must be four numbers of blocks, each at least 1")
    relu = partial(nn.ReLU, inplace=True)
    kernel, padding = (stem_frames, 7, 7), (stem_frames // 2, 3, 3)
    stem = _create_stem(
        in_channels=in_channels,
        out_channels=width,
        conv_kernel_size=kernel,
        conv_padding=padding,
        pool=nn.MaxPool3d if stem_pool else None,
        activation=relu,
    )
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    channels = width
    for index, name in enumerate(STAGES):
        stride = 1 if index == 0 and stem_pool else 2
        inner = width * 2**index
        stage = _create_stage(
            depth=layers[index],
            dim_in=channels + lateral[index],
            dim_inner=inner,
            dim_out=EXPANSION * inner,
            bottleneck=create_bottleneck_block,
            conv_a_kernel_size=(frames_a[index], 1, 1),
            conv_a_stride=(1, 1, 1),
            conv_a_padding=(frames_a[index] // 2, 0, 0),
            conv_b_kernel_size=(frames_b, 3, 3),
            conv_b_stride=(1, stride, stride),
            conv_b_padding=(frames_b // 2, 1, 1),
            conv_c=conv_c,
            activation=relu,
        )
        parts[name] = nn.Sequential(*stage.res_blocks)
        channels = EXPANSION * inner
    trunk = nn.Sequential(parts)
    for module in trunk.modules():
        if isinstance(module, nn.Conv3d):  # pytorchvideo multiplies strides by numpy, whose numbers do not compile
            module.stride = tuple(map(int, module.stride))
        if hasattr(module, "block_final_bn") and not zero_init_last:
            del module.block_final_bn  # pytorchvideo's mark for a norm to start at zero
    init_net_weights(trunk)
    return trunk


def fill_convolutions(
    trunk: nn.Sequential,
    convolution: LayerFactory | None = None,
    convolution_stages: Collection[str] | None = None,
    *,
    name: str = "branch2.conv_b",
) -> None:
    """Put what the factory builds in the place of one convolution of every block, in place.

    Args:
        trunk: Of `trunk3d`.
        convolution: Builds it from what stands there; None leaves the trunk as it is.
        convolution_stages: Names of the stages where; None for all.
        name: Of the convolution in its block.

    Raises:
        ValueError: If a stage has another name.
    """
    if unknown := sorted(set(convolution_stages or ()) - set(STAGES)):
        raise ValueError(f"no stage of this backbone is named {unknown}; its stages are {list(STAGES)}")
    if convolution is None:
        return
    for stage in STAGES if convolution_stages is None else convolution_stages:
        for block in trunk.get_submodule(stage).children():
            block.set_submodule(name, convolution(block.get_submodule(name)))
