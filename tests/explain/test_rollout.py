"""Attention rollout against loops over tokens, and against what tokens really hear of one another."""

from itertools import product

import pytest
import torch
from torch import nn

import kinema
from kinema.explain import rollout as module
from kinema.explain.heat import heat_on_pixels
from kinema.explain.rollout import attention_rollout, rollout_of_class
from kinema.shapes import ClipTokens

ROWS, COLUMNS, FRAMES = 2, 4, 3
PLACES = list(product(range(ROWS), range(COLUMNS), range(FRAMES)))
SCHEMES = ["space", "joint", "divided", "local_global", "axial"]


def built(scheme="divided", depth=2, **options):
    torch.manual_seed(0)
    name, size = "timesformer_nano", {"attention_scheme": scheme, "image_size": 32, "patch_size": 16}
    if scheme == "rotary":
        name, size = "timesformer_rotary_nano", {"patch_size": 16, "token_shift": False}
    network = kinema.create_model(name, 5, FRAMES, depth=depth, **size, **options)
    for layer_name, parameter in network.named_parameters():
        if ".fc." in layer_name or ".qkv.weight" in layer_name:  # gates that start at zero; attention that is uneven
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def clips(batch=2):
    return torch.randn(batch, 3, FRAMES, 16 * ROWS, 16 * COLUMNS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scheme", [*SCHEMES, "rotary"])
@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_rows_are_shares(scheme, order):
    if scheme == "rotary" and order != "sequential":
        return
    network = built(scheme, **({} if scheme == "rotary" else {"attention_order": order}))
    rollout = attention_rollout(network, clips())
    classes = FRAMES if scheme == "space" else 1
    assert rollout.shape == (2, classes + len(PLACES), classes + len(PLACES))
    assert rollout.min() >= 0
    assert torch.allclose(rollout.sum(dim=2), torch.ones(()), atol=1e-5)
    assert not torch.allclose(rollout[0], rollout[1], atol=1e-3)


@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_of_a_causal_network_no_frame_holds_a_later_one(order):
    rollout = attention_rollout(built(causal=True, attention_order=order), clips())
    assert rollout.shape == (2, FRAMES + len(PLACES), FRAMES + len(PLACES))
    assert torch.allclose(rollout.sum(dim=2), torch.ones(()), atol=1e-5)
    times = torch.tensor([*range(FRAMES), *(t for _, _, t in PLACES)])
    later = times[None] > times[:, None]
    assert not rollout[:, later].any()
    first = rollout[:, FRAMES - 1, FRAMES:].unflatten(1, (ROWS, COLUMNS, FRAMES))
    assert (first > 0).all()  # the last class token holds every patch of every frame
    assert rollout_of_class(built(causal=True), clips()).shape == (2, FRAMES, 16 * ROWS, 16 * COLUMNS)


@pytest.mark.parametrize("scheme", [*SCHEMES, "rotary"])
@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_a_share_is_above_zero_where_a_token_hears_another_and_nowhere_else(scheme, order):
    """One block, differentiated: which tokens in front of it each token behind it depends on."""
    if scheme == "rotary" and order != "sequential":
        return
    network = built(scheme, depth=1, **({} if scheme == "rotary" else {"attention_order": order}))
    rollout = attention_rollout(network, clips(1))[0]
    backbone = network.backbone
    tokens = ClipTokens(*(part.detach().requires_grad_() for part in backbone.embed(clips(1))))
    rotation = (
        (None if backbone.rotary is None else backbone.rotary(ROWS, COLUMNS, FRAMES),) if scheme == "rotary" else ()
    )
    behind = backbone.blocks[0](tokens, *rotation)
    weights = torch.randn(behind.classes.shape[2], generator=torch.Generator().manual_seed(2))  # no sum: norms lose it
    each = torch.cat([behind.classes[0], behind.patches[0].flatten(0, 2)]) @ weights
    hears = []
    for token in each:
        classes, patches = torch.autograd.grad(token, tuple(tokens), retain_graph=True)
        hears.append(torch.cat([classes[0], patches[0].flatten(0, 2)]).abs().amax(dim=1) > 0)
    assert torch.equal(rollout > 0, torch.stack(hears))


def step_by_loops(name, weights, clip):
    """One step of divided attention as a matrix, from the table of kinema.operators.attention, token by token."""
    number = {place: 1 + index for index, place in enumerate(PLACES)}
    matrix = torch.zeros(1 + len(PLACES), 1 + len(PLACES))
    heads = weights.shape[1]
    if name == "time":
        matrix[0, 0] = 1
        for row, column, frame in PLACES:
            group = (clip * ROWS + row) * COLUMNS + column
            for other in range(FRAMES):
                share = sum(float(weights[group, head, frame, other]) for head in range(heads)) / heads
                matrix[number[row, column, frame], number[row, column, other]] = share
        return matrix
    for frame in range(FRAMES):
        share = weights[clip * FRAMES + frame].mean(dim=0)
        places = [(row, column, frame) for row in range(ROWS) for column in range(COLUMNS)]
        matrix[0, 0] += share[0, 0] / FRAMES
        for key, place in enumerate(places):
            matrix[0, number[place]] += share[0, 1 + key] / FRAMES
        for query, place in enumerate(places):
            matrix[number[place], 0] = share[1 + query, 0]
            for key, other in enumerate(places):
                matrix[number[place], number[other]] = share[1 + query, 1 + key]
    return matrix


@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_divided_attention_by_loops(order):
    network = built("divided", attention_order=order)
    clip = clips()
    got = attention_rollout(network, clip)
    with torch.no_grad():
        blocks = network.attention_maps(clip)
    for index in range(2):
        wanted = torch.eye(1 + len(PLACES))
        for maps in blocks:
            time, space = (step_by_loops(name, maps[name], index) for name in ("time", "space"))
            eye = torch.eye(len(time))
            if order == "parallel":
                wanted = (eye + time + space) / 3 @ wanted
                continue
            for step in (time, space) if order == "sequential" else (space, time):
                wanted = (eye + step) / 2 @ wanted
        assert torch.allclose(got[index], wanted, atol=1e-5)


def test_frames_by_themselves_hear_no_other_frame():
    rollout = attention_rollout(built("space"), clips(1))[0]
    frame_of = torch.tensor([*range(FRAMES), *(frame for _, _, frame in PLACES)])
    assert torch.equal(rollout > 0, frame_of[:, None] == frame_of[None])


@pytest.mark.parametrize("scheme", [*SCHEMES, "rotary", "causal"])
@pytest.mark.parametrize("order", ["sequential", "reversed", "parallel"])
def test_the_heat_is_of_the_class_rows_of_all_of_the_rollout_and_only_these_are_multiplied(scheme, order, monkeypatch):
    if scheme == "rotary" and order != "sequential":
        return
    options = {} if scheme == "rotary" else {"attention_order": order, "causal": scheme == "causal"}
    network = built("divided" if scheme == "causal" else scheme, depth=3, **options)
    classes = FRAMES if scheme in ("space", "causal") else 1
    shares = attention_rollout(network, clips())[:, :classes, classes:].mean(dim=1)
    seen, heard = [], module._heard
    monkeypatch.setattr(module, "_heard", lambda rows, *step: seen.append(rows.shape[1]) or heard(rows, *step))
    heat = rollout_of_class(network, clips())
    wanted = heat_on_pixels(shares.unflatten(1, (ROWS, COLUMNS, FRAMES)).permute(0, 3, 1, 2), clips().shape[2:])
    torch.testing.assert_close(heat, wanted, atol=1e-5, rtol=1e-4)
    assert set(seen) == {classes}


@pytest.mark.parametrize("classes", [1, FRAMES])
def test_the_row_of_the_class_token_is_put_back_on_the_pixels(classes, monkeypatch):
    """The mean over class tokens where there are several, at the place and frame that a token stands for."""
    rollout = torch.zeros(2, classes + len(PLACES), classes + len(PLACES))
    for clip, place in enumerate([(1, 3, 0), (0, 3, 2)]):
        rollout[clip, :classes, classes + PLACES.index(place)] = 0.5
        rollout[clip, 0, classes + PLACES.index((0, 0, 1))] = 0.25
    monkeypatch.setattr(module, "_rows", lambda network, clip, transformer, num_rows: rollout[:, :num_rows])
    heat = rollout_of_class(built("space" if classes > 1 else "divided"), clips())
    assert heat.shape == (2, FRAMES, 16 * ROWS, 16 * COLUMNS)
    assert heat[0, 0, 24, 56] == 1 and heat[1, 2, 7, 56] == 1
    assert heat[0, 1, 4, 4] == pytest.approx(0.5 / classes) and heat[0, 2].max() == 0


def test_the_network_is_left_as_it_was():
    network = built("divided", drop_path=0.5).train()
    network.head.eval()
    first = attention_rollout(network, clips())
    assert torch.equal(first, attention_rollout(network, clips())), "stochastic depth was on"
    assert network.training and not network.head.training and not first.requires_grad


def test_what_keeps_no_attention_is_refused():
    with pytest.raises(ValueError, match="a SegmentNetwork keeps no attention maps"):
        attention_rollout(kinema.create_model("tsn_nano", 5), clips())
    with pytest.raises(ValueError, match="what it sees there is not kept"):
        attention_rollout(built("divided", class_everywhere=True), clips())
