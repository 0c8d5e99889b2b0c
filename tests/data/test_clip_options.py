"""The options of a data module that make a paper's recipe: whose frames, other sizes in test, repeats, mixing."""

from fractions import Fraction

import pytest
import torch

from kinema.data.augmentation.mixing import Mixing
from kinema.data.augmentation.options import Augmentation
from kinema.data.published_sampling import PublishedIntervals

from motion_module import module


def test_test_clips_have_a_size_of_their_own(motion):
    data = module(motion, eval_size=48, num_crops=3)
    assert next(iter(data.train_dataloader()))["clip"].shape[-2:] == (32, 32)
    assert next(iter(data.val_dataloader()))["clip"].shape[-2:] == (48, 48)
    assert module(motion).eval_clips.transform.resize == 36  # that of training when nothing is said
    assert module(motion, eval_resize=40).eval_clips.transform.resize == 40
    assert data.eval_clips.transform.resize is None  # the size itself


def test_frames_are_those_of_the_code_named(motion):
    data = module(motion, sampling="dense", num_frames=4, stride_frames=5, rounding="tada", target_fps=30, num_clips=3)
    assert data.scheme == PublishedIntervals(4, 5, "tada", 30)
    views = data.eval_clips(motion / data.manifests["val"].records[0].path)
    window = Fraction(20, 30) * 25  # of 25 frames a second
    with_free = [view.clip.indices[0] for view in views]
    free = views[-1].clip.start * 25 * Fraction(3, 2)
    assert with_free == [int(free * i / 3) for i in range(3)]
    assert views[0].clip.indices == [int((window - 1) * i / 3) for i in range(4)]


def test_repeats_are_views_of_one_clip_each_with_its_own_label(motion):
    names = module(motion).class_names
    pairs = [(names[0], names[1])]
    data = module(motion, num_repeats=4, flip=0.5, flip_pairs=pairs, train_crop="center")
    dataset = data.train_dataloader().dataset
    index = next(i for i, record in enumerate(data.manifests["train"].records) if record.label == 0)
    labels = set()
    for epoch in range(4):
        sample = dataset[epoch, index]
        assert sample["clip"].shape[0] == 4 and len(set(sample["start"].tolist())) == 1
        straight = [clip for clip, label in zip(sample["clip"], sample["label"].tolist(), strict=True) if label == 0]
        mirrored = [clip for clip, label in zip(sample["clip"], sample["label"].tolist(), strict=True) if label == 1]
        labels |= set(sample["label"].tolist())
        for one in straight:
            assert all(torch.equal(one, other.flip(-1)) for other in mirrored)
            assert all(torch.equal(one, other) for other in straight)
    assert labels == {0, 1}


def test_one_repeat_is_what_it_was_and_the_seed_tells_samples_apart(motion):
    plain, repeated = (
        module(motion).train_dataloader().dataset,
        module(motion, num_repeats=2).train_dataloader().dataset,
    )
    assert torch.equal(plain[1, 3]["clip"][0], repeated[1, 3]["clip"][0])
    seeds = {int(plain[epoch, index]["seed"][0]) for epoch in range(3) for index in range(3)}
    assert len(seeds) == 9
    assert "seed" not in module(motion).val_dataloader().dataset[0]


def test_a_batch_is_mixed_by_its_first_seed_and_validation_never(motion):
    data = module(motion, mixing=Mixing(mixup=0, cutmix=1.0))
    loader = data.train_dataloader()
    plain, twice = next(iter(loader)), [data.on_after_batch_transfer(next(iter(loader)), 0) for _ in range(2)]
    assert torch.equal(twice[0]["clip"], twice[1]["clip"]) and torch.equal(twice[0]["target"], twice[1]["target"])
    other = plain["clip"].flip(0)
    kept = (twice[0]["clip"] == plain["clip"]) | (twice[0]["clip"] == other)
    assert kept.all() and twice[0]["target"].shape == (4, len(data.class_names))
    batch = next(iter(data.val_dataloader()))
    assert data.on_after_batch_transfer(batch, 0) is batch and "target" not in batch


def test_a_configuration_read_back_gives_the_same_options(motion):
    given = {"augment": {"rand_augment": "rand-m7-n2", "grayscale": 0.2}, "mixing": {"mixup": 0.2, "cutmix": 0.0}}
    data = module(motion, **given)
    assert data.train_transform.augment == Augmentation(rand_augment="rand-m7-n2", grayscale=0.2)
    assert data.mixing == Mixing(mixup=0.2, cutmix=0.0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"clip_kind": "uniform", "sampling": "dense", "rounding": "tada"}, "the code of 'tada' does not"),
        ({"num_repeats": 0}, "num_repeats must be at least 1, got 0"),
        ({"train_crop": "random", "frame_cache": True, "eval_size": 48}, "eval_size=48 needs them as they are"),
        ({"train_crop": "random", "frame_cache": True, "eval_resize": 48}, "eval_resize=48 needs them as they are"),
        (
            {"train_crop": "random", "frame_cache": True, "train_jitter": (36, 40)},
            r"train_jitter=\(36, 40\) needs them",
        ),
        ({"train_crop": "multi_scale", "frame_cache": True, "resize": None}, "train_crop='multi_scale' needs them"),
        (
            {
                "train_crop": "random",
                "frame_cache": True,
                "augment": Augmentation(rand_augment="rand-m7-n2", before_crop=True),
            },
            "augment.before_crop=True needs them",
        ),
        ({"train_jitter": (36, 40)}, "is for the crop 'random', not 'random_resized'"),
    ],
)
def test_what_does_not_go_together_is_refused(motion, options, match):
    with pytest.raises(ValueError, match=match):
        module(motion, **options).train_dataloader()
