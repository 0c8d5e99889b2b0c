"""What the built-in motion set shows: twelve classes in six pairs, each the other's time reversal.

A clip of a class is a *canonical* clip, or a canonical clip played backwards. The frames of a pair's two classes
therefore have one distribution, as a set: whoever ignores their order can name the pair and never the class. Nothing
but the class's motion has a direction in time: shake is a stationary Gaussian process, the same either way, noise is
new in every frame, clutter drifts either way with equal chance, and speeding up is as likely as slowing down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy import float32
from numpy.random import Generator
from numpy.typing import NDArray

from kinema.data.motion.drawing import (
    Array,
    Track,
    expose,
    paint_backdrop,
    paint_sprite,
    random_backdrop,
    random_sprite,
)

MOTION_PAIRS: tuple[tuple[str, str], ...] = (
    ("move_left", "move_right"),
    ("move_up", "move_down"),
    ("rotate_clockwise", "rotate_counterclockwise"),
    ("grow", "shrink"),
    ("approach", "separate"),
    ("fade_in", "fade_out"),
)
"""The canonical class, which is drawn, and its partner, which is the canonical clip played backwards."""

MOTION_CLASSES: tuple[str, ...] = tuple(name for pair in MOTION_PAIRS for name in pair)
"""The twelve class names; classes 2k and 2k + 1 are each other's time reversal."""

REVERSED: Mapping[str, str] = MappingProxyType({a: b for pair in MOTION_PAIRS for a, b in (pair, pair[::-1])})
"""The class a clip belongs to once it is played backwards."""

FRAME_SIZE = 72
"""Height and width in pixels: room for random crops of 64."""


@dataclass(frozen=True)
class Level:
    """How much there is to see. Pairs are the smallest and the largest value drawn, from the first frame to the last.

    Args:
        travel: Path of `move_*`, pixels.
        turn: Angle of `rotate_*`, degrees.
        growth: Ratio of the radii of `grow` and `shrink`.
        closing: How much nearer two objects get in `approach`, pixels.
        fading: Change of opacity in `fade_*`.
        contrast: Distance of an object's tones from the mean of the backdrop, in [0, 0.5].
        texture: Strength of each octave of the backdrop.
        num_clutter: Small objects that stand still or drift.
        drift: Largest path of a drifting one, pixels; also, in part, of the motions that say nothing of the class.
        shake: Standard deviation of the camera's position, pixels.
        noise: Standard deviation of the sensor's noise, of 1.
    """

    travel: tuple[float, float]
    turn: tuple[float, float]
    growth: tuple[float, float]
    closing: tuple[float, float]
    fading: tuple[float, float]
    contrast: tuple[float, float]
    texture: float
    num_clutter: tuple[int, int]
    drift: float
    shake: float
    noise: float


LEVELS: dict[str, Level] = {
    "easy": Level(
        travel=(22, 38),
        turn=(90, 160),
        growth=(2.0, 2.8),
        closing=(18, 28),
        fading=(0.75, 1.0),
        contrast=(0.25, 0.38),
        texture=0.05,
        num_clutter=(2, 4),
        drift=2.0,
        shake=0.6,
        noise=0.02,
    ),
    "hard": Level(
        travel=(8, 16),
        turn=(35, 75),
        growth=(1.25, 1.5),
        closing=(8, 13),
        fading=(0.35, 0.5),
        contrast=(0.16, 0.26),
        texture=0.08,
        num_clutter=(5, 9),
        drift=6.0,
        shake=1.2,
        noise=0.05,
    ),
}


def draw_clip(rng: Generator, motion: str, level: Level, num_frames: int) -> NDArray[np.uint8]:
    """Draw one clip of a class.

    Args:
        rng: The only source of chance: the same state gives the same clip, and a class and its partner the same frames.
        motion: One of `MOTION_CLASSES`.
        level: How much there is to see.
        num_frames: T.

    Shape: `(T, H, W, 3)`, H = W = `FRAME_SIZE`.
    """
    pair = next(pair for pair in MOTION_PAIRS if motion in pair)
    frames = _draw_canonical(rng, pair[0], level, num_frames)
    return frames if motion == pair[0] else np.ascontiguousarray(frames[::-1])


def _draw_canonical(rng: Generator, motion: str, level: Level, num_frames: int) -> NDArray[np.uint8]:
    luminance = rng.uniform(0.4, 0.6)
    contrast = rng.uniform(*level.contrast)
    shake_x, shake_y = camera_shake(rng, num_frames, level.shake), camera_shake(rng, num_frames, level.shake)
    backdrop = random_backdrop(rng, luminance=luminance, strength=level.texture)
    canvas = paint_backdrop(backdrop, FRAME_SIZE, shake_x, shake_y)

    clutter = [clutter_track(rng, level, num_frames) for _ in range(rng.integers(*level.num_clutter, endpoint=True))]
    for track in clutter + target_tracks(rng, motion, level, num_frames):
        track.x = track.x + shake_x
        track.y = track.y + shake_y
        paint_sprite(canvas, random_sprite(rng, luminance=luminance, contrast=contrast), track)
    return expose(canvas, rng, noise=level.noise)


