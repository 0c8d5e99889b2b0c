"""Long videos made of the motions of the built-in set, with background between them.

A video is a row of scenes, each before a backdrop of its own. In a scene objects come and go: an object appears, rests, moves
as its class says, rests again and is gone. The action is the motion alone, and everything else is background: the empty scene,
the object at rest before and after, and objects that only rest. A single frame therefore tells neither the class, which is the
direction of time, nor whether anything happens at all.

Every validation video stands beside its own reversal, made of the same frames bit for bit, with its segments reversed: what is
`grow` from 2 s to 3 s in one is `shrink` from the end minus 3 s to the end minus 2 s in the other. All lengths are multiples of
8 frames, so that clips every 2, 4 or 8 frames (`kinema.data.untrimmed.clip_grid`) mirror too, if (T - 1) x interval is odd, so
that their frames have a middle. A network that ignores the order of frames then sees the same clips in both videos, in reversed
order, and ranks an action and its reversal alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kinema.data.motion.drawing import Track, expose, paint_backdrop, paint_sprite, random_backdrop, random_sprite
from kinema.data.motion.scenes import (
    FRAME_SIZE,
    MOTION_CLASSES,
    MOTION_PAIRS,
    REVERSED,
    Level,
    camera_shake,
    clutter_track,
    target_tracks,
)

LENGTH_STEP = 8
"""All videos have a multiple of this number of frames."""

_GAP = (12, 50)  # frames without an object: half a second to two
_REST = (10, 32)  # frames an object rests before its motion, and behind it
_ACTION = (24, 61)  # frames of a motion: one second to two and a half, as in the clips that classifiers are trained on
_SCENE = (2, 5)  # objects in a scene, one after the other
_IDLE = 0.25  # share of the objects that only rest


@dataclass(frozen=True)
class Stay:
    """An object (two, for `approach`) from its appearing to its vanishing.

    Args:
        first: Frame of the video in which it appears.
        end: Frame in which it is gone.
        action: First frame of its motion, and the one behind its last; where it only rests, of the rest.
        motion: Its class; None where it only rests.
    """

    first: int
    end: int
    action: tuple[int, int]
    motion: str | None


@dataclass(frozen=True)
class Scene:
    """Frames `first` to `end` of a video, before one backdrop."""

    first: int
    end: int
    stays: tuple[Stay, ...]


@dataclass(frozen=True)
class Action:
    """A motion: its class, its first frame, and the one behind its last."""

    label: str
    start: int
    end: int


def plan_video(rng: Generator, num_frames: int) -> list[Scene]:
    """Draw what happens in a video, scene by scene; together they have all its frames.

    Classes come in random order, each once before any comes again.

    Raises:
        ValueError: If the video is too short for one action.
    """
    longest = _GAP[1] + 2 * _REST[1] + _ACTION[1]
    if num_frames < longest:
        raise ValueError(
            f"{num_frames} frames are too few for an action with background around it; give at least {longest}"
        )
    motions = _shuffled(rng)
    scenes: list[Scene] = []
    first = place = 0
    while first < num_frames:
        stays: list[Stay] = []
        for _ in range(rng.integers(*_SCENE)):
            appears = place + int(rng.integers(*_GAP))
            before, behind = rng.integers(*_REST, size=2).tolist()
            start = appears + before
            end = start + int(rng.integers(*_ACTION))
            idle = bool(stays or scenes) and rng.random() < _IDLE  # the first one moves, so that no video is empty
            if end + behind > num_frames:
                place = num_frames
                break
            stays.append(Stay(appears, end + behind, (start, end), None if idle else next(motions)))
            place = end + behind
        closes = min(place + int(rng.integers(*_GAP)) // 2, num_frames) if place < num_frames else num_frames
        scenes.append(Scene(first, closes, tuple(stays)))
        first = place = closes
    return scenes


def actions_of(scenes: list[Scene]) -> list[Action]:
    """The actions of a video, in the order of time."""
    return [Action(stay.motion, *stay.action) for scene in scenes for stay in scene.stays if stay.motion is not None]


def reversed_actions(actions: list[Action], num_frames: int) -> list[Action]:
    """The actions of the video played backwards."""
    return [Action(REVERSED[each.label], num_frames - each.end, num_frames - each.start) for each in reversed(actions)]


def draw_video(rng: Generator, scenes: list[Scene], level: Level) -> NDArray[np.uint8]:
    """Draw a planned video.

    Args:
        rng: The only source of chance: the same state gives the same video.
        scenes: What `plan_video` gave.
        level: How much there is to see, see `kinema.data.motion.scenes.LEVELS`.

    Shape: `(T, H, W, 3)`, H = W = `FRAME_SIZE`.
    """
    return np.concatenate([_draw_scene(rng, scene, level) for scene in scenes])


def _draw_scene(rng: Generator, scene: Scene, level: Level) -> NDArray[np.uint8]:
    count = scene.end - scene.first
    luminance, contrast = rng.uniform(0.4, 0.6), rng.uniform(*level.contrast)
    shake_x, shake_y = camera_shake(rng, count, level.shake), camera_shake(rng, count, level.shake)
    backdrop = random_backdrop(rng, luminance=luminance, strength=level.texture)
    canvas = paint_backdrop(backdrop, FRAME_SIZE, shake_x, shake_y)
    whole = slice(0, count)
    drawn = [(whole, clutter_track(rng, level, count)) for _ in range(rng.integers(*level.num_clutter, endpoint=True))]
    for stay in scene.stays:
        there = slice(stay.first - scene.first, stay.end - scene.first)
        drawn += [(there, track) for track in _stay_tracks(rng, stay, level)]
    for there, track in drawn:
        track.x = track.x + shake_x[there]
        track.y = track.y + shake_y[there]
        paint_sprite(canvas[there], random_sprite(rng, luminance=luminance, contrast=contrast), track)
    return expose(canvas, rng, noise=level.noise)


def _stay_tracks(rng: Generator, stay: Stay, level: Level) -> list[Track]:
    """The paths of an object that rests, moves and rests; or that rests in any state it could be in on the way."""
    start, end = stay.action
    motion = stay.motion or str(rng.choice(MOTION_CLASSES))
    pair = next(pair for pair in MOTION_PAIRS if motion in pair)
    tracks = target_tracks(rng, pair[0], level, end - start)
    moment = rng.integers(end - start)
    for track in tracks:
        for name, values in vars(track).items():
            path = values if motion == pair[0] else values[::-1]
            if stay.motion is None:
                path = np.full_like(path, path[moment])
            setattr(track, name, np.pad(path, (start - stay.first, stay.end - end), mode="edge"))
    return tracks


def _shuffled(rng: Generator) -> Iterator[str]:
    while True:
        yield from rng.permutation(MOTION_CLASSES).tolist()
