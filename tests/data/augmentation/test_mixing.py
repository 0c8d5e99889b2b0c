"""MixUp and CutMix of clips: labels weigh what is seen."""

import pytest
import torch

from kinema.data.augmentation.mixing import Mix, Mixing, mix_clips, mix_labels


def batch(count=4, frames=3, height=20, width=30):
    """Clip i holds the value i everywhere, so that shares can be counted."""
    values = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1, 1)
    return values.expand(count, 2, frames, height, width).contiguous()


@pytest.mark.parametrize("seed", range(40))
def test_the_weight_of_a_label_is_the_share_of_its_pixels(seed):
    clip = batch()
    mix = Mixing(mixup=0, cutmix=1.0).draw(20, 30, seed)
    mixed = mix_clips(clip, mix)
    labels = mix_labels(torch.arange(4), 4, mix)
    assert mixed.dtype == torch.uint8
    for i in range(4):
        for source in range(4):
            share = (mixed[i] == source).double().mean().item()
            assert share == pytest.approx(labels[i, source].item(), abs=1e-6)
        assert set(mixed[i].unique().tolist()) <= {i, 3 - i}


def test_the_box_is_a_box_of_the_frame_and_the_same_in_all_frames_and_channels():
    found = []
    for seed in range(40):
        mixed = mix_clips(batch(2), Mixing(mixup=0).draw(20, 30, seed))
        other = mixed[0] == 1
        assert torch.equal(other, other[:1, :1].expand_as(other))
        rows, columns = other[0, 0].any(1), other[0, 0].any(0)
        assert torch.equal(other[0, 0], rows[:, None] & columns[None])
        found.append((int(rows.sum()), int(columns.sum())))
    assert any(0 < rows < 20 for rows, _ in found) and any(0 < columns < 30 for _, columns in found)


def test_mixup_blends_clips_and_labels_with_one_weight():
    clip = batch()
    mix = Mixing(cutmix=0).draw(20, 30, 3)
    assert mix.box is None and 0 < mix.weight < 1
    mixed, labels = mix_clips(clip, mix), mix_labels(torch.tensor([0, 1, 2, 2]), 5, mix)
    for i in range(4):
        wanted = mix.weight * i + (1 - mix.weight) * (3 - i)
        assert mixed[i].min().item() == pytest.approx(wanted, abs=1e-5) == mixed[i].max().item()
    assert labels[0].tolist() == pytest.approx([mix.weight, 0, 1 - mix.weight, 0, 0])
    assert labels[1].tolist() == pytest.approx([0, mix.weight, 1 - mix.weight, 0, 0])
    torch.testing.assert_close(labels.sum(1), torch.ones(4))


def test_the_middle_clip_of_an_odd_batch_and_a_single_one_stay_as_they_are():
    for count, middle in ((3, 1), (1, 0)):
        clip = batch(count)
        for mix in (Mix(0.3), Mix(0.5, (0, 10, 0, 30))):
            assert (mix_clips(clip, mix)[middle] == clip[middle]).all()
            labels = mix_labels(torch.arange(count), count, mix)
            assert labels[middle].tolist() == pytest.approx([float(k == middle) for k in range(count)])


def test_the_clips_given_are_left_alone():
    clip = batch()
    for mix in (Mix(0.3), Mix(0.5, (0, 10, 0, 30))):
        mix_clips(clip, mix)
        assert torch.equal(clip, batch())


def test_what_is_drawn_follows_from_the_seed_and_from_the_parameters():
    mixing = Mixing()
    assert mixing.draw(20, 30, 7) == mixing.draw(20, 30, 7)
    mixes = [mixing.draw(20, 30, seed) for seed in range(2000)]
    cut = [mix for mix in mixes if mix.box is not None]
    assert len(cut) == pytest.approx(1000, abs=80)
    blended = torch.tensor([mix.weight for mix in mixes if mix.box is None])
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    assert blended.mean().item() == pytest.approx(0.5, abs=0.03)
    assert blended.var().item() == pytest.approx(1 / (4 * 2.6), abs=0.01)
    third = [Mixing(probability=0.3).draw(20, 30, seed) for seed in range(1000)]
    assert sum(mix is not None for mix in third) == pytest.approx(300, abs=50)
    assert all(Mixing(cutmix_share=1.0).draw(20, 30, seed).box for seed in range(50))
    assert not any(Mixing(cutmix_share=0.0).draw(20, 30, seed).box for seed in range(50))


def test_boxes_lie_everywhere_and_have_the_area_that_was_drawn():
    boxes = torch.tensor([Mixing(mixup=0, cutmix=50.0).draw(100, 200, seed).box for seed in range(2000)]).double()
    top, bottom, left, right = boxes.unbind(1)
    whole = (top > 0) & (bottom < 100) & (left > 0) & (right < 200)
    # With Beta(50, 50) about half the area is cut: sides of 0.7.
    assert ((bottom - top) / 100)[whole].mean().item() == pytest.approx(0.7, abs=0.03)
    assert ((right - left) / 200)[whole].mean().item() == pytest.approx(0.7, abs=0.03)
    for begin, end, length in ((top, bottom, 100), (left, right, 200)):
        assert (begin == 0).double().mean().item() == pytest.approx((end == length).double().mean().item(), abs=0.06)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mixup": 0, "cutmix": 0}, "mixup or cutmix above 0"),
        ({"mixup": -1}, "none below, got mixup=-1"),
        ({"probability": 1.5}, r"probability must be in \[0, 1\], got 1.5"),
        ({"cutmix_share": -0.5}, r"cutmix_share must be in \[0, 1\]"),
    ],
)
def test_what_mixes_nothing_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        Mixing(**options)


def test_folded_clips_are_refused():
    with pytest.raises(ValueError, match=r"needs clips \(N, C, T, H, W\), got the shape \(4, 3, 8, 8\)"):
        mix_clips(torch.zeros(4, 3, 8, 8), Mix(0.5))
