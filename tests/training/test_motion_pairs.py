"""On the built-in set a network that ignores the order of frames gives both clips of a pair the same scores."""

import csv

import pytest
import torch
from lightning import seed_everything

from kinema.data.datasets import MotionData
from kinema.data.motion import REVERSED
from kinema.models import create_model


@pytest.fixture(scope="module")
def pairs(motion_root):
    """Validation clips as the quickstart cuts them, each beside its reversal."""
    data = MotionData(str(motion_root), num_train=36, num_val=24, num_workers=0, resize=72)
    data.prepare_data()
    data.setup()
    clips = data.val_dataloader().dataset
    rows = list(csv.DictReader((data.root / "val.csv").read_text().splitlines()))
    by_pair: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_pair.setdefault(row["pair"], []).append(index)
    assert all(len(indices) == 2 for indices in by_pair.values()) and len(by_pair) == 12
    for one, two in by_pair.values():
        assert rows[two]["label"] == REVERSED[rows[one]["label"]]
    return [tuple(clips[index]["clip"] for index in indices) for indices in by_pair.values()]


def test_the_clips_of_a_pair_are_the_same_frames_in_reverse(pairs):
    for one, two in pairs:
        assert torch.equal(one.flip(2), two)
        assert not torch.equal(one, two)


@pytest.mark.parametrize(("name", "order_matters"), [("tsn_nano", False), ("tsm_nano", True)])
def test_scores_differ_within_a_pair_only_where_order_matters(pairs, name, order_matters):
    seed_everything(0, verbose=False)
    network = create_model(name, num_classes=12).eval()
    torch.nn.init.normal_(network.head.fc.weight)  # its own start is so small that everything would be equal
    with torch.no_grad():
        for one, two in pairs:
            scores = [network(clip / 255 - 0.5) for clip in (one, two)]
            difference = (scores[0] - scores[1]).abs().max()
            if order_matters:
                assert difference > 1e-3
            else:
                torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)
