"""From the features of a whole video to its segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinema.data.untrimmed.feature_files import FeatureError, FeatureFile
from kinema.data.untrimmed.segments import Label
from kinema.data.untrimmed.windows import Window, Windows
from kinema.localization.fusion import Ranked, class_probabilities, rank_classes, video_probabilities
from kinema.localization.network import BoundaryMaps, BoundaryMatchingNetwork
from kinema.localization.proposals import Proposals, VideoMaps, find_proposals, join_windows
from kinema.localization.soft_nms import soft_nms

Fusion = Literal["proposal", "video", "network"]

_BATCH = 8  # windows of a video that go through the network at once


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
        fusion: Where classes come from: of each `proposal` by itself from the class scores of the clips it covers
            (EPIC-KITCHENS-100), the best ones of the whole `video` for all its proposals (ActivityNet, HACS), or the class
            head of the `network`.
        num_labels: Classes given to each proposal, the most likely ones.
        num_proposals: Proposals kept of a video by Soft-NMS; one per second of it, and one more, when None.
        classification_power: Power of the classified overlap in the score of a proposal.
        regression_power: Power of the regressed overlap.
        class_power: Power of the class probability by which that score is multiplied.
        boundary_threshold: Share of the largest probability above which a bin is a start or an end.
        reach_end: Whether proposals may end where the video ends; the published code makes none.
        nms_alpha: How slowly Soft-NMS lowers the scores of proposals that overlap.
        nms_low: Overlap that it lets pass beside a proposal of width 0, as a share of the video.
        nms_high: Likewise beside one as long as the video.
        top: With several tasks, classes of each that are combined.
    """

    fusion: Fusion = "proposal"
    num_labels: int = 2
    num_proposals: int | None = 100
    classification_power: float = 1.2
    regression_power: float = 1.0
    class_power: float = 1.0
    boundary_threshold: float = 0.5
    reach_end: bool = True
    nms_alpha: float = 0.4
    nms_low: float = 0.25
    nms_high: float = 0.9
    top: tuple[int, ...] = (10, 30)

    def __post_init__(self) -> None:
        if self.num_labels < 1 or (self.num_proposals is not None and self.num_proposals < 1):
            raise ValueError(
                f"num_labels={self.num_labels} and num_proposals={self.num_proposals} must be at least 1: nothing would be "
                "detected"
            )

    @classmethod
    def epic(cls) -> "PostProcessing":
        """EPIC-KITCHENS-100, as in TAdaConv's runs: five actions for each proposal, one proposal per second."""
        return cls("proposal", num_labels=5, num_proposals=None)

    @classmethod
    def activitynet(cls) -> "PostProcessing":
        """ActivityNet and HACS: the two best classes of the video for each of 100 proposals."""
        return cls("video", num_labels=2, num_proposals=100)


class BrokenMapsError(ValueError):
    """What a network says of a video is no number; the text names the video and what is wrong."""


@torch.inference_mode()
def propose(
    model: BoundaryMatchingNetwork, file: FeatureFile, *, windows: Windows, options: PostProcessing | None = None
) -> list[Detection]:
    """Find the segments of one video.

    Args:
        model: Such as `BMN.network` of a trained module; it is put in eval mode for this and back afterwards.
            `BMN.propose(file)` fills in the other two arguments as they were in training.
        file: The features of the video; with class scores each detection has a label.
        windows: How the video is cut into windows, as in training.
        options: How proposals become detections.

    Returns:
        Detections, best first; several may share a segment and differ in their label.

    Raises:
        FeatureError: If the features have another dimension than the model, cover no window, or have no class scores where
            classes are to come from them.
    """
    options = options or PostProcessing()
    seen, inputs = window_inputs(file, windows, model.in_channels)
    return detections_of(_maps_of(model, seen, inputs, file), file, windows, seen, options)


def window_inputs(file: FeatureFile, windows: Windows, in_channels: int) -> tuple[list[Window], list[Tensor]]:
    """The windows in which a video has features, and what each shows.

    Raises:
        FeatureError: If the features have another dimension, or there is no such window.
    """
    if file.dim != in_channels:
        raise FeatureError(
            f"{file.video}: the features have {file.dim} channels and the network reads {in_channels}; give features of the "
            "network it was trained with"
        )
    seen = windows.seen(file)
    if not seen:
        raise FeatureError(
            f"{file.video}: no clip lies within the {file.duration:g} s of the video; its times are wrong, write it anew"
        )
    columns = [windows.sample(file.features, file, window) for window in seen]
    return seen, [inputs for inputs in columns if inputs is not None]


def detections_of(
    maps: VideoMaps, file: FeatureFile, windows: Windows, seen: Sequence[Window], options: PostProcessing
) -> list[Detection]:
    """The segments of a video from its maps: proposals, Soft-NMS, and the classes of what is kept.

    Args:
        maps: Of the whole video.
        file: Where class scores come from.
        windows: How the video is cut into windows.
        seen: The windows with features.
        options: How proposals become detections.
    """
    proposals = find_proposals(maps, threshold=options.boundary_threshold, reach_end=options.reach_end)
    if not len(proposals):
        return []
    start, end = _refined(proposals, maps)
    score = proposals.score(
        regression_power=options.regression_power, classification_power=options.classification_power
    )
    keep = int(file.duration) + 1 if options.num_proposals is None else options.num_proposals
    kept = soft_nms(
        start[None] / file.duration,
        end[None] / file.duration,
        score[None],
        keep=keep,
        alpha=options.nms_alpha,
        low=options.nms_low,
        high=options.nms_high,
    )
    chosen = kept.index[0][kept.index[0] >= 0]
    ranked = _classes(proposals, chosen, maps, file, windows, seen, options)
    found = []
    for place, proposal in enumerate(chosen):
        begin, finish, base = float(start[proposal]), float(end[proposal]), float(kept.score[0, place])
        if ranked is None:
            found.append(Detection(begin, finish, base, None))
            continue
        for probability, label in zip(ranked.score[place], ranked.label[place].tolist(), strict=True):
            value = base * float(probability) ** options.class_power
            found.append(Detection(begin, finish, value, label[0] if len(label) == 1 else tuple(label)))
    return sorted(found, key=lambda detection: -detection.score)


