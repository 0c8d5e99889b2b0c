"""Attention rollout: how much of every token is in every other, through all blocks.

Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 4 (arXiv:2005.00928). A step of attention
adds to a token what it hears, z = z + A z, so the paper reads it as a mixture of both in equal parts, and multiplies the
mixtures of all layers, heads averaged:

    A' = (I + A) / 2,    rollout = A'[last] ... A'[2] A'[1]

A row says of what a token is made in the end, and sums to one. The paper has one attention a layer. In a TimeSformer a
block has several (`kinema.operators.attention`), each with a residual connection, so each is a factor here; steps that
read the same tokens (order "parallel") are one factor (I + A1 + A2) / 3. Every step is written as one matrix over all
tokens of the clip, zero where a token does not see another (in code the rows of the rollout are taken through its groups):

* a step leaves tokens as they are that ask nothing in it, such as the class token in gated steps: rows of the identity;
* a class token that was copied into several groups hears the mean of what its copies hear, as in the network.

What values, gates, feed-forward layers and token shifts do to tokens is not in it; gates that are still near zero are
counted as if they were open.
"""

from math import prod
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinema.backbones.timesformer import PatchTransformer
from kinema.explain.heat import heat_on_pixels
from kinema.explain.watching import in_evaluation
from kinema.models.network import SpaceTimeNetwork
from kinema.operators.attention_steps import GROUPS
from kinema.shapes import AttentionMaps

_OF_CLASS = "class_in_"


