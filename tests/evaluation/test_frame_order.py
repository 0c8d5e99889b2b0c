"""Frames in another order: a permutation of every video, the same in every run, and never the order there was."""

import pytest
import torch

from kinema.evaluation.frame_order import reorder_frames

from conftest import metrics_of


def numbered(clips, frames):
    """Clips that hold the number of each frame."""
    return torch.arange(frames).expand(clips, 1, frames)[..., None, None].expand(-1, 3, -1, 2, 2).contiguous()


def order_of(clip):
    assert torch.equal(clip, clip[:, :1, :, :1, :1].expand_as(clip)), "pixels of different frames in one"
    return clip[:, 0, :, 0, 0].tolist()


def test_reversed_and_frozen():
    video = torch.tensor([0, 1])
    assert order_of(reorder_frames(numbered(2, 4), "reversed", video)) == [[3, 2, 1, 0]] * 2
    assert order_of(reorder_frames(numbered(2, 5), "frozen", video)) == [[2] * 5] * 2


def test_shuffled_by_the_number_of_the_video():
    video = torch.arange(50)
    orders = order_of(reorder_frames(numbered(50, 4), "shuffled", video))
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert [0, 1, 2, 3] not in orders and len({tuple(order) for order in orders}) > 10
    alone = order_of(reorder_frames(numbered(1, 4), "shuffled", video[7:8]))
    assert alone == [orders[7]]
    assert order_of(reorder_frames(numbered(2, 1), "shuffled", video[:2])) == [[0], [0]]


def test_an_unknown_order_is_told():
    with pytest.raises(ValueError, match="'sorted' is unknown; give one of shuffled, reversed, frozen"):
        reorder_frames(numbered(1, 4), "sorted", torch.tensor([0]))


def test_a_run_is_evaluated_in_other_orders_and_a_frame_wise_network_does_not_mind(cli):
    orders = ("--run.frame_orders", "[shuffled, reversed, frozen]", "--trainer.max_epochs", 1)
    frame_wise = metrics_of(cli("fit", *orders, config="quickstart/tsn.yaml"))
    assert frame_wise["top1_reversed"] == frame_wise["top1_shuffled"] == frame_wise["top1"]
    assert 0 <= frame_wise["top1_frozen"] <= 1
    plain = metrics_of(cli("fit", "--trainer.max_epochs", 1, config="quickstart/tsn.yaml"))
    assert plain["top1"] == frame_wise["top1"] and "top1_reversed" not in plain


def test_orders_of_a_clip_reach_the_network(cli, monkeypatch):
    seen = []

    def remember(clip, order, video):
        seen.append(order)
        return clip

    monkeypatch.setattr("kinema.training.classifier.reorder_frames", remember)
    run = cli("fit", "--run.frame_orders", "[frozen]", "--trainer.max_epochs", 1, "--data.eval_batch_size", 12)
    assert seen == ["frozen"] * 2
    metrics = metrics_of(run)
    assert metrics["top1_frozen"] == metrics["top1"]
