"""What the motion set draws: every class moves as it is named, and nothing else has a direction in time."""

import dataclasses

import numpy as np
import pytest

from kinema.data.motion import MOTION_CLASSES, REVERSED
from kinema.data.motion.drawing import Track
from kinema.data.motion.scenes import (
    FRAME_SIZE,
    LEVELS,
    MOTION_PAIRS,
    camera_shake,
    clutter_track,
    draw_clip,
    target_tracks,
)

# The easy level without all that hides the object, so that its pixels can be measured.
CLEAN = dataclasses.replace(
    LEVELS["easy"], contrast=(0.35, 0.35), texture=0.0, num_clutter=(0, 0), drift=0.0, shake=0.0, noise=0.0
)


def measure(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Measure, in every frame `(T, H, W, 3)` of a clean clip, what the classes are named after; y points downward."""
    difference = frames.astype(float).mean(axis=-1)
    difference -= np.median(difference)
    strength = np.abs(difference)
    weight = strength * (strength > 12)  # clear of what the encoder leaves on a flat backdrop
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]

    def centre(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = weight.sum(axis=(1, 2)) + 1e-9
        return (weight * x).sum(axis=(1, 2)) / total, (weight * y).sum(axis=(1, 2)) / total

    centre_x, centre_y = centre(weight)
    distance = np.hypot(x - centre_x[:, None, None], y - centre_y[:, None, None])
    bright_x, bright_y = centre(weight * (difference > 0))
    dark_x, dark_y = centre(weight * (difference < 0))
    return {
        "x": centre_x,
        "y": centre_y,
        "angle": np.rad2deg(np.unwrap(np.arctan2(bright_y - dark_y, bright_x - dark_x))),  # grows clockwise
        "area": (weight > 0).sum(axis=(1, 2)),
        "distance": (weight * distance).sum(axis=(1, 2)) / (weight.sum(axis=(1, 2)) + 1e-9),
        "visibility": strength.sum(axis=(1, 2)),
    }


# For each class: what changes, which way, and by how much at least (pixels, degrees; ratios for the others).
NAMED_AFTER = {
    "move_left": ("x", lambda first, last: first - last > 15),
    "move_right": ("x", lambda first, last: last - first > 15),
    "move_up": ("y", lambda first, last: first - last > 15),
    "move_down": ("y", lambda first, last: last - first > 15),
    "rotate_clockwise": ("angle", lambda first, last: last - first > 60),
    "rotate_counterclockwise": ("angle", lambda first, last: first - last > 60),
    "grow": ("area", lambda first, last: last > 2.5 * first),
    "shrink": ("area", lambda first, last: first > 2.5 * last),
    "approach": ("distance", lambda first, last: first - last > 5),
    "separate": ("distance", lambda first, last: last - first > 5),
    "fade_in": ("visibility", lambda first, last: last > 2 * first),
    "fade_out": ("visibility", lambda first, last: first > 2 * last),
}


def shows(label: str, frames: np.ndarray) -> bool:
    """Tell from the pixels of a clean clip whether it shows this class."""
    quantity, agrees = NAMED_AFTER[label]
    values = measure(frames)[quantity]
    return bool(agrees(values[0], values[-1]))


@pytest.mark.parametrize("label", MOTION_CLASSES)
def test_the_class_moves_as_named(label):
    for seed in range(12):
        assert shows(label, draw_clip(np.random.default_rng(seed), label, CLEAN, 24))


@pytest.mark.parametrize("label", MOTION_CLASSES)
def test_no_other_change_of_its_kind_is_taken_for_the_class(label):
    """Without this, thresholds that every clip passes would make the test above worthless."""
    for seed in range(4):
        assert not shows(label, draw_clip(np.random.default_rng(seed), REVERSED[label], CLEAN, 24))


def test_classes_come_in_pairs():
    assert len(MOTION_CLASSES) == len(set(MOTION_CLASSES)) == 12
    assert set(REVERSED) == set(MOTION_CLASSES)
    assert all(REVERSED[REVERSED[name]] == name != REVERSED[name] for name in MOTION_CLASSES)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("canonical", "partner"), MOTION_PAIRS)
def test_the_partner_is_the_canonical_clip_backwards(canonical, partner, level):
    forward = draw_clip(np.random.default_rng(5), canonical, LEVELS[level], 20)
    backward = draw_clip(np.random.default_rng(5), partner, LEVELS[level], 20)
    assert forward.shape == (20, FRAME_SIZE, FRAME_SIZE, 3) and forward.dtype == np.uint8
    np.testing.assert_array_equal(backward, forward[::-1])


def changes(track: Track) -> list[float]:
    """How far a track's centre, size and angle get from the first frame to the last."""
    return [values[-1] - values[0] for values in (track.x, track.y, np.log(track.radius), track.angle)]


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("drawn", ["clutter", "object"])
def test_what_is_no_part_of_the_class_goes_either_way_with_equal_chance(drawn, level):
    def track(seed: int) -> Track:
        rng = np.random.default_rng(seed)
        return clutter_track(rng, level, 20) if drawn == "clutter" else target_tracks(rng, "fade_in", level, 20)[0]

    sample = np.array([changes(track(seed)) for seed in range(400)])
    standard_error = sample.std(axis=0) / np.sqrt(len(sample))
    assert (standard_error > 0).all()
    assert (np.abs(sample.mean(axis=0)) < 3.5 * standard_error).all()


def test_shake_is_a_stationary_process_of_the_stated_strength():
    shakes = np.array([camera_shake(np.random.default_rng(seed), 20, 1.5) for seed in range(4000)])
    np.testing.assert_allclose(shakes.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(shakes.std(axis=0), 1.5, rtol=0.06)
    neighbours = (shakes[:, 1:] * shakes[:, :-1]).mean(axis=0) / 1.5**2
    np.testing.assert_allclose(neighbours, 0.8, atol=0.06)  # (1 4 6 4 1) with itself moved by one: 56 of 70


@pytest.mark.parametrize("level", LEVELS)
def test_speeding_up_is_as_likely_as_slowing_down(level):
    lead = []
    for seed in range(400):
        (track,) = target_tracks(np.random.default_rng(seed), "fade_in", LEVELS[level], 21)
        first, middle, last = track.opacity[[0, 10, 20]]
        lead.append((middle - first) / (last - first) - 0.5)
    assert np.std(lead) > 0.03
    assert abs(np.mean(lead)) < 3.5 * np.std(lead) / np.sqrt(len(lead))


def test_objects_stay_in_the_picture_on_every_level():
    for level in LEVELS.values():
        for canonical, _ in MOTION_PAIRS:
            for seed in range(50):
                for track in target_tracks(np.random.default_rng(seed), canonical, level, 24):
                    for centre in (track.x, track.y):
                        assert centre.min() > 4 and centre.max() < FRAME_SIZE - 4


def test_turning_stays_far_from_half_a_turn_between_eight_frames():
    for level in LEVELS.values():
        assert level.turn[1] / 7 < 45


def test_hard_shows_less_of_everything_than_easy():
    easy, hard = LEVELS["easy"], LEVELS["hard"]
    for name in ("travel", "turn", "growth", "closing", "fading", "contrast"):
        assert getattr(hard, name)[1] < getattr(easy, name)[1]
    assert hard.travel[1] < easy.travel[0] and hard.turn[1] < easy.turn[0] and hard.growth[1] < easy.growth[0]
    assert hard.noise > easy.noise and hard.shake > easy.shake and hard.num_clutter > easy.num_clutter


def test_a_partner_class_has_no_track_of_its_own():
    with pytest.raises(ValueError, match="'shrink' is not a canonical class; choose from"):
        target_tracks(np.random.default_rng(0), "shrink", LEVELS["easy"], 8)
