"""RandAugment on clips: the operations against PIL's, as timm calls them; the draws; the same for all frames."""

import math
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_augment

from kinema.data.augmentation import rand_augment
from kinema.data.augmentation.rand_augment import RandAugment
from kinema.data.augmentation.rand_augment_ops import OPERATIONS, Strength, rotate, warp

OURS = list(OPERATIONS)
THEIRS = dict(zip(OURS, timm_augment._RAND_INCREASING_TRANSFORMS, strict=True))
THEIRS_NOT_INCREASING = dict(zip(OURS, timm_augment._RAND_TRANSFORMS, strict=True))


def picture(seed=0, height=20, width=28):
    """Smooth colours, so that interpolations differ little where they may."""
    rows, columns = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = [np.sin(rows / rng.uniform(4, 8) + columns / rng.uniform(4, 8) + phase) for phase in (0, 2, 4)]
    return ((np.stack(waves, -1) * 0.4 + 0.5) * 255).astype(np.uint8)


def clip_of(*pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def timm_op(name, image, level, sign, resample):
    """timm's operation at a level, its random sign given."""
    arguments = timm_augment.LEVEL_TO_ARG[name]
    draw = random.Random(0)
    draw.random = lambda: 0.9 if sign < 0 else 0.1  # above a half timm negates
    before, timm_augment.random.random = timm_augment.random.random, draw.random
    try:
        values = arguments(level, {}) if arguments else ()
    finally:
        timm_augment.random.random = before
    moves = name.startswith(("Shear", "Translate", "Rotate"))
    options = {"resample": resample, "fillcolor": (128, 128, 128)} if moves else {}
    return np.asarray(timm_augment.NAME_TO_OP[name](Image.fromarray(image), *values, **options))


@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [0.0, 2.5, 7.0, 9.3, 10.0])
@pytest.mark.parametrize("name", OURS)
def test_operations_are_those_of_timm(name, level, sign, increasing):
    theirs = (THEIRS if increasing else THEIRS_NOT_INCREASING)[name]
    images = [picture(0), picture(1)]
    ours = OPERATIONS[name](clip_of(*images), Strength(level, sign, increasing, "nearest"))
    assert ours.dtype == torch.uint8
    if name == "posterize" and not Strength(level, sign, increasing).bits:
        assert not ours.any()  # black, as PIL gave it before it refused to keep no bit
        return
    for frame, image in zip(ours, images, strict=True):
        wanted = timm_op(theirs, image, level, sign, Image.Resampling.NEAREST).astype(int)
        found = frame.permute(1, 2, 0).numpy().astype(int)
        different = np.abs(found - wanted)
        if name in ("invert", "posterize", "solarize", "solarize_add"):
            assert not different.any()
        elif name in ("auto_contrast", "equalize", "color", "contrast", "brightness", "sharpness"):
            assert different.max() <= 3 and different.mean() < 1  # gray and means are rounded differently
        else:
            # Nearest may take the neighbour where the place falls on a border of two pixels.
            assert (different.max(-1) > 0).mean() < 0.03


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_what_moves_pixels_interpolates_as_pil_inside_the_frame(name, interpolation):
    image = picture()
    ours = OPERATIONS[name](clip_of(image), Strength(3.0, 1, True, interpolation))[0].permute(1, 2, 0).numpy()
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    theirs = timm_op(THEIRS[name], image, 3.0, 1, resample)
    inside = (theirs[..., :] != 128).all(-1)
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = False, False, False, False
    shrunk = inside & np.roll(inside, 2, 1) & np.roll(inside, -2, 1) & np.roll(inside, 2, 0) & np.roll(inside, -2, 0)
    assert shrunk.sum() > 60
    difference = np.abs(ours.astype(int) - theirs)[shrunk]
    assert difference.max() <= (2 if interpolation == "bilinear" else 6)


def test_warp_by_whole_pixels_moves_them_exactly_and_fills_with_gray():
    clip = clip_of(picture(0), picture(1))
    for interpolation in ("nearest", "bilinear", "bicubic"):
        moved = warp(clip, (1, 0, 3, 0, 1, -2), interpolation)
        assert torch.equal(moved[..., 2:, :-3], clip[..., :-2, 3:])
        assert (moved[..., :2, :] == 128).all() and (moved[..., -3:] == 128).all()
        assert torch.equal(warp(clip, (1, 0, 0, 0, 1, 0), interpolation), clip)


