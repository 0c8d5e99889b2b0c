"""Weights shared out over processes, for networks that one GPU cannot hold with their optimiser (FSDP).

Started with Lightning's strategy for it, on GPUs or, in tests, on a CPU; for 8 GPUs:

    --trainer.devices 8 --trainer.strategy lightning.pytorch.strategies.ModelParallelStrategy
    --trainer.strategy.data_parallel_size 8 --trainer.strategy.tensor_parallel_size 1
    --trainer.strategy.save_distributed_checkpoint false

Lightning's `fsdp` is the older form, which runs on GPUs alone.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from lightning import Trainer
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


def shard_network(network: nn.Module, mesh: DeviceMesh) -> None:
    """Share out parameters, gradients and optimiser states: each process keeps a part, and gathers a block when it runs.

    Zhao et al. 2023 (arXiv:2304.11277), in PyTorch's `fully_shard`. Blocks are the members of module lists, the backbone and
    the head. Statistics of batch norms are not parameters and would drift apart; as in DDP those of the first process are
    sent to the others before every forward pass.

    Args:
        network: On the device, with the same or other initial weights in every process; those of the first are taken.
        mesh: The processes, one axis.
    """
    group = mesh.get_group()
    source = dist.get_global_rank(group, 0)
    with torch.no_grad():
        for parameter in network.parameters():
            dist.broadcast(parameter.detach(), source, group=group)
    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    for part in network.children():
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)

    def send_statistics(module: nn.Module, inputs: tuple[object, ...]) -> None:
        for buffer in module.buffers():
            dist.broadcast(buffer, source, group=group)

    network.register_forward_pre_hook(send_statistics)


def need_shards(trainer: Trainer, mesh: DeviceMesh) -> None:
    """Refuse settings of Lightning's strategy under which a run would go on, and wrongly.

    Its defaults give each machine's processes to tensor parallelism, which kinema has not: gradients would not be averaged,
    and each process would train a network of its own.

    Raises:
        ValueError: If not all processes share out the data, or the strategy writes checkpoints in parts, which kinema neither
            replaces in one step nor reads again.
    """
    if mesh["data_parallel"].size() != trainer.world_size:
        raise ValueError(
            f"the strategy shares out weights among {mesh['data_parallel'].size()} of {trainer.world_size} processes; add "
            f"--trainer.strategy.data_parallel_size {trainer.world_size} --trainer.strategy.tensor_parallel_size 1"
        )
    if getattr(trainer.strategy, "_save_distributed_checkpoint", False):
        raise ValueError(
            "the strategy writes each process's part of a checkpoint into a folder, and kinema's checkpoints are whole; add "
            "--trainer.strategy.save_distributed_checkpoint false"
        )


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Members of the outermost module lists that have parameters."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            for member in child:
                if isinstance(member, nn.ModuleList):
                    yield from _blocks(nn.ModuleList([member]))
                elif any(True for _ in member.parameters()):
                    yield member
        else:
            yield from _blocks(child)
