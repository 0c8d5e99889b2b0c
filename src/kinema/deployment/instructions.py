"""How an exported classifier wants to be fed, in words: for who has the file alone."""

from kinema.data.clips import EvalClips
from kinema.data.sampling import Dense, Segments
from kinema.evaluation.views import Average


def frames_in_words(clips: EvalClips) -> str:
    """Which frames of a video make its clips."""
    scheme, several = clips.scheme, clips.num_clips > 1
    if isinstance(scheme, Segments):
        which = (
            f"the middle frame of each of {scheme.num_frames} equal parts of the video: of n frames, counted from 0, number "
            f"floor((i + 1/2) n / {scheme.num_frames}) for i = 0 to {scheme.num_frames - 1}"
        )
        return which + (
            f"; {clips.num_clips} clips: clip k, from 0, has the remainder of 1/2 + k / {clips.num_clips} by 1 in place of 1/2"
            if several
            else ""
        )
    if isinstance(scheme, Dense):
        stride = float(scheme.stride_frames)
        span = scheme.window_frames(0)
        begins = (
            f"{clips.num_clips} clips, the first at the start of the video, the last at its end and the others evenly between"
            if several
            else f"in the middle of the video: of n frames, counted from 0, the first is floor((n - {span}) / 2), at least 0"
        )
        behind = "goes on at the start" if scheme.short_video == "loop" else "repeats the last frame"
        rate = "" if scheme.target_fps is None else f" (counted at {scheme.target_fps:g} frames a second)"
        if clips.kind == "uniform":
            begins = "clips side by side until the end of the video"
        return f"{scheme.num_frames} frames, {stride:g} apart{rate}, {begins}; a video that ends before {behind}"
    return (
        f"{scheme.num_frames} frames by the arithmetic of a paper's own code, {scheme!r} of kinema.data.published_sampling; "
        f"{clips.num_clips} clip{'s' if several else ''}"
    )


def pixels_in_words(clips: EvalClips) -> str:
    """How a frame is resized and cut."""
    transform = clips.transform
    short, size = transform.resize or transform.size, transform.size
    places = {
        1: "the square in the centre, its corner at round((side - {size}) / 2)",
        3: "three squares along the longer side, at both its ends and in the centre",
        5: "five squares, in the corners and in the centre",
        10: "five squares, in the corners and in the centre, and their mirror images",
    }
    return (
        f"resize until the short side has {short} pixels, the other in proportion, rounded down, bilinear with antialias, "
        f"in uint8; then cut {places[transform.num_crops].format(size=size)}, of {size} x {size} pixels"
    )


def average_in_words(average: Average) -> str:
    """How the clips and crops of a video make its scores."""
    if average == "logits":
        return "the logits of all clips and crops of a video are averaged, and the softmax of that are its scores"
    return "the softmax of the logits of each clip and crop is taken, and their mean over the video are its scores"