def attention_rollout(network: nn.Module, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B N N"]:
    """Of what every token (row) is made after the last block, in shares of the tokens (columns) before the first.

    Args:
        network: A TimeSformer of any scheme, or a TimeSformer with rotary positions; run in evaluation mode and left as it
            was.
        clip: Normalised as for the network.

    Returns:
        Tokens are the class token (scheme "space": one for each frame), then the patches in the order of rows, columns and
        frames, frames changing fastest. Rows sum to one. N is 1 + h w T, so the result has (h w T) ** 2 numbers for a clip.

    Raises:
        ValueError: If the network is none of these, or its class token takes part in gated steps, whose weights for it
            are not kept.
    """
    transformer = _transformer_of(network)
    grid = _grid(transformer, clip)
    return _rows(network, clip, transformer, _num_classes(transformer, grid) + prod(grid))


def rollout_of_class(network: nn.Module, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T H W"]:
    """How much of every patch is in what the classifier reads: the row of the class token, on the pixels of the clip.

    That row alone is carried through the blocks, from the last to the first, so a step costs about as much as its attention
    of one head, and no matrix over all tokens is held.

    Args:
        network, clip: As for `attention_rollout`.

    Returns:
        Heat in [0, 1], the largest value of each clip 1. Where each frame has a class token, the mean of their rows, which
        is what the classifier reads.

    Raises:
        ValueError: As for `attention_rollout`.
    """
    transformer = _transformer_of(network)
    rows, columns, _ = grid = _grid(transformer, clip)
    num_classes = _num_classes(transformer, grid)
    row = _rows(network, clip, transformer, num_classes)[:, :, num_classes:].mean(dim=1)
    maps = rearrange(row, "b (h w t) -> b t h w", h=rows, w=columns)
    return heat_on_pixels(maps, clip.shape[2:])


def _rows(
    network: nn.Module, clip: Float[Tensor, "B C T H W"], transformer: PatchTransformer, num_rows: int
) -> Float[Tensor, "B R N"]:
    """The first rows of the rollout. From the last step back to the first, each needs the rows before it alone."""
    asked: Any = network
    with in_evaluation(network), torch.no_grad():
        blocks: list[AttentionMaps] = asked.attention_maps(clip)
    grid = _grid(transformer, clip)
    num_classes = _num_classes(transformer, grid)
    rollout = torch.eye(num_rows, num_classes + prod(grid), device=clip.device).expand(clip.shape[0], -1, -1)
    for block, maps in zip(reversed(transformer.blocks), reversed(blocks), strict=True):
        names = [name for name in reversed(maps) if not name.startswith(_OF_CLASS)]
        if getattr(block, "order", "sequential") == "parallel":  # steps that read the same tokens
            heard = sum(_heard(rollout, name, maps, grid, num_classes) for name in names)
            rollout = (rollout + heard) / (1 + len(names))
        else:
            for name in names:
                rollout = (rollout + _heard(rollout, name, maps, grid, num_classes)) / 2
    return rollout


def _transformer_of(network: nn.Module) -> PatchTransformer:
    backbone = getattr(network, "backbone", None)
    if not isinstance(network, SpaceTimeNetwork) or not isinstance(backbone, PatchTransformer):
        raise ValueError(
            f"a {type(network).__name__} keeps no attention maps; give a TimeSformer, such as "
            "kinema.create_model('timesformer_nano'), or of a LightningModule its .network"
        )
    if any(getattr(block, "class_everywhere", False) for block in backbone.blocks):
        raise ValueError(
            "with class_everywhere=True the class token takes part in gated steps, and what it sees there is not kept; give "
            "a network without that option"
        )
    return backbone


def _grid(transformer: PatchTransformer, clip: Tensor) -> tuple[int, int, int]:
    """Rows and columns of patches, and frames."""
    return clip.shape[3] // transformer.patch_size, clip.shape[4] // transformer.patch_size, clip.shape[2]


def _num_classes(transformer: PatchTransformer, grid: tuple[int, int, int]) -> int:
    """Class tokens: one, or one for each frame."""
    return grid[2] if getattr(transformer, "class_per_frame", False) else 1


def _heard(
    rows: Float[Tensor, "B R N"], name: str, maps: AttentionMaps, grid: tuple[int, int, int], num_classes: int
) -> Float[Tensor, "B R N"]:
    """Rows times the matrix of one step, group by group: the matrix itself, zero between groups, is not made."""
    total = rows.shape[2]
    parts = [(maps[name], *_seen(name, maps[name], grid, num_classes))]
    of_class = _OF_CLASS + name
    if of_class in maps:  # a class token that sees all tokens has weights of its own
        every = torch.arange(total, device=rows.device)[None]
        parts.append((maps[of_class], every[:, :1], every))
    heard, asks = torch.zeros_like(rows), torch.zeros(total, dtype=torch.bool, device=rows.device)
    for weights, queries, keys in parts:
        weights = weights.float().mean(dim=1).unflatten(0, (len(rows), -1))
        times = torch.bincount(queries.flatten(), minlength=total)  # a token in several groups hears their mean
        asking = rows[:, :, queries] / times[queries]
        heard.index_add_(2, keys.flatten(), torch.einsum("brgq,bgqk->brgk", asking, weights).flatten(2))
        asks |= times > 0
    return torch.where(asks, heard, heard + rows)  # what asks nothing stays as it is


def _seen(
    name: str, weights: Tensor, grid: tuple[int, int, int], num_classes: int
) -> tuple[Int[Tensor, "G Q"], Int[Tensor, "G K"]]:
    """Which tokens of a clip the queries and keys of every group of a step are: the table of `kinema.operators.attention`."""
    rows, columns, num_frames = grid
    patches = num_classes + torch.arange(rows * columns * num_frames, device=weights.device)
    patches = patches.view(rows, columns, num_frames)
    every = patches.flatten()[None]
    if name == "local":
        return every, every
    if name == "global":
        strided = patches[::2, ::2, ::2].flatten()[None]
        class_token = every.new_zeros(1, 1)
        return torch.cat([class_token, every], dim=1), torch.cat([class_token, strided], dim=1)
    outer, inner = (side.replace("b", "") for side in GROUPS[name])
    groups = rearrange(patches, f"h w t -> {outer if outer.strip() else '()'} {inner}")
    if all(size == groups.shape[1] for size in weights.shape[-2:]):
        return groups, groups
    # One class token for all groups, or one for each frame; groups are then frames.
    classes = torch.arange(num_classes, device=weights.device)[:, None].expand(
        -1 if num_classes > 1 else len(groups), -1
    )
    with_class = torch.cat([classes, groups], dim=1)
    return tuple(with_class if size > groups.shape[1] else groups for size in weights.shape[-2:])  # pyrefly: ignore