def _maps_of(model: BoundaryMatchingNetwork, seen: list[Window], inputs: list[Tensor], file: FeatureFile) -> VideoMaps:
    parameter = next(model.parameters())
    training = model.training
    model.eval()
    try:
        batches = [
            model(torch.stack(inputs[begin : begin + _BATCH]).to(parameter.device, parameter.dtype))
            for begin in range(0, len(inputs), _BATCH)
        ]
    finally:
        model.train(training)
    return video_maps(seen, batches, file)


def video_maps(seen: Sequence[Window], batches: Sequence[BoundaryMaps], file: FeatureFile) -> VideoMaps:
    """The maps of a video from what the network said of its windows, batch by batch.

    Raises:
        BrokenMapsError: If anything it says is not finite.
    """
    start, end = torch.cat([batch.start for batch in batches]), torch.cat([batch.end for batch in batches])
    confidence = torch.cat([batch.confidence for batch in batches])
    found = [batch.offsets for batch in batches if batch.offsets is not None]
    offsets = torch.cat(found) if found else None
    classes = tuple(torch.cat(task) for task in zip(*(batch.classes for batch in batches), strict=True))
    parts = [("start", start), ("end", end), ("confidence", confidence), *(("classes", part) for part in classes)]
    for name, part in [*parts, *([] if offsets is None else [("offsets", offsets)])]:
        if not bool(torch.isfinite(part).all()):
            bad = (~torch.isfinite(part)).flatten(1).any(1).nonzero()[:, 0].tolist()
            raise BrokenMapsError(
                f"{file.video}: what the network says of '{name}' is not finite in {len(bad)} of {len(part)} windows, the "
                f"first at {seen[bad[0]].start:g} s; its weights are broken or these features far from those it learnt on: "
                "train it anew, or give other features"
            )
    joined = BoundaryMaps(start, end, confidence, offsets, classes)
    return join_windows(seen, joined, duration=file.duration)


def _refined(proposals: Proposals, maps: VideoMaps) -> tuple[np.ndarray, np.ndarray]:
    """Start and end moved by the offsets that the network says, where it has that head."""
    if maps.offsets is None:
        return proposals.start, proposals.end
    moved = maps.offsets[:, proposals.length - 1, proposals.first].numpy() * (proposals.length * maps.bin_s)
    start = np.clip(proposals.start + moved[0], 0, maps.duration)
    end = np.clip(proposals.end + moved[1], 0, maps.duration)
    reversed_ = end <= start
    return np.where(reversed_, proposals.start, start), np.where(reversed_, proposals.end, end)


def _classes(
    proposals: Proposals,
    chosen: np.ndarray,
    maps: VideoMaps,
    file: FeatureFile,
    windows: Windows,
    seen: Sequence[Window],
    options: PostProcessing,
) -> Ranked | None:
    """The best classes of the chosen proposals; None where nothing tells them."""
    if options.fusion == "network":
        if not maps.classes:
            raise ValueError("fusion='network' needs a network with a class head; train one with num_classes")
        first, length = proposals.first[chosen], proposals.length[chosen]
        return rank_classes(
            [part[:, length - 1, first].T.numpy() for part in maps.classes], options.num_labels, top=options.top
        )
    logits = list(file.tensors_of_logits().values())
    if not logits:
        return None
    if options.fusion == "video":
        probabilities = [video_probabilities(scores)[None].numpy() for scores in logits]
        ranked = rank_classes(probabilities, options.num_labels, top=options.top)
        return Ranked(ranked.score.repeat(len(chosen), 0), ranked.label.repeat(len(chosen), 0))
    probabilities = [_over_windows(scores, proposals, chosen, file, windows, seen).numpy() for scores in logits]
    return rank_classes(probabilities, options.num_labels, top=options.top)


def _over_windows(
    logits: Tensor,
    proposals: Proposals,
    chosen: np.ndarray,
    file: FeatureFile,
    windows: Windows,
    seen: Sequence[Window],
) -> Tensor:
    """Class probabilities of proposals, averaged over the windows in which they lie wholly."""
    first, length = proposals.first[chosen], proposals.length[chosen]
    total = torch.zeros(len(chosen), logits.shape[1], dtype=torch.float64)
    count = torch.zeros(len(chosen), dtype=torch.float64)
    for window in seen:
        offset = round(window.start / window.bin_s)
        held = (first >= offset) & (first + length <= offset + window.num_bins)
        columns = windows.sample(logits, file, window)
        if not held.any() or columns is None:
            continue
        place = torch.from_numpy(held)
        total[place] += class_probabilities(columns, first[held] - offset, length[held])
        count[place] += 1
    return total / count[:, None]
