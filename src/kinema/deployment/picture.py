"""The picture of a prediction: what was seen when, and where the network looked."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from kinema.data.clips import opened
from kinema.data.video_names import printable
from kinema.deployment.prediction import Timeline, best_guesses
from kinema.explain.calibration import Factors, calibration_factors, variation
from kinema.explain.grad_cam import grad_cam
from kinema.explain.pictures import Strip
from kinema.explain.prediction import draw_prediction
from kinema.explain.rollout import rollout_of_class
from kinema.training.restore import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_video(
    predictor: Predictor,
    source: str | Path,
    scores: Float[Tensor, " K"],
    timeline: Timeline,
    *,
    top: int = 5,
) -> "Figure":
    """Draw the first clip of a video, what spoke for the best guess in it, and the scores of the best guesses over time.

    What the network looked at: Grad-CAM of the best guess; the attention rollout of networks that keep their attention
    maps; and, where convolutions are calibrated, the factors of the layer in which they vary most over time. A network has
    those rows for which `kinema.explain` knows its kind.

    Args:
        predictor: The classifier.
        source: The video.
        scores: Of the whole video.
        timeline: Of the same video.
        top: Classes in the curves.

    Raises:
        DecodeError: If the video cannot be decoded.
    """
    clips = predictor.cutting(source)
    view = clips(source)[0]
    with opened(source, clips.decoder, clips.cache) as video:
        clock = video.clock
        frame_times = [float(clock.begin(index)) for index in view.clip.indices]
    guesses = best_guesses(scores, predictor.class_names, top)
    network = predictor.module.network
    clip = predictor.module.normalise(view.pixels[None].to(predictor.module.device))
    strips = [Strip(view.pixels, label="frames")]
    for label, look in (
        (f"speaks for\n{guesses[0].name}", lambda: grad_cam(network, clip, guesses[0].id)),
        ("attention", lambda: rollout_of_class(network, clip)),
    ):
        heat = _or_none(look)
        if heat is not None:
            strips.append(Strip(view.pixels, heat[0], label))
    return draw_prediction(
        strips,
        timeline.times,
        timeline.scores[:, [guess.id for guess in guesses]],
        [f"{guess.name}  {guess.score:.1%}" for guess in guesses],
        frame_times=frame_times,
        factors=_most_varied(network, clip),
        note=timeline.note,
        title=f"{printable(Path(source).name)}: {guesses[0].name} ({guesses[0].score:.1%})",
    )


def _or_none(look: Callable[[], Tensor]) -> Tensor | None:
    """A look at a network, where there is one of its kind."""
    try:
        return look()
    except ValueError:
        return None


def _most_varied(network: nn.Module, clip: Tensor) -> Factors | None:
    try:
        factors = calibration_factors(network, clip)
    except ValueError:
        return None
    return max(zip(factors, variation(factors), strict=True), key=lambda pair: pair[1].over_time)[0]
