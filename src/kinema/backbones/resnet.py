"""ResNet (He et al. 2016, arXiv:1512.03385) on every frame, from timm, with holes for temporal operators."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import Tensor, nn

from kinema.backbones.holes import Batch, Hole, OperatorFactory, Placement, Site, open_holes
from kinema.shapes import fold_time, unfold_time


class ResNet(nn.Module):
    """A clip to one feature map per frame; frames meet only in the operators that fill the holes.

    The trunk is timm's ResNet, whose names and arithmetic are torchvision's (stride on the 3 x 3 convolution, "v1.5").

    Args:
        layers: Number of blocks in each of the four stages.
        bottleneck: Blocks of three convolutions (ResNet-50 and deeper) instead of two.
        channels: Width of each stage before the bottleneck's expansion by 4.
        small_frames: Stem of three 3 x 3 convolutions, the last to 16 channels, in place of one 7 x 7 to 64; for frames of
            about 64 pixels.
        in_channels: Channels of the clip.
        mixer: Builds the temporal mixer of one block from its number of channels; None leaves the network frame-wise.
        placement: "residual" or "in_place", see `open_holes`.
        mixer_every: Blocks from one mixer to the next within a stage.
        after_block: Block name such as "layer2.0" to the factory of an operator that follows it.
        before_stage: Stage name such as "layer2" to the factory of an operator in front of it, which may change T.

    Shape:
        (B, in_channels, T, H, W) to (B, num_features, T', ceil(H / 32), ceil(W / 32)).
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        *,
        bottleneck: bool = True,
        channels: Sequence[int] = (64, 128, 256, 512),
        small_frames: bool = False,
        in_channels: int = 3,
        mixer: OperatorFactory | None = None,
        placement: Placement = "residual",
        mixer_every: int = 1,
        after_block: Mapping[str, OperatorFactory] | None = None,
        before_stage: Mapping[str, OperatorFactory] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = TimmResNet(
            Bottleneck if bottleneck else BasicBlock,
            tuple(layers),
            channels=tuple(channels),
            in_chans=in_channels,
            stem_type="deep" if small_frames else "",
            stem_width=8 if small_frames else 64,
            num_classes=0,
            global_pool="",
            zero_init_last=False,  # as torchvision, so as the TSM authors; timm would start the last norms at zero
        )
        self.in_channels = in_channels
        self.num_features = self.trunk.num_features
        self._batch = Batch()
        stages = {name: getattr(self.trunk, name) for name in ("layer1", "layer2", "layer3", "layer4")}
        width = self.trunk.bn1.num_features
        sites = []
        for (stage_name, stage), planes in zip(stages.items(), channels, strict=True):
            for index in range(len(stage)):
                out_channels = planes * (4 if bottleneck else 1)
                sites.append(Site(stage, index, f"{stage_name}.{index}", "conv1", width, out_channels))
                width = out_channels
        in_channels_of = {site.name.removesuffix(".0"): site.in_channels for site in sites if site.index == 0}
        open_holes(
            sites,
            self._batch,
            mixer=mixer,
            placement=placement,
            mixer_every=mixer_every,
            after_block=after_block or {},
        )
        for name, factory in (before_stage or {}).items():
            hole = Hole(factory(in_channels_of[name]), self._batch)
            setattr(self.trunk, name, nn.Sequential(OrderedDict(before=hole, blocks=stages[name])))

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D U h w"]:
        self._batch.num_clips = clip.shape[0]
        frames = self.trunk.forward_features(fold_time(clip))
        return unfold_time(frames, frames.shape[0] // clip.shape[0])
