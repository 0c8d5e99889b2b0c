"""Frames in, predictions out: a causal network on one stream, its state carried from frame to frame."""

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from kinema.backbones.streaming import StreamState
from kinema.evaluation.task_views import joint_scores
from kinema.models.streaming import TRAIN_CAUSAL, Streaming
from kinema.streaming.pacing import Pacing
from kinema.streaming.smoothing import Smoothing
from kinema.training.restore import Predictor, need_finite

OTHER_SIZE = "its picture changes"
"""How a reset for frames of another size begins."""
_SIDE = 32
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class FramePrediction:
    """What is said at one frame.

    Args:
        number: Of the prediction, from 0.
        time_s: When the frame was shown, in seconds from the start of the stream.
        scores: Of every class, smoothed; they sum to 1.
        frame_scores: Of every class, as this frame alone says with what the network remembers.
        reset: Why the network began anew at this frame; empty where it did not.
        latency_ms: From the frame to its scores, preprocessing included.
    """

    number: int
    time_s: Fraction
    scores: Float[Tensor, " K"]
    frame_scores: Float[Tensor, " K"]
    reset: str
    latency_ms: float


class StreamSession:
    """A causal classifier on one stream.

    Frames are resized, cut in their centre and normalised by the code of validation, so a video whose frames are streamed, and
    averaged with an infinite half-life, has the scores of its clip.

    The session begins anew, with an empty state and nothing averaged, when it is told that a frame does not continue the one
    before, when the size of the frames changes (they are resized all the same, but another size is another camera or another
    scene), and at a change of scene. That is noticed by

        d_t = mean |g_t - g_(t-1)|

    over frames g that are cut as for the network, grey (ITU-R BT.601), in [0, 1], and averaged to 32 x 32 (less for networks
    on smaller frames): a measure of places, which a cut changes nearly everywhere, and a moving thing or noise does not. Fast
    motion of the camera, and lights that are switched, change it too. Where eight videos of the built-in set were joined, it
    was 0.05 to 0.14, and between their other frames at most 0.017 (25 frames a second) or 0.036 (6.25).

    Args:
        predictor: The classifier.
        half_life_s: Of `Smoothing`: 0 leaves the scores of every frame as they are, infinity is the mean since the last reset.
        scene_change: Begin anew where d_t is above this, in (0, 1). Never when None.
        rate: Frames a second that are taken, see `Pacing`; all when None.

    Raises:
        ValueError: If the network sees frames to come, with what to train instead; or an option is out of its range.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        half_life_s: float = 0.0,
        scene_change: float | None = None,
        rate: Fraction | None = None,
    ) -> None:
        if scene_change is not None and not 0 < scene_change < 1:
            raise ValueError(
                f"scene_change={scene_change} was given; frames differ by 0 to 1, give a number between, such as 0.1"
            )
        self.predictor = predictor
        self.smoothing, self.pacing = Smoothing(half_life_s), Pacing(rate)
        self.scene_change = scene_change
        self.transform = replace(predictor.clips.transform, num_crops=1)
        self._first_state = _first_state(predictor, self.transform.size)
        self._state = self._first_state
        self._size: tuple[int, int] | None = None
        self._grey: Tensor | None = None
        self._cut = ""
        self.frames = 0
        """Frames that were given."""
        self.predictions = 0
        self.resets = 0

    @torch.inference_mode()
    def see(self, pixels: UInt8[NDArray, "H W 3"], time_s: Fraction, *, cut: str = "") -> FramePrediction | None:
        """One frame of the stream.

        Args:
            pixels: RGB.
            time_s: When it was shown, in seconds; not before the frame before.
            cut: Why it does not continue that one, such as a lost connection; empty where it does.

        Returns:
            The prediction; None for a frame between two ticks of the rate.

        Raises:
            ValueError: If it is no such frame.
            NonFiniteScoresError: If the network gives no numbers for it.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(
                f"a frame of {pixels.dtype} and shape {pixels.shape} was given; one (H, W, 3) of uint8, RGB, was needed"
            )
        begun = time.perf_counter()
        self.frames += 1
        size = (pixels.shape[0], pixels.shape[1])
        if self._size is not None and size != self._size:
            cut = cut or f"{OTHER_SIZE} from {self._size[1]} x {self._size[0]} to {size[1]} x {size[0]}"
        self._size = size
        if cut:
            self._begin_anew()
        if not self.pacing.takes(time_s):
            # A cut is said of the next frame that is predicted; the network has begun anew by then.
            self._cut = cut or self._cut
            return None
        cut, self._cut = cut or self._cut, ""
        (crop,) = self.transform(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        if self._changed_scene(crop):
            cut = cut or "scene change"
            self._begin_anew()
        self.resets += bool(cut)
        logits = self._step(crop)
        name = f"the frame at {float(time_s):.2f} s"
        frame_scores = need_finite(_scores(logits), name)
        scores = need_finite(_scores(self.smoothing(logits, float(time_s))), name)
        self.predictions += 1
        return FramePrediction(
            self.predictions - 1,
            time_s,
            scores,
            frame_scores,
            cut,
            1000 * (time.perf_counter() - begun),
        )

    def _begin_anew(self) -> None:
        self._state = self._first_state
        self.smoothing.reset()

    def _step(self, crop: UInt8[Tensor, "1 C H W"]) -> list[Float[Tensor, " K"]]:
        module = self.predictor.module
        frame = module.normalise(crop.to(module.device)[:, :, None])[:, :, 0]
        logits, self._state = cast(Streaming, module.network).step(frame, self._state)
        parts = logits if isinstance(logits, tuple) else (logits,)
        return [part[0].double().cpu() for part in parts]

    def _changed_scene(self, crop: UInt8[Tensor, "1 C H W"]) -> bool:
        if self.scene_change is None:
            return False
        before, self._grey = self._grey, small_grey(crop)
        return before is not None and frame_difference(before, self._grey) > self.scene_change


def small_grey(crop: UInt8[Tensor, "1 3 H W"]) -> Float[Tensor, "h w"]:
    """A frame as it is compared with the next: grey, in [0, 1], averaged to at most 32 x 32."""
    grey = (crop[0] / 255 * crop.new_tensor(_LUMA, dtype=torch.float32)[:, None, None]).sum(dim=0)
    return F.adaptive_avg_pool2d(grey[None], (min(grey.shape[0], _SIDE), min(grey.shape[1], _SIDE)))[0]


def frame_difference(first: Float[Tensor, "h w"], second: Float[Tensor, "h w"]) -> float:
    """Mean absolute difference of two grey frames, in [0, 1]."""
    return float((second - first).abs().mean())


def _scores(logits: list[Float[Tensor, " K"]]) -> Float[Tensor, " K"]:
    """Probabilities; where there are several classifiers, of every combination of their classes."""
    if len(logits) == 1:
        return logits[0].softmax(0)
    return joint_scores([part.softmax(0)[None] for part in logits]).flatten()


def _first_state(predictor: Predictor, size: int) -> StreamState:
    module = predictor.module
    name = predictor.checkpoint or module.model_name
    if not isinstance(module.network, Streaming):
        raise ValueError(
            f"{name} holds a {type(module.network).__name__}, which has no form for streams; {TRAIN_CAUSAL}"
        )
    try:
        return module.network.init_state(1, size)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; {TRAIN_CAUSAL}") from error
