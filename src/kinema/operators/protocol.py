"""What an operator must offer to stand in a backbone.

A backbone knows these signatures and nothing else: any module that fits one can be handed to it as a factory.
`isinstance` checks only that the methods exist; `kinema.testing` checks what they compute.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

OperatorFactory = Callable[[int], nn.Module]
"""Builds the operator for one hole from its number of channels."""


@runtime_checkable
class TemporalMixer(Protocol):
    """Mixes frames: a clip in, a clip of the same shape out."""

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]: ...


OperatorState = Tensor | dict[str, Tensor]
"""What an operator remembers of a stream: one tensor, or several with names (none of them "state"); {} for nothing.

The clip is the first axis of each. States are explicit: `step` gets one and returns the next, and changes neither, so a
state may be kept and gone on from twice, moved to another device, detached, saved, or made an input and an output of an
exported graph. Before the first frame it is zeros everywhere, so that one clip of a batch starts anew by zeroing its rows.
"""


@runtime_checkable
class StreamingMixer(Protocol):
    """A causal mixer that also runs frame by frame, its state passed explicitly.

    Stepping through a clip from `init_state` gives the frames of `forward`, in evaluation mode.
    """

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]: ...

    def init_state(self, frame: Float[Tensor, "B C H W"]) -> OperatorState:
        """The state before the first frame. Of `frame` only the batch, size, dtype and device are read, never a value.

        Raises:
            ValueError: If the operator sees frames to come.
        """
        ...

    def step(
        self, frame: Float[Tensor, "B C H W"], state: OperatorState
    ) -> tuple[Float[Tensor, "B C H W"], OperatorState]:
        """One frame and the state before it; returns the output frame and the next state."""
        ...


@runtime_checkable
class PointwiseMixer(Protocol):
    """A mixer that knows a shorter way to the 1 x 1 convolution behind it than through its own output."""

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]: ...

    def then_pointwise(
        self, x: Float[Tensor, "B C T H W"], weight: Float[Tensor, "D C 1 1"]
    ) -> Float[Tensor, "B D T H W"]:
        """What a convolution with `weight`, without bias and stride, gives on every frame of `forward(x)`."""
        ...
