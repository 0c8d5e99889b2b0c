"""A network from timm on every frame of a clip, with holes for temporal operators."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.holes import Batch, LayerFactory, OperatorFactory, Placement, Site, Trunk, open_holes
from kinema.backbones.streaming import Stream, StreamState
from kinema.shapes import fold_time, unfold_time


class Filling(TypedDict, total=False):
    """What goes into the holes of a backbone; each entry is described at `open_holes`."""

    mixer: OperatorFactory | None
    placement: Placement
    mixer_every: int
    after_block: Mapping[str, OperatorFactory] | None
    before_stage: Mapping[str, OperatorFactory] | None
    convolution: LayerFactory | None
    norm: LayerFactory | None
    convolution_stages: Sequence[str] | None


class FrameBackbone(nn.Module):
    """A clip to one feature map per frame; frames meet only in the operators that fill the holes.

    Args:
        trunk: Network on frames, whose blocks are rebuilt around the operators.
        sites: The trunk's blocks in order of execution.
        num_features: Channels of the feature maps.
        in_channels: Channels of the clip.
        filling: The operators, see `open_holes`; without any the network is frame-wise.

    Shape:
        (B, in_channels, T, H, W) to (B, num_features, T', H', W'), T' = T unless an operator changes it.
    """

    trunk: Trunk

    def __init__(
        self,
        trunk: Trunk,
        sites: Sequence[Site],
        *,
        num_features: int,
        in_channels: int = 3,
        **filling: Unpack[Filling],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_features = num_features
        self.in_channels = in_channels
        self._batch = Batch()
        open_holes(trunk, sites, self._batch, **filling)

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D U h w"]:
        self._batch.num_clips = clip.shape[0]
        frames = self.trunk.forward_features(fold_time(clip))
        self._batch.recall_behind(frames)
        return unfold_time(frames, frames.shape[0] // clip.shape[0])

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> StreamState:
        """The state before the first frame; of `frame` batch, size, dtype and device count, and no value.

        Raises:
            ValueError: If an operator sees frames to come.
        """
        return self._on_stream(frame, Stream(None))[1]

    def step(self, frame: Float[Tensor, "B C H W"], state: StreamState) -> tuple[Float[Tensor, "B D h w"], StreamState]:
        """The feature map of one frame of each clip, and the next state; the given one is left as it is."""
        return self._on_stream(frame, Stream(state))

    def _on_stream(self, frame: Tensor, stream: Stream) -> tuple[Tensor, StreamState]:
        self._batch.num_clips, self._batch.stream = frame.shape[0], stream
        try:
            return self.trunk.forward_features(frame), stream.after
        finally:
            self._batch.stream = None
