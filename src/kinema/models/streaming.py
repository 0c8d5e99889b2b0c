"""Networks on streams: one frame in, this frame's logits and the next state out."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.streaming import StreamState
from kinema.models.heads import ClipHead, SegmentHead

Shapes = dict[str, tuple[int, ...]]
TRAIN_CAUSAL = (
    "a network for streams is trained with causal frames, such as --model kinema.training.TSM --model.causal true, see "
    "experiments/causal"
)
"""What to do about a classifier that sees frames to come."""


class Streaming(nn.Module):
    """What a network adds to its `forward` on clips if its frames see the past alone.

        state = network.init_state(batch=1, size=224)
        for frame in frames:                                    # (1, C, 224, 224), normalised as clips are
            logits, state = network.step(frame, state)          # (1, K)

    The logits of a step are those of its frame, raw, and know the frames before it. Their mean over the first T frames of a
    stream is what `forward` gives for these T frames as a clip, for every T; `kinema.testing.assert_network_streams`
    checks that. Frame-wise networks stream too, with nothing to remember.

    A state is a flat dict from names to tensors, the clip first in each (`kinema.backbones.streaming.StreamState`). It is
    never changed, so one fresh state serves every new stream of its size.
    """

    backbone: Any
    head: ClipHead | SegmentHead

    def __init__(self) -> None:
        super().__init__()
        self._state_shapes: dict[tuple[int, int], Shapes] = {}

    def init_state(self, batch: int, size: int | tuple[int, int]) -> StreamState:
        """The state before the first frame. Costs about one step; keep it to start other streams.

        Args:
            batch: Streams side by side, the B of the frames.
            size: Side in pixels of square frames, or their height and width.

        Returns:
            Zeros, on the device and of the type of the network.

        Raises:
            ValueError: If the network sees frames to come, with what to build instead; or batch or size is below 1.
            RuntimeError: If the network is in training mode.
        """
        self._check_mode()
        height, width = (size, size) if isinstance(size, int) else size
        if batch < 1 or height < 1 or width < 1:
            raise ValueError(f"batch={batch}, size={(height, width)}: give at least one stream, and frames of a pixel")
        backbone = self._causal_backbone()
        like = next(self.parameters())
        with torch.no_grad():
            state = backbone.init_state(like.new_zeros(batch, backbone.in_channels, height, width))
        self._state_shapes[height, width] = _shapes(state)
        return state

    def step(
        self, frame: Float[Tensor, "B C H W"], state: StreamState
    ) -> tuple[Tensor | tuple[Tensor, ...], StreamState]:
        """One frame of each stream.

        Args:
            frame: Normalised as clips are.
            state: Of `init_state`, or of the step before; left as it is.

        Returns:
            Logits (B, K) of this frame, a tuple where the network has several classifiers; and the next state.

        Raises:
            ValueError: If the frame is none for this network, or has another size or number of streams than the state. Sizes
                that give features of the same sizes go together, such as 223 and 224 pixels in a ResNet.
            RuntimeError: If the network is in training mode.
        """
        self._check_mode()
        if not torch.compiler.is_compiling():
            self._check_frame(frame, state)
        features, state = self.backbone.step(frame, state)
        return self.head.classify(features.mean(dim=(2, 3)) if features.ndim == 4 else features), state

    def _causal_backbone(self) -> Any:
        if not hasattr(self.backbone, "init_state"):
            raise ValueError(
                f"a {type(self.backbone).__name__} sees all frames of a clip at once and has no causal form, so it cannot "
                "run on a stream; build tsm_*, tada2d_* or timesformer_* with causal=True"
            )
        return self.backbone

    def _check_mode(self) -> None:
        if self.training:
            raise RuntimeError(
                "a network in training mode does not run on a stream: its norms would take the statistics of one frame; "
                "call eval() first"
            )

    def _check_frame(self, frame: Tensor, state: StreamState) -> None:
        """Refuse a frame that does not fit the network or the state.

        Raises:
            ValueError: If it does not.
        """
        channels = self.backbone.in_channels
        if frame.ndim != 4 or frame.shape[1] != channels or not frame.is_floating_point() or 0 in frame.shape:
            raise ValueError(
                f"a step takes one frame of each stream, floating-point and normalised, (B, {channels}, H, W); got "
                f"{frame.dtype} of shape {tuple(frame.shape)}; of a clip, give clip[:, :, t]"
            )
        size = cast(tuple[int, int], tuple(frame.shape[2:]))
        if size not in self._state_shapes:
            self.init_state(1, size)
        needed, given = self._state_shapes[size], _shapes(state)
        if given.keys() != needed.keys():
            odd = sorted(given.keys() ^ needed.keys())
            raise ValueError(
                f"the state is of another network: {odd[:3]} of {len(needed)} names are missing or too many; give what "
                "init_state or the last step of this network returned"
            )
        if given != needed:
            was = next((known for known, shapes in self._state_shapes.items() if shapes == given), None)
            odd = next(name for name in needed if given[name] != needed[name])
            of = (
                f"of {was[0]} x {was[1]} pixels"
                if was
                else f"of another size ({odd} is {given[odd]}, not {needed[odd]})"
            )
            raise ValueError(
                f"the stream began with frames {of} and this one has {size[0]} x {size[1]}; frames of a stream have one "
                f"size: resize them, or begin anew with init_state({frame.shape[0]}, {size})"
            )
        if state and any(tensor.shape[0] != frame.shape[0] for tensor in state.values()):
            streams = next(iter(state.values())).shape[0]
            raise ValueError(
                f"the state is of {streams} streams and {frame.shape[0]} frames came; give one frame of each stream"
            )


def _shapes(state: StreamState) -> Shapes:
    """What is the same for every number of streams."""
    return {name: tuple(tensor.shape[1:]) for name, tensor in state.items()}