def target_tracks(rng: Generator, motion: str, level: Level, num_frames: int) -> list[Track]:
    """Draw the path of a canonical class's object (of both, for `approach`), in the world, before the camera shakes.

    Every property a class does not speak of may change a little too, either way with equal chance.
    """
    progress = _progress(rng, num_frames)
    towards_end = progress - 0.5  # from -1/2 to +1/2
    middle = FRAME_SIZE / 2

    def wander(amount: float) -> Array:
        return (rng.uniform(-amount, amount) * towards_end).astype(float32)

    radius = rng.uniform(9, 12)
    track = Track(
        x=middle + rng.uniform(-8, 8) + wander(level.drift / 2),
        y=middle + rng.uniform(-8, 8) + wander(level.drift / 2),
        radius=radius * np.exp(wander(0.02 * level.drift)),
        angle=float32(rng.uniform(0, 2 * np.pi)) + wander(0.06 * level.drift),
        opacity=np.ones(num_frames, dtype=float32),
    )
    match motion:
        case "move_left":
            track.x = middle + rng.uniform(-4, 4) - rng.uniform(*level.travel) * towards_end
        case "move_up":
            track.y = middle + rng.uniform(-4, 4) - rng.uniform(*level.travel) * towards_end
        case "rotate_clockwise":
            track.radius = track.radius * 1.25
            track.angle = rng.uniform(0, 2 * np.pi) + np.deg2rad(rng.uniform(*level.turn)) * towards_end
            # The pivot lies on the dark side, as that of a clock's hand: turning moves the bright side most.
            lever = 0.6 * track.radius
            track.x = track.x + lever * np.cos(track.angle)
            track.y = track.y + lever * np.sin(track.angle)
        case "grow":
            track.radius = rng.uniform(10, 13) * rng.uniform(*level.growth) ** towards_end
        case "fade_in":
            change = rng.uniform(*level.fading)
            track.opacity = rng.uniform(0, 1 - change) + change * progress
        case "approach":
            return _approach(rng, track, level, towards_end)
        case _:
            raise ValueError(f"{motion!r} is not a canonical class; choose from {[pair[0] for pair in MOTION_PAIRS]}")
    return [_as_float32(track)]


def _approach(rng: Generator, track: Track, level: Level, towards_end: Array) -> list[Track]:
    radius = rng.uniform(5.5, 8, size=2)
    closing = rng.uniform(*level.closing)
    nearest = radius.sum() * 0.8 + rng.uniform(0, 4)
    gap = nearest + closing * (0.5 - towards_end)
    direction = rng.uniform(0, 2 * np.pi)
    middle = FRAME_SIZE / 2 + rng.uniform(-4, 4, size=2)
    tracks = []
    for side, size in zip((-0.5, 0.5), radius, strict=True):
        x = middle[0] + side * gap * np.cos(direction) + (track.x - track.x.mean())
        y = middle[1] + side * gap * np.sin(direction) + (track.y - track.y.mean())
        angle = rng.uniform(0, 2 * np.pi) + (track.angle - track.angle.mean())
        tracks.append(_as_float32(Track(x, y, size * track.radius / track.radius.mean(), angle, track.opacity)))
    return tracks


def _progress(rng: Generator, num_frames: int) -> Array:
    """Rise from 0 to 1, at a speed that changes by up to 40 % in each direction, faster or slower with equal chance."""
    time = np.linspace(0, 1, num_frames)
    return (time + rng.uniform(-0.4, 0.4) * time * (1 - time)).astype(float32)


def camera_shake(rng: Generator, num_frames: int, strength: float) -> Array:
    """Draw white noise smoothed by a symmetric kernel: a stationary Gaussian process, the same forward and backward."""
    kernel = np.array([1, 4, 6, 4, 1]) / np.sqrt(70)  # of unit energy: the variance stays that of the noise
    noise = rng.standard_normal(num_frames + len(kernel) - 1)
    return (strength * np.convolve(noise, kernel, mode="valid")).astype(float32)


def clutter_track(rng: Generator, level: Level, num_frames: int) -> Track:
    """Draw the path of a small object that says nothing of the class."""
    towards_end = np.linspace(-0.5, 0.5, num_frames)

    def drifting(start: float, amount: float) -> Array:
        return start + rng.uniform(-amount, amount) * towards_end

    track = Track(
        x=drifting(rng.uniform(0, FRAME_SIZE), level.drift),
        y=drifting(rng.uniform(0, FRAME_SIZE), level.drift),
        radius=drifting(rng.uniform(2.5, 5), 0.1 * level.drift),
        angle=drifting(rng.uniform(0, 2 * np.pi), 0.15 * level.drift),
        opacity=np.full(num_frames, rng.uniform(0.5, 1)),
    )
    return _as_float32(track)


def _as_float32(track: Track) -> Track:
    return Track(*(np.asarray(values, dtype=float32) for values in vars(track).values()))
