"""One frame at a time through a network on frames: what its holes read of the past, and leave for the next frame."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

StreamState = dict[str, Tensor]
"""What a network remembers of a stream: a flat dict from the place of an operator, and the name of its part, to a tensor.

    {"layer1.0.conv1.mixer.state": (B, F, H, W), "layer2.0.conv2.descriptors": (B, C + 1, W - 1), ...}

The clip is the first axis of each tensor. Names and their order stay the same from `init_state` through every `step`, and
so do shapes and types: an exported graph can have them as inputs and outputs. To move a state, to detach or to save it,
do so with each tensor; to start one clip of a batch anew, zero its rows.
"""

_ONLY = "state"  # the part of an operator that has one tensor


class Stream:
    """One frame on its way through a backbone, handed from hole to hole.

    Args:
        before: State before the frame; None if there is none yet, and every operator is asked for its first.
    """

    def __init__(self, before: Mapping[str, Tensor] | None) -> None:
        self.before = None if before is None else _by_place(before)
        self.after: StreamState = {}
        """State behind the frame; with `before` None, the state in front of it."""

    def step(self, place: str, operator: nn.Module, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Let one operator see the frame.

        Raises:
            ValueError: If the operator sees frames to come.
        """
        streaming: Any = operator
        if self.before is not None:
            output, state = streaming.step(frame, self.before.get(place, {}))
            self._keep(place, state)
            return output
        if not hasattr(operator, "init_state"):
            raise ValueError(
                f"{place} holds a {type(operator).__name__}, which sees frames to come, so the network cannot run on a "
                "stream; leave it out, or build a network that takes causal=True"
            )
        try:
            state = streaming.init_state(frame)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        self._keep(place, state)
        return streaming.step(frame, state)[0]

    def _keep(self, place: str, state: Tensor | dict[str, Tensor]) -> None:
        parts = {_ONLY: state} if isinstance(state, Tensor) else state
        for part, tensor in parts.items():
            self.after[f"{place}.{part}"] = tensor


def _by_place(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state of every operator, in the form in which it gave it."""
    places: dict[str, Any] = {}
    for name, tensor in state.items():
        place, _, part = name.rpartition(".")
        if part == _ONLY:
            places[place] = tensor
        else:
            places.setdefault(place, {})[part] = tensor
    return places
