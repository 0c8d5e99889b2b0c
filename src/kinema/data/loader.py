"""Batches that can be resumed: which sample is drawn with which randomness depends on (seed, epoch, index) alone."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of keys (epoch, index), dealt to ranks as whole batches.

    Batch b of the epoch goes to rank b mod world_size. The batches themselves do not depend on the number of ranks, so
    each is computed exactly as in a single process.

    Args:
        num_items: Size of the dataset.
        batch_size: Items of one batch on one rank.
        shuffle: Draw a new order each epoch from (seed, epoch).
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes.
        drop_last: Drop what does not fill a batch on every rank, for training. Otherwise the last batch may be smaller
            and ranks that would run out first get earlier batches again, for evaluation, where duplicates are
            recognised by their video.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if drop_last and num_items < batch_size * world_size:
            raise ValueError(
                f"{num_items} training samples do not fill one batch of {batch_size} on {world_size} process(es); "
                f"use a batch_size of at most {max(num_items // world_size, 1)}"
            )
        self.num_items, self.batch_size, self.shuffle, self.seed = num_items, batch_size, shuffle, seed
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.epoch = 0
        self.resume_at = (0, 0)  # epoch, batches of it already seen
        # Lightning calls set_epoch on `loader.batch_sampler.sampler`, never on the batch sampler itself.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.num_items, self.batch_size)
        total = whole if self.drop_last or not rest else whole + 1
        return total // self.world_size if self.drop_last else -(-total // self.world_size)

    @property
    def start(self) -> int:
        """Batches to pass over in the coming epoch."""
        epoch, batches = self.resume_at
        return batches if epoch == self.epoch else 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start = self.start
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            order = torch.randperm(self.num_items, generator=generator).tolist()
        else:
            order = list(range(self.num_items))
        keys = [(self.epoch, index) for index in order]
        batches = [keys[i : i + self.batch_size] for i in range(0, len(keys), self.batch_size)]
        mine = [batches[(b * self.world_size + self.rank) % len(batches)] for b in range(len(self))]
        return iter(mine[start:])


class ResumableLoader(DataLoader):
    """A DataLoader whose place within an epoch is part of the checkpoint.

    Lightning saves `state_dict()` with every checkpoint and gives it back before the first batch of a resumed run. The
    state counts the batches handed out, not those that workers have prepared ahead. Within an epoch it fits batches of the
    same size on as many processes, of as many samples, alone: others would leave samples out, or see some twice.
    """

    def __init__(self, dataset: Dataset, batches: EpochBatches, **options: Any) -> None:
        # A generator of its own: DataLoader would otherwise draw from torch's global one whenever it is iterated, and a
        # resumed run would see other random numbers (dropout) than an uninterrupted one.
        super().__init__(
            dataset, batch_sampler=batches, generator=torch.Generator().manual_seed(batches.seed), **options
        )
        self.batches = batches
        self._handed_out = 0
        self._epoch = 0

    def __iter__(self) -> Iterator[Any]:  # pyrefly: ignore[bad-override]
        self._handed_out, self._epoch = self.batches.start, self.batches.epoch
        iterator = super().__iter__()
        # Only now: with workers, DataLoader iterates the batch sampler twice before the first batch.
        self.batches.resume_at = (0, 0)
        for batch in iterator:
            self._handed_out += 1
            yield batch

    @property
    def _dealt(self) -> dict[str, int]:
        """What decides which samples a number of batches holds."""
        batches = self.batches
        return {"batch_size": batches.batch_size, "processes": batches.world_size, "samples": batches.num_items}

    def state_dict(self) -> dict[str, int]:
        if self._handed_out >= len(self.batches):
            return {"epoch": self._epoch + 1, "batches": 0}
        return {"epoch": self._epoch, "batches": self._handed_out, **self._dealt}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a state was taken.

        Raises:
            ValueError: If it lies within an epoch of other batches.
        """
        # Checkpoints of earlier versions do not say it.
        different = [name for name, now in self._dealt.items() if state["batches"] and state.get(name, now) != now]
        if different:
            was, is_now = (", ".join(f"{name} {said[name]}" for name in different) for said in (state, self._dealt))
            raise ValueError(
                f"the checkpoint lies within an epoch, {state['batches']} batches into it, with {was}, and now it is {is_now}: "
                "samples would be left out or seen twice; give what it was, or go on from a checkpoint of the end of an epoch"
            )
        self.batches.set_epoch(state["epoch"])
        self.batches.resume_at = (state["epoch"], state["batches"])


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of all randomness of one sample."""
    return _mix(_mix(seed, epoch), index)


def _mix(a: int, b: int) -> int:
    """A well spread 63-bit seed of two numbers (the finaliser of splitmix64)."""
    mask = (1 << 64) - 1
    z = (a * 0x9E3779B97F4A7C15 + b + 1) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1
