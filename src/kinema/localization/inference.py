"""From the features of a whole video to its segments."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import nn

from kinema.data.feature_files import FeatureFile
from kinema.data.segments import Label
from kinema.localization.windows import Windows

Fusion = Literal["proposal", "video"]


class Detection(NamedTuple):
    """One segment found in a video.

    Args:
        start: Second at which it begins.
        end: Second at which it ends.
        score: How sure the network is; comparable between videos, not a probability.
        label: The id of its class, which is the column of the class scores; one id per task where there are several; None
            where the feature file has no class scores.
    """

    start: float
    end: float
    score: float
    label: Label | None


@dataclass(frozen=True)
class PostProcessing:
    """How proposals become detections.

    Args:
        fusion: Where classes come from: of each `proposal` by itself (EPIC-KITCHENS-100), or the best ones of the whole
            `video` for all its proposals (ActivityNet, HACS).
        num_labels: Classes given to each proposal, the most likely ones.
        num_proposals: Proposals kept of a video by Soft-NMS; one per second of it, and one more, when None.
    """

    fusion: Fusion = "proposal"
    num_labels: int = 2
    num_proposals: int | None = 100


def propose(
    model: nn.Module, file: FeatureFile, *, windows: Windows, options: PostProcessing | None = None
) -> list[Detection]:
    """Find the segments of one video.

    Args:
        model: A `BoundaryMatchingNetwork`, such as `BMN.network` of a trained module; it is put in eval mode for this and
            back afterwards. `BMN.propose(file)` fills in the other two arguments as they were in training.
        file: The features of the video; with class scores each detection has a label.
        windows: How the video is cut into windows, as in training.
        options: How proposals become detections.

    Returns:
        Detections, best first; several may share a segment and differ in their label.

    Raises:
        FeatureError: If the features have another dimension than the model, or cover no window.
    """
    raise NotImplementedError
