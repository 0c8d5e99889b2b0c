"""Short sides, colours and erased boxes: what is drawn, how often, and for all frames at once."""

import pickle

import pytest
import torch

from kinema.data.augmentation.options import Augmentation
from kinema.data.augmentation.random_erasing import RandomErasing
from kinema.data.augmentation.short_side_jitter import ShortSideJitter

STILL = torch.randint(0, 256, (1, 3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).repeat(
    4, 1, 1, 1
)


class TestShortSideJitter:
    def test_every_side_is_as_likely_the_ends_too(self):
        torch.manual_seed(0)
        drawn = torch.tensor([ShortSideJitter(20, 24).draw() for _ in range(3000)])
        counts = torch.bincount(drawn)[20:]
        assert counts.sum() == 3000 and counts.min() > 500 and counts.max() < 700

    def test_the_inverse_draws_reciprocals(self):
        torch.manual_seed(0)
        drawn = torch.tensor([ShortSideJitter(100, 300, inverse=True).draw() for _ in range(4000)], dtype=torch.float64)
        assert drawn.min() >= 100 and drawn.max() <= 300
        assert (1 / drawn).mean().item() == pytest.approx((1 / 100 + 1 / 300) / 2, rel=0.02)
        assert drawn.median().item() == pytest.approx(150, abs=4)  # 200 if sides were uniform

    def test_the_short_side_is_resized_and_the_shape_kept(self):
        torch.manual_seed(0)
        assert ShortSideJitter(36, 36)(STILL).shape == (4, 3, 36, 48)
        assert ShortSideJitter(36, 36)(STILL.transpose(-2, -1)).shape == (4, 3, 48, 36)


class TestRandomErasing:
    def box_of(self, out, frames=STILL):
        changed = (out != frames).any(1)
        rows, columns = changed.any(0).any(1).nonzero().flatten(), changed.any(0).any(0).nonzero().flatten()
        return changed, int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1

    def test_the_box_is_the_same_in_all_frames_and_filled_with_other_noise_in_each(self):
        torch.manual_seed(3)
        frames = torch.zeros(4, 3, 24, 32, dtype=torch.uint8)
        out = RandomErasing(1.0, mean=0.5, std=0.1)(frames)
        changed, top, bottom, left, right = self.box_of(out, frames)
        assert changed[:, top:bottom, left:right].all() and changed.sum() == 4 * (bottom - top) * (right - left)
        assert not torch.equal(out[0], out[1])
        noise = out[..., top:bottom, left:right].double()
        assert noise.mean().item() == pytest.approx(127.5, abs=5) and noise.std().item() == pytest.approx(25.5, abs=4)
        assert not frames.any()

    @pytest.mark.parametrize(("filling", "colors"), [("color", 3), ("gray", 1)])
    def test_a_color_and_gray_are_the_same_everywhere(self, filling, colors):
        torch.manual_seed(0)
        frames = torch.zeros(4, 3, 24, 32, dtype=torch.uint8)
        out = RandomErasing(1.0, filling=filling)(frames)
        _, top, bottom, left, right = self.box_of(out, frames)
        inside = out[..., top:bottom, left:right]
        assert (inside == inside[:1, :, :1, :1]).all()
        assert len(inside.unique()) == colors

    def test_areas_and_ratios_are_those_asked_for(self):
        torch.manual_seed(0)
        erase = RandomErasing()
        boxes = torch.tensor([erase._box(200, 200) for _ in range(3000)], dtype=torch.float64)
        area, ratio = boxes[:, 2] * boxes[:, 3] / 40000, boxes[:, 2] / boxes[:, 3]
        assert (
            area.min() > 0.018
            and area.max() < 0.34
            and area.mean().item() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
        )
        assert ratio.min() > 0.28 and ratio.max() < 3.6 and ratio.log().mean().abs() < 0.05
        assert (boxes[:, 0] + boxes[:, 2]).max() == 200 and boxes[:, :2].min() == 0
        low, high = (boxes[:, 0] == 0).double().mean(), (boxes[:, 0] + boxes[:, 2] == 200).double().mean()
        assert 0.3 < low / high < 3

    def test_the_probability(self):
        torch.manual_seed(0)
        changed = sum(not torch.equal(RandomErasing(0.25)(STILL), STILL) for _ in range(1000))
        assert 200 < changed < 300

    def test_what_does_not_fit_is_left_out_and_what_is_wrong_refused(self):
        assert torch.equal(RandomErasing(1.0)(STILL[..., :1, :1]), STILL[..., :1, :1])
        with pytest.raises(ValueError, match="unknown filling 'white'; use noise, color or gray"):
            RandomErasing(filling="white")
        with pytest.raises(ValueError, match=r"probability lies in \[0, 1\], got 25"):
            RandomErasing(25)


class TestAugmentation:
    FULL = Augmentation(
        rand_augment="rand-m7-n4-mstd0.5-inc1",
        color_jitter=(0.4, 0.4, 0.4, 0.1),
        grayscale=0.2,
        interpolation="nearest",
    )

    def test_nothing_is_done_that_was_not_asked_for(self):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        assert Augmentation()(STILL) is STILL and Augmentation().whole(STILL) is STILL
        assert torch.equal(torch.get_rng_state(), before)

    def test_all_frames_get_the_same_draw_and_bytes_stay_bytes(self):
        for seed in range(20):
            torch.manual_seed(seed)
            out = self.FULL(STILL)
            assert out.dtype == torch.uint8 and out.shape == STILL.shape
            assert torch.equal(out, out[:1].expand_as(out))

    def test_grayscale_keeps_three_channels_and_its_probability(self):
        torch.manual_seed(0)
        gray = 0
        for _ in range(500):
            out = Augmentation(grayscale=0.2)(STILL)
            assert out.shape == STILL.shape
            gray += bool((out[:, 0] == out[:, 1]).all() and (out[:, 1] == out[:, 2]).all())
        assert 70 < gray < 130

    def test_colors_are_jittered_within_their_range(self):
        torch.manual_seed(0)
        level = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
        values = [int(Augmentation(color_jitter=(0.4, 0.0, 0.0, 0.0))(level)[0, 0, 0, 0]) for _ in range(300)]
        assert 59 <= min(values) < 65 and 135 < max(values) <= 140

    def test_it_reaches_worker_processes(self):
        assert pickle.loads(pickle.dumps(self.FULL)) == self.FULL

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"grayscale": 2}, "grayscale is a probability"),
            ({"before_crop": True}, "before_crop=True was given without rand_augment"),
            ({"rand_augment": "m7"}, "'m7' is no RandAugment"),
            ({"erase": 0.2, "erase_filling": "white"}, "unknown filling 'white'"),
        ],
    )
    def test_what_is_wrong_is_refused(self, options, match):
        with pytest.raises(ValueError, match=match):
            Augmentation(**options)
