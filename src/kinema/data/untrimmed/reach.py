"""Which segments and stretches of videos windows and proposals reach, and sentences that count those they do not."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.data.untrimmed.segments import Segment
from kinema.data.untrimmed.windows import Clips, Window, Windows, inside


def times_of(segments: Sequence[Segment]) -> Float[Tensor, "G 2"]:
    """Start and end of each in seconds; also of none."""
    return torch.tensor([(s.start, s.end) for s in segments], dtype=torch.float64).reshape(-1, 2)


def told_of_lost(segments: Mapping[str, Sequence[Segment]], windows: Mapping[str, Sequence[Window]]) -> list[str]:
    """How many training segments lie wholly in none of the training windows of their video."""
    lost, count = [], 0
    for video, of_video in segments.items():
        times, held = times_of(of_video), torch.zeros(len(of_video), dtype=torch.bool)
        for window in windows.get(video, ()):
            held |= inside(times, window)
        lost += [segment for segment, in_one in zip(of_video, held.tolist(), strict=True) if not in_one]
        count += len(of_video)
    if not lost:
        return []
    return [
        f"{len(lost)} of {count} training segments lie wholly in no window and are not learnt from, such as {lost[0]}"
    ]


def told_of_long(segments: Sequence[Segment], windows: Windows, durations: Mapping[str, float], part: str) -> list[str]:
    """How many segments of a part are longer than D bins, so that no proposal is as long."""

    def bins(segment: Segment) -> float:
        return (segment.end - segment.start) / (windows.bin_s or durations[segment.video] / windows.num_bins)

    longer = [segment for segment in segments if bins(segment) > windows.max_bins + 1e-6]
    if not longer:
        return []
    return [
        f"{len(longer)} of {len(segments)} '{part}' segments are longer than the longest proposal, {windows.max_bins} bins, "
        f"such as {longer[0]}; raise --data.max_bins"
    ]


def told_of_hop(windows: Windows) -> list[str]:
    """Which lengths may be lost between windows, where these begin more than T - D bins apart."""
    every = windows.num_bins - windows.max_bins
    if windows.bin_s is None or windows.hop <= every:
        return []
    way_out = f"--data.hop_bins {every} or less, or a smaller" if every else "a smaller"
    return [
        f"windows of {windows.num_bins} bins begin every {windows.hop}: a segment of more than "
        f"{windows.num_bins - windows.hop} bins may lie wholly in none; give {way_out} --data.max_bins"
    ]


def told_of_unseen(videos: Sequence[Clips], windows: Windows, of: str) -> list[str]:
    """How many windows show no clip, as where clips are shorter than their stride."""
    unseen = [(clips, window) for clips in videos for window in windows.of(clips.duration)]
    count = len(unseen)
    unseen = [(clips, window) for clips, window in unseen if windows.rows(clips, window) is None]
    if not unseen:
        return []
    clips, window = unseen[0]
    return [
        f"{len(unseen)} of {count} windows of {of} show no clip and are left out, such as {clips.video} from "
        f"{window.start:g} s; write features with a smaller stride, or set a longer window"
    ]
