"""Blocks that compute the tokens of the highest scores: order, the representative, scores, gradients, refusals."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinema.operators.relation import GlobalRelation
from kinema.operators.token_pruning import PrunedRelation, put_back, taken
from kinema.shapes import RankedMaps

DIM, HEADS, GRID = 8, 2, (2, 3, 4)
TOKENS = 24


def block_of(share, **options):
    torch.manual_seed(0)
    block = PrunedRelation(DIM, HEADS, share=share, **options).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block


def ranked(batch=2, scores=True, seed=1):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(batch, 1, DIM, generator=generator, dtype=torch.float64)
    maps = torch.randn(batch, DIM, *GRID, generator=generator, dtype=torch.float64)
    drawn = torch.rand(batch, TOKENS, generator=generator, dtype=torch.float64)
    return RankedMaps(classes, maps, drawn if scores else None)


def literal(block, given):
    """One clip after the other, tokens told apart by their index."""
    made = [_literal_clip(block, RankedMaps(*(part[b : b + 1] for part in given))) for b in range(len(given.maps))]
    return RankedMaps(*(torch.cat(parts) for parts in zip(*made, strict=True)))


def _literal_clip(block, given):
    maps = block.pos_embed(given.maps)
    tokens = list(maps[0].flatten(1).T)
    scores = given.scores[0].clone()
    by_score = sorted(range(TOKENS), key=lambda index: -scores[index].item())
    kept, others = by_score[: int(TOKENS * block.share)], by_score[int(TOKENS * block.share) :]
    rows = [given.classes[0, 0], *(tokens[index] for index in kept)]
    if others:
        rows.append(sum(scores[index] * tokens[index] for index in others) / sum(scores[index] for index in others))
    z = torch.stack(rows)[None]
    normed = F.layer_norm(z, (DIM,), block.norm1.weight, block.norm1.bias, eps=1e-6)
    q, k, v = block.attn.qkv(normed).chunk(3, dim=-1)
    said, looks = [], 0
    for head in range(HEADS):
        part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) * (DIM / HEADS) ** -0.5).softmax(dim=-1)
        said.append(weights @ v[..., part])
        looks = looks + weights[0, 0] / HEADS
    after = z + block.attn.proj(torch.cat(said, dim=-1))
    after = after + block.mlp(F.layer_norm(after, (DIM,), block.norm2.weight, block.norm2.bias, eps=1e-6))
    for row, index in enumerate(kept, start=1):
        tokens[index] = after[0, row]
        scores[index] = (1 - block.trade_off) * scores[index] + block.trade_off * looks[row]
    for index in others:
        tokens[index] = tokens[index] + after[0, -1] - z[0, -1]
    return RankedMaps(after[:, :1], torch.stack(tokens, dim=1).view(1, DIM, *GRID), scores[None])


def assert_same(got, wanted):
    for part, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share", [1, 0.9, 0.5, 0.05, 0.01])
def test_it_is_its_equation(share):
    block, given = block_of(share, trade_off=0.3), ranked()
    assert_same(block(given), literal(block, given))


def test_the_first_block_takes_the_looks_of_the_class_token_for_scores():
    block, given = block_of(1, trade_off=0.3), ranked(scores=False)
    wanted = literal(block_of(1, trade_off=1.0), ranked())
    assert_same(block(given), wanted)
    total = block(given).scores.sum(dim=1)
    assert (total < 1).all() and (total > 0.5).all()  # the rest is what the class token thinks of itself


def test_share_one_is_the_plain_block_that_does_not_see_the_class_token():
    """A class token whose key is beneath notice leaves the block of tokens alone."""
    block, given = block_of(1, qkv_bias=True), ranked()
    plain = GlobalRelation(DIM, HEADS).double().eval()
    plain.load_state_dict(block.state_dict())
    attend = block.attn.attend

    def unseen(q, k, v, *rest):
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
        mask[1:, 0] = False
        return attend(q, k, v, mask)

    block.attn.attend = unseen
    torch.testing.assert_close(block(given).maps, plain(given.maps))


def test_every_token_returns_to_its_place():
    order = torch.stack([torch.randperm(TOKENS) for _ in range(3)])
    tokens = torch.arange(3 * TOKENS * 2.0).view(3, TOKENS, 2)
    assert torch.equal(put_back(taken(tokens, order), order), tokens)
    assert torch.equal(taken(tokens, order)[1, 5], tokens[1, order[1, 5]])
    block, given = block_of(0.5), ranked()
    for parameter in [*block.attn.proj.parameters(), *block.mlp.fc2.parameters()]:
        nn.init.zeros_(parameter)
    assert torch.equal(block(given).maps, block.pos_embed(given.maps))


def test_equal_scores_keep_their_order():
    block, given = block_of(0.5), ranked()
    block.pos_embed = nn.Identity()
    equal = given._replace(scores=torch.ones_like(given.scores))
    falling = given._replace(scores=torch.linspace(1, 0.999999, TOKENS, dtype=torch.float64).expand(2, -1))
    torch.testing.assert_close(block(equal).maps, block(falling).maps, rtol=1e-4, atol=1e-4)


def test_a_batch_is_so_many_clips():
    block = block_of(0.5)
    first, second = ranked(1, seed=1), ranked(1, seed=2)
    together = block(RankedMaps(*(torch.cat(parts) for parts in zip(first, second, strict=True))))
    assert_same(together, RankedMaps(*(torch.cat(p) for p in zip(block(first), block(second), strict=True))))


def test_nothing_stays_in_the_block_from_one_call_to_the_next():
    block, given = block_of(0.5), ranked()
    once = block(given)
    block(ranked(3, seed=7))
    assert_same(block(given), once)
    before = ranked()
    assert_same(given, before)  # nothing is changed in place, as the authors' code does


def test_gradients_reach_scores_and_tokens():
    block, given = block_of(0.5), ranked()
    scores, maps = given.scores.requires_grad_(), given.maps.requires_grad_()
    out = block(RankedMaps(given.classes, maps, scores))
    out.maps.square().sum().backward()
    kept = scores.argsort(dim=1, descending=True)[:, : TOKENS // 2]
    assert not scores.grad.gather(1, kept).any()  # those are not weighted by their scores
    assert scores.grad.count_nonzero() == TOKENS
    assert maps.grad.abs().amax(dim=1).all()


def test_the_fast_update_is_never_dropped():
    block, given = block_of(0.5, drop_path=0.999999), ranked()
    block.train()
    torch.manual_seed(0)
    changed = (block(given).maps - block.pos_embed(given.maps)).abs().amax(dim=1).flatten(1) > 1e-9
    kept = given.scores.argsort(dim=1, descending=True)[:, : TOKENS // 2]
    assert not changed.gather(1, kept).any()
    assert changed.sum(dim=1).eq(TOKENS // 2).all()


def test_scores_are_exact_where_features_are_not():
    block = block_of(0.5).bfloat16()
    given = ranked()
    out = block(RankedMaps(given.classes.bfloat16(), given.maps.bfloat16(), given.scores.float()))
    assert out.maps.dtype == torch.bfloat16 and out.scores.dtype == torch.float32
    first = block_of(1).bfloat16()(RankedMaps(given.classes.bfloat16(), given.maps.bfloat16(), None))
    assert first.maps.dtype == torch.bfloat16 and first.scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PrunedRelation(8, 2, share=0), "keeps a share of 0 of the tokens is none"),
        (lambda: PrunedRelation(8, 2, share=1.5), r"give a number in \(0, 1\]"),
        (lambda: PrunedRelation(8, 2, trade_off=2), "trade_off=2 is no share of a score"),
        (lambda: block_of(0.5)(ranked(scores=False)), "no scores came for a block that keeps a share of 0.5"),
        (
            lambda: block_of(0.5)(ranked()._replace(scores=torch.ones(2, 6).double())),
            r"scores of shape \(2, 6\) came with 24 tokens of 2 clips",
        ),
    ],
)
def test_what_cannot_be_pruned_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