def test_a_quarter_turn_is_counter_clockwise():
    clip = clip_of(picture(height=16, width=16))
    assert torch.equal(rotate(clip, 90, "nearest"), clip.rot90(1, (-2, -1)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_operations_do_not_depend_on_how_a_clip_lies_in_memory_and_leave_it_alone(memory_format):
    clip = clip_of(picture(0), picture(1)).contiguous()
    given = clip.contiguous(memory_format=memory_format)
    for operation in OPERATIONS.values():
        how = Strength(6.0)
        assert torch.equal(operation(given, how), operation(clip.clone(), how))
        assert torch.equal(given, clip)


def test_all_frames_get_the_same_draw_and_clips_different_ones():
    augment = RandAugment.parse("rand-m7-n4-mstd0.5-inc1", "bilinear")
    still = clip_of(*[picture()] * 3)
    drawn = set()
    for seed in range(30):
        torch.manual_seed(seed)
        out = augment(still)
        assert torch.equal(out, out[:1].expand_as(out))
        drawn.add(out.numpy().tobytes())
        torch.manual_seed(seed)
        assert torch.equal(augment(still), out)
    assert len(drawn) > 25


@pytest.fixture
def applied(monkeypatch):
    """Record the operations in place of applying them."""
    calls = []

    def recording(name):
        def operation(frames, how):
            calls.append((name, how))
            return frames

        return operation

    monkeypatch.setattr(rand_augment, "OPERATIONS", {name: recording(name) for name in OPERATIONS})
    return calls


def run(text, applied, times=2000):
    torch.manual_seed(0)
    augment, counts = RandAugment.parse(text), []
    for _ in range(times):
        before = len(applied)
        augment(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
        counts.append(len(applied) - before)
    return counts


def test_each_of_n_operations_is_applied_half_the_time_all_equally_often(applied):
    counts = run("rand-m7-n4-mstd0.5-inc1", applied)
    assert max(counts) == 4 and min(counts) == 0 and sum(counts) / 2000 == pytest.approx(2, abs=0.1)
    of_each = Counter(name for name, _ in applied)
    assert set(of_each) == set(OURS) and min(of_each.values()) > 200
    assert sum(how.sign for _, how in applied) == pytest.approx(0, abs=250)
    assert all(how.increasing and how.interpolation == "bicubic" for _, how in applied)


def test_operations_are_drawn_with_repetition(applied):
    counts = run("rand-m7-n20-p1", applied, 5)
    assert counts == [20] * 5  # of fifteen
    assert any(len({name for name, _ in applied[20 * i : 20 * i + 5]}) < 5 for i in range(5))


def test_levels_are_normal_about_the_magnitude_and_capped(applied):
    run("rand-m7-n4-mstd0.5-inc1", applied)
    levels = torch.tensor([how.level for _, how in applied])
    assert levels.mean().item() == pytest.approx(7, abs=0.05) and levels.std().item() == pytest.approx(0.5, abs=0.03)
    applied.clear()
    run("rand-m9-n2-mstd2", applied)
    levels = torch.tensor([how.level for _, how in applied])
    assert levels.max() == 10 and 0.2 < (levels == 10).float().mean() < 0.4
    applied.clear()
    run("rand-m9-n2", applied, 50)
    assert {how.level for _, how in applied} == {9.0} and not any(how.increasing for _, how in applied)


def test_what_is_read():
    assert RandAugment.parse("rand-m7-n4-mstd0.5-inc1") == RandAugment(7, 4, 0.5, 0.5, 10, True)
    assert RandAugment.parse("rand-n3-m5-p1-mmax12") == RandAugment(5, 3, 1.0, 0.0, 12)
    assert RandAugment.parse("rand", "bilinear") == RandAugment(interpolation="bilinear")
    assert math.isinf(RandAugment.parse("rand-m9-mstd101").magnitude_std)


@pytest.mark.parametrize(
    "text", ["m7-n4", "rand-m7-n4-mstd0.5-inc1-x3", "rand-tweights", "rand-m", "rand-m7n4", "augmix-m3"]
)
def test_what_is_no_rand_augment_is_refused(text):
    with pytest.raises(ValueError, match="is no RandAugment; write it as rand-m7-n4"):
        RandAugment.parse(text)


@pytest.mark.parametrize("options", [{"num_ops": 0}, {"magnitude": -1}, {"probability": 1.5}, {"magnitude_std": -1}])
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(ValueError, match="cannot be drawn"):
        RandAugment(**options)
    with pytest.raises(ValueError, match="unknown interpolation 'lanczos'"):
        RandAugment(interpolation="lanczos")


def test_it_reaches_worker_processes():
    augment = pickle.loads(pickle.dumps(RandAugment.parse("rand-m9-n2")))
    assert augment == RandAugment.parse("rand-m9-n2")
