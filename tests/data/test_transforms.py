"""The same draw for all frames, the right crops, the right numbers."""

import pytest
import torch

from kinema.data.augmentation.options import Augmentation
from kinema.data.augmentation.rand_augment import RandAugment
from kinema.data.decoding import DecodeError
from kinema.data.transforms import EvalTransform, Normalisation, Normalise, TrainTransform


def coordinates(height, width, frames=4):
    """A clip whose red channel is the column and green channel the row."""
    clip = torch.zeros(frames, 3, height, width, dtype=torch.uint8)
    clip[:, 0] = torch.arange(width)
    clip[:, 1] = torch.arange(height)[:, None]
    clip[:, 2] = torch.arange(frames)[:, None, None]
    return clip


@pytest.mark.parametrize("crop", ["random_resized", "random", "center", "multi_scale"])
def test_all_frames_get_the_same_draw(crop):
    transform = TrainTransform(16, crop=crop, resize=20, flip=0.5)
    for seed in range(5):
        torch.manual_seed(seed)
        frames, _ = transform(coordinates(30, 40), 0)
        assert frames.shape == (4, 3, 16, 16)
        assert (frames[:, :2] == frames[:1, :2]).all()
        assert [int(frame[2].max()) for frame in frames] == [0, 1, 2, 3]


def test_draws_differ_between_samples_and_follow_the_seed():
    transform = TrainTransform(16)
    drawn = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        drawn.append(transform(coordinates(30, 40), 0)[0])
    assert not torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_a_flip_swaps_the_labels_of_its_pairs_alone():
    transform = TrainTransform(16, crop="center", flip=1.0, flip_pairs=((3, 7),))
    clip = coordinates(16, 16)
    assert [transform(clip, label)[1] for label in (3, 7, 5)] == [7, 3, 5]
    assert torch.equal(transform(clip, 3)[0], clip.flip(-1))
    assert torch.equal(TrainTransform(16, crop="center")(clip, 3)[0], clip)


@pytest.mark.parametrize(
    ("shape", "lefts", "tops"), [((16, 40), [0, 12, 24], [0, 0, 0]), ((40, 16), [0, 0, 0], [0, 12, 24])]
)
def test_three_crops_lie_along_the_longer_side(shape, lefts, tops):
    crops = EvalTransform(16, num_crops=3)(coordinates(*shape))
    assert [int(crop[0, 0].min()) for crop in crops] == lefts
    assert [int(crop[0, 1].min()) for crop in crops] == tops
    assert all(crop.shape == (4, 3, 16, 16) for crop in crops)


@pytest.mark.parametrize(("height", "width"), [(4, 4096), (4096, 4), (2, 65)])
def test_frames_that_would_grow_without_bound_are_refused(height, width):
    told = (
        rf"its frames of {width} x {height} pixels are more than 32 times as long as wide, and with a short side of 20"
    )
    with pytest.raises(DecodeError, match=told):
        EvalTransform(16, 20)(coordinates(height, width))
    for crop in ("random", "center", "multi_scale"):
        with pytest.raises(DecodeError, match=told):
            TrainTransform(16, crop=crop, resize=20)(coordinates(height, width), 0)
    for crop in ("random_resized", "multi_scale"):  # what is cut before it is resized does not grow
        assert TrainTransform(16, crop=crop)(coordinates(height, width), 0)[0].shape == (4, 3, 16, 16)
    assert EvalTransform(16)(coordinates(2, 64))[0].shape == (4, 3, 16, 16)


def test_one_crop_is_the_centre_of_the_resized_frame():
    (crop,) = EvalTransform(16, 20)(coordinates(20, 40))
    assert int(crop[0, 0].min()) == 12 and int(crop[0, 1].min()) == 2


def test_five_crops_are_the_corners_and_the_centre_and_ten_their_mirror_images_too():
    crops = EvalTransform(16, num_crops=5)(coordinates(16, 40))
    assert [int(crop[0, 0].min()) for crop in crops] == [0, 24, 0, 24, 12]
    crops = EvalTransform(16, 20, num_crops=5)(coordinates(20, 20))
    assert [int(crop[0, 1].min()) for crop in crops] == [0, 0, 4, 4, 2]
    ten = EvalTransform(16, 20, num_crops=10)(coordinates(20, 20))
    assert len(ten) == 10 and all(torch.equal(ten[i + 5], ten[i].flip(-1)) for i in range(5))


def test_augmentation_sees_the_crop_or_the_whole_frame(monkeypatch):
    seen = []
    monkeypatch.setattr(
        RandAugment, "__call__", lambda self, frames: (seen.append(tuple(frames.shape[-2:])), frames)[1]
    )
    for before_crop in (False, True):
        augment = Augmentation(rand_augment="rand-m7-n4-mstd0.5-inc1", before_crop=before_crop)
        TrainTransform(16, crop="random", resize=20, augment=augment)(coordinates(30, 40), 0)
    assert seen == [(16, 16), (30, 40)]


def test_short_side_is_what_resize_means():
    (crop,) = EvalTransform(16, 16)(coordinates(32, 64))
    assert int(crop[0, 1].max()) >= 30
    assert 15 <= int(crop[0, 0].min()) <= 17


def test_normalisation():
    clip = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = (clip / 255 - torch.tensor(mean).reshape(1, 3, 1, 1, 1)) / torch.tensor(std).reshape(1, 3, 1, 1, 1)
    torch.testing.assert_close(Normalise(Normalisation())(clip), wanted, atol=1e-5, rtol=1e-5)
    bgr = Normalise(Normalisation(bgr=True))(clip.flip(1))
    torch.testing.assert_close(bgr, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: TrainTransform(16, crop="middle"), "unknown crop 'middle'"),
        (lambda: TrainTransform(16, resize=8), "resize 8 is below size 16"),
        (lambda: EvalTransform(16, 8), "resize 8 is below size 16"),
        (lambda: EvalTransform(16, num_crops=2), "num_crops must be 1, 3, 5 or 10, got 2"),
        (lambda: TrainTransform(16, jitter=(20, 30)), "for the crop 'random', not 'random_resized'"),
        (lambda: TrainTransform(16, crop="random", jitter=(12, 30)), r"jitter=\[12, 30\] goes below size 16"),
        (lambda: TrainTransform(16, crop="random", jitter=(30, 20)), "from 30 to 20 pixels is no range"),
        (lambda: TrainTransform(16, crop="random", jitter_inverse=True), "given without jitter"),
    ],
)
def test_what_does_not_fit_is_refused(build, match):
    with pytest.raises(ValueError, match=match):
        build()
