"""Batches: every sample once, whatever the number of processes, and the same after a resume."""

import pytest
import torch
from torch.utils.data import Dataset

from kinema.data.loader import EpochBatches, ResumableLoader, sample_seed


class Keys(Dataset):
    def __len__(self):
        return 23

    def __getitem__(self, key):
        return key


def epoch_of(loader, epoch):
    loader.batches.set_epoch(epoch)
    return list(loader)


def make(**options):
    return ResumableLoader(Keys(), EpochBatches(23, 4, shuffle=True, seed=3), collate_fn=list, **options)


def test_every_sample_once_per_epoch_in_another_order_each_epoch():
    batches = EpochBatches(23, 4, shuffle=True, seed=3)
    orders = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        keys = [key for batch in batches for key in batch]
        assert sorted(keys) == [(epoch, index) for index in range(23)]
        orders.append([index for _, index in keys])
    assert orders[0] != orders[1] != orders[2]


def test_lightning_reaches_set_epoch_through_the_batch_sampler():
    assert make().batch_sampler.sampler.set_epoch


@pytest.mark.parametrize("items", [1, 2, 5, 8, 23])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_together_see_everything_in_equally_many_batches(items, world_size):
    ranks = [EpochBatches(items, 4, shuffle=False, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    assert {index for rank in ranks for batch in rank for _, index in batch} == set(range(items))


def test_batches_are_the_same_for_one_process_and_two():
    one = list(EpochBatches(23, 4, shuffle=True, seed=1))
    two = [list(EpochBatches(23, 4, shuffle=True, seed=1, rank=rank, world_size=2)) for rank in range(2)]
    assert one == [two[b % 2][b // 2] for b in range(len(one))]


def test_training_drops_what_does_not_fill_a_batch_on_every_rank():
    ranks = [EpochBatches(23, 4, shuffle=True, rank=rank, world_size=2, drop_last=True) for rank in range(2)]
    batches = [batch for rank in ranks for batch in rank]
    assert [len(rank) for rank in ranks] == [2, 2]
    assert all(len(batch) == 4 for batch in batches)
    assert len({index for batch in batches for _, index in batch}) == 16


def test_too_few_samples_for_a_batch_is_an_error():
    with pytest.raises(ValueError, match=r"3 training samples do not fill one batch of 4 .* at most 3"):
        EpochBatches(3, 4, shuffle=True, drop_last=True)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seen", [1, 3, 6])
def test_resume_goes_on_where_the_run_was(seen, workers):
    whole = make()
    expected = [epoch_of(whole, epoch) for epoch in range(3)]
    first = make()
    first.batches.set_epoch(1)
    iterator = iter(first)
    before = [next(iterator) for _ in range(seen)]
    second = make(num_workers=workers)
    second.load_state_dict(first.state_dict())
    after = epoch_of(second, 1) if seen < 6 else []
    assert before + after == expected[1]
    assert epoch_of(second, 2) == expected[2]


def test_state_counts_what_was_handed_out_not_what_workers_prepared():
    loader = make(num_workers=2, prefetch_factor=2)
    iterator = iter(loader)
    next(iterator)
    assert loader.state_dict() == {"epoch": 0, "batches": 1, "batch_size": 4, "processes": 1, "samples": 23}


def test_a_state_of_another_epoch_does_not_skip():
    loader = make()
    loader.load_state_dict({"epoch": 0, "batches": 2})
    assert len(epoch_of(loader, 1)) == 6


def test_iterating_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch_of(make(), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_sample_seeds_differ_and_do_not_repeat():
    seeds = {sample_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(100)}
    assert len(seeds) == 5 * 20 * 100
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"batch_size": 2}, "with batch_size 4, and now it is batch_size 2"),
        ({"world_size": 2}, "with processes 1, and now it is processes 2"),
        ({"num_items": 22}, "with samples 23, and now it is samples 22"),
    ],
)
def test_within_an_epoch_other_batches_are_refused(now, told):
    options = {"num_items": 23, "batch_size": 4} | now

    def other():
        return ResumableLoader(Keys(), EpochBatches(shuffle=True, seed=3, **options), collate_fn=list)

    loader = make()
    next(iter(loader))
    with pytest.raises(ValueError, match=f"1 batches into it, {told}: samples would be left out or seen twice"):
        other().load_state_dict(loader.state_dict())
    whole = make()
    epoch_of(whole, 0)
    other().load_state_dict(whole.state_dict())  # between two epochs anything may change
