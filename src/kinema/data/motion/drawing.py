"""How the built-in motion set puts pixels on a canvas: a textured backdrop, two-toned sprites, sensor noise.

Everything is drawn for all frames of a clip at once; a canvas is `(T, H, W, 3)` float32, intensities in [0, 1].
Coordinates are pixels, x to the right and y downward, so an angle that increases turns clockwise on the screen.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy import float32
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Sprite:
    """A striped convex shape of radius 1 without rotational symmetry: one side is dark, the other bright.

    The shape is the unit disc cut by straight edges `normals @ point <= offsets`; `stripes` is a wave vector in radians
    per radius. The bright side faces along the first axis, so the sprite shows its angle even where its outline does not.
    """

    normals: Array
    offsets: Array
    stripes: Array
    dark: Array
    bright: Array


@dataclass
class Track:
    """What a sprite does: its centre, radius (pixels), angle (radians, clockwise) and opacity, `(T,)` each."""

    x: Array
    y: Array
    radius: Array
    angle: Array
    opacity: Array


@dataclass(frozen=True)
class Backdrop:
    """A smooth coloured texture given by a few coarse grids `(n, n, 3)` that are interpolated linearly."""

    grids: list[Array] = field(default_factory=list)


def random_colour(rng: Generator, luminance: float) -> Array:
    """Draw a colour of about this luminance with a random tint."""
    tint = rng.uniform(-0.2, 0.2, 3)
    return (luminance + tint - tint.mean()).astype(float32)


def random_sprite(rng: Generator, *, luminance: float, contrast: float) -> Sprite:
    """Draw a shape with 3 to 6 edges, dark and bright by `contrast` on either side of `luminance`."""
    num_edges = int(rng.integers(3, 7))
    direction = 2 * np.pi * (np.arange(num_edges) + rng.uniform(-0.25, 0.25, num_edges) + rng.random()) / num_edges
    stripe_direction = rng.uniform(0, 2 * np.pi)
    stripes = rng.uniform(4, 9) * np.array([np.cos(stripe_direction), np.sin(stripe_direction)])
    return Sprite(
        normals=np.stack([np.cos(direction), np.sin(direction)], axis=1).astype(float32),
        offsets=rng.uniform(0.6, 0.95, num_edges).astype(float32),
        stripes=stripes.astype(float32),
        dark=random_colour(rng, luminance - contrast * rng.uniform(0.8, 1.2)),
        bright=random_colour(rng, luminance + contrast * rng.uniform(0.8, 1.2)),
    )


def random_backdrop(rng: Generator, *, luminance: float, strength: float) -> Backdrop:
    """Draw three octaves of texture around `luminance`; `strength` is the largest deviation of each."""
    mean = random_colour(rng, luminance)
    deviation = [rng.uniform(-1, 1, (n, n, 1)) + rng.uniform(-0.4, 0.4, (n, n, 3)) for n in (4, 8, 17)]
    return Backdrop([(strength * grid + mean / len(deviation)).astype(float32) for grid in deviation])


def paint_backdrop(backdrop: Backdrop, size: int, shake_x: Array, shake_y: Array) -> Array:
    """Draw the backdrop seen by a camera whose picture is moved by `shake_x`, `shake_y` (T,) pixels."""
    margin = 0.15 * size  # grids cover more than the frame, so that shaking shows no border

    def hat_weights(shake: Array, n: int) -> Array:
        place = (np.arange(size, dtype=float32) - shake[:, None] + margin) * ((n - 1) / (size - 1 + 2 * margin))
        return np.maximum(0, 1 - np.abs(place[..., None] - np.arange(n, dtype=float32))).astype(float32)

    canvas = np.zeros((len(shake_x), size, size, 3), dtype=float32)
    for grid in backdrop.grids:
        n = len(grid)
        rows = hat_weights(shake_y, n) @ grid.reshape(n, n * 3)  # (T, H, n * 3)
        canvas += hat_weights(shake_x, n)[:, None] @ rows.reshape(len(shake_x), size, n, 3)
    return canvas


def paint_sprite(canvas: Array, sprite: Sprite, track: Track) -> None:
    """Lay a sprite over the canvas along its track, with edges smoothed over one pixel."""
    size = canvas.shape[1]
    reach = float(track.radius.max()) + 1  # pixels outside this window cannot change in any frame
    top, left = (max(0, int(np.floor(centre.min() - reach))) for centre in (track.y, track.x))
    bottom, right = (min(size, int(np.ceil(centre.max() + reach)) + 1) for centre in (track.y, track.x))
    if top >= bottom or left >= right:
        return
    radius = track.radius[:, None, None]
    dx = (np.arange(left, right, dtype=float32) - track.x[:, None])[:, None, :] / radius
    dy = (np.arange(top, bottom, dtype=float32) - track.y[:, None])[:, :, None] / radius
    cos, sin = np.cos(track.angle)[:, None, None], np.sin(track.angle)[:, None, None]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # the sprite's own axes

    outside = np.sqrt(u * u + v * v) - 1
    for (normal_u, normal_v), offset in zip(sprite.normals, sprite.offsets, strict=True):
        np.maximum(outside, normal_u * u + normal_v * v - offset, out=outside)
    cover = np.clip(0.5 - outside * radius, 0, 1) * track.opacity[:, None, None]
    tone = np.clip(0.5 + 2 * u, 0.1, 0.9)
    tone += 0.1 * np.sin(sprite.stripes[0] * u + sprite.stripes[1] * v)
    colour = sprite.dark + tone[..., None] * (sprite.bright - sprite.dark)
    window = canvas[:, top:bottom, left:right]
    window += cover[..., None] * (colour - window)


def expose(canvas: Array, rng: Generator, *, noise: float) -> NDArray[np.uint8]:
    """Turn the canvas into 8-bit frames, with Gaussian noise of standard deviation `noise`, new in every frame."""
    grain = rng.standard_normal(canvas.shape[:3], dtype=float32)
    exposed = canvas + noise * grain[..., None]
    exposed *= 255
    exposed += 0.5
    return np.clip(exposed, 0, 255, out=exposed).astype(np.uint8)
