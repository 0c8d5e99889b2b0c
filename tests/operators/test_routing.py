"""Routing functions: what each may know of the clip, where it starts, and the equations it must equal."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kinema.operators.routing import ROUTINGS, AttentionRouting, CausalRouting, ConvRouting, build_routing, describe
from kinema.operators.time_convolution import RecentMean

C, T = 8, 7
WIDTHS = {"cin": 8, "bias": 6}
OPTIONS = {"ratio": 2, "head_dim": 2, "num_frames": T}
MADE = [name for name in ROUTINGS if name != "none"]


def built(name, *, moved=True, widths=WIDTHS, **options):
    router = build_routing(name, C, widths, **(OPTIONS | options)).eval()
    if moved:
        for parameter in router.parameters():
            nn.init.normal_(parameter, std=0.7)
    return router.double()


def reach(router):
    """Which frames of the descriptors the factors of frame 3 depend on; many clips, as a ReLU may be closed for one."""
    v = torch.randn(32, C, T, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(sum(factor[:, :, 3].pow(2).sum() for factor in router(v) if factor is not None), v)
    return [t for t in range(T) if gradient[0][:, :, t].abs().sum() > 0]


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("frame", [3]),
        ("linear", [2, 3, 4]),
        ("local", [1, 2, 3, 4, 5]),
        ("clip", list(range(T))),
        ("global", list(range(T))),
        ("local_global", list(range(T))),
        ("local_global_ln", list(range(T))),
        ("attention", list(range(T))),
        ("causal", [1, 2, 3]),
    ],
)
def test_what_a_router_knows(name, frames):
    assert reach(built(name)) == frames


@pytest.mark.parametrize(
    ("name", "options", "frames"),
    [
        ("static", {}, []),
        ("frame", {}, [3]),
        ("linear", {}, [1, 2, 3]),
        ("local", {"kernels": (2, 2)}, [1, 2, 3]),
        ("clip", {"num_frames": 3}, [1, 2, 3]),
        ("global", {"num_frames": 2}, [2, 3]),
        ("local_global", {"num_frames": 2, "kernels": (1, 2)}, [1, 2, 3]),
        ("local_global", {}, [0, 1, 2, 3]),
        ("local_global_ln", {"num_frames": 3, "kernels": (1, 1)}, [1, 2, 3]),
        ("causal", {}, [1, 2, 3]),
    ],
)
def test_what_a_causal_router_knows(name, options, frames):
    router = built(name, causal=True, **options)
    if name == "static":
        assert router.init_state(torch.zeros(1, C)) == {}
    else:
        assert reach(router) == frames


def test_kernels_widen_what_a_local_router_knows():
    assert reach(built("local", kernels=(1, 3))) == [2, 3, 4]
    assert reach(built("local", kernels=(3, 5))) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("name", "varies"), [("static", False), ("per_frame", True), ("clip", False), ("frame", True)])
def test_which_routers_tell_frames_apart(name, varies):
    factors = built(name)(torch.randn(2, C, T, dtype=torch.float64))
    assert factors.cin.shape == (2, 8, T)
    assert (factors.cin.std(dim=2).max() > 1e-9) == varies


@pytest.mark.parametrize("name", ["static", "per_frame"])
def test_learnt_factors_read_no_clip(name):
    router = built(name)
    assert torch.equal(router(torch.randn(1, C, T)).cin, router(torch.randn(1, C, T)).cin)


@pytest.mark.parametrize("name", MADE)
def test_every_router_starts_at_one(name):
    factors = built(name, moved=False)(torch.randn(2, C, T, dtype=torch.float64))
    assert torch.equal(factors.cin, torch.ones(2, 8, T, dtype=torch.float64))
    assert torch.equal(factors.bias, torch.ones(2, 6, T, dtype=torch.float64))
    assert factors.cout is None and factors.kernel is None


def test_attention_may_start_elsewhere():
    factors = built("attention", moved=False, zero_init=False)(torch.randn(2, C, T, dtype=torch.float64))
    assert 0 < factors.cin.abs().max() < 0.3


@pytest.mark.parametrize("name", MADE)
def test_gradients_reach_every_parameter(name):
    router = built(name).train()
    for module in router.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            nn.init.normal_(module.weight)
    factors = router(torch.randn(3, C, T, dtype=torch.float64))
    (factors.cin.pow(2).sum() + factors.bias.pow(2).sum()).backward()
    before_batch_norm = {"conv.bias"} if isinstance(getattr(router, "norm", None), nn.BatchNorm1d) else set()
    for key, parameter in router.named_parameters():
        assert parameter.grad is not None, key
        if key not in before_batch_norm and name != "attention":
            assert parameter.grad.abs().sum() > 0, key


def test_version_one_equals_its_equations():
    """The clip's descriptor is added before the first convolution, so that the zeros padding time do not hold it."""
    router = built("local_global", ratio=4)
    assert isinstance(router, ConvRouting)
    v = torch.randn(2, C, T, dtype=torch.float64)
    g = torch.einsum("oc,bc->bo", router.global_proj.weight, v.mean(2)) + router.global_proj.bias
    u = F.pad(v + g[:, :, None], (1, 1))
    a = sum(torch.einsum("oc,bct->bot", router.conv.weight[:, :, k], u[:, :, k : k + T]) for k in range(3))
    a = torch.relu(router.norm(a + router.conv.bias[:, None]))
    a = F.pad(a, (1, 1))
    alpha = 1 + sum(torch.einsum("oc,bct->bot", router.to_cin.weight[:, :, k], a[:, :, k : k + T]) for k in range(3))
    torch.testing.assert_close(router(v).cin, alpha)


@pytest.mark.parametrize("name", ["local_global", "local", "clip"])
def test_a_causal_router_equals_its_equations(name):
    """Frame by frame: the mean of the last three frames, and convolutions whose last tap is on this frame."""
    router = built(name, causal=True, num_frames=3, kernels=(3, 2))
    v = torch.randn(2, C, T, dtype=torch.float64)
    inputs, hidden, alpha = [], [], []
    for t in range(T):
        u = v[:, :, t]
        if name != "local":
            mean = v[:, :, max(0, t - 2) : t + 1].mean(2)
            u = mean if name == "clip" else u + mean @ router.global_proj.weight.T + router.global_proj.bias
        inputs.append(u)
        taps = router.conv.weight.shape[2]
        z = router.conv.bias + sum(
            inputs[t - k] @ router.conv.weight[:, :, taps - 1 - k].T for k in range(min(taps, t + 1))
        )
        hidden.append(torch.relu(router.norm(z)))
        taps = router.to_cin.weight.shape[2]
        alpha.append(
            1 + sum(hidden[t - k] @ router.to_cin.weight[:, :, taps - 1 - k].T for k in range(min(taps, t + 1)))
        )
    torch.testing.assert_close(router(v).cin, torch.stack(alpha, dim=2))


@pytest.mark.parametrize("window", [1, 3, 9])
def test_a_recent_mean_is_a_mean_and_streams(window):
    module, v = RecentMean(window), torch.randn(2, 4, 6, dtype=torch.float64)
    wanted = torch.stack([v[:, :, max(0, t - window + 1) : t + 1].mean(2) for t in range(6)], dim=2)
    torch.testing.assert_close(module(v), wanted)
    state = module.init_state(v[:, :, 0])
    for t in range(6):
        mean, state = module.step(v[:, :, t], state)
        torch.testing.assert_close(mean, wanted[:, :, t])


def test_training_statistics_of_a_causal_router_hold_no_padding():
    """The zeros before a clip are no frames: the norm inside a router must not count them."""
    router = built("local_global", causal=True).train()
    v = torch.randn(3, C, T, dtype=torch.float64)
    inside = []
    router.norm.register_forward_pre_hook(lambda module, inputs: inside.append(inputs[0]))
    router(v)
    assert inside[0].shape == (3, 4, T)


def test_attention_equals_its_equations():
    router = built("attention")
    assert isinstance(router, AttentionRouting)
    v = torch.randn(2, C, T, dtype=torch.float64)
    z = F.layer_norm(router.conv(v).transpose(1, 2), (4,), router.norm.weight, router.norm.bias, 1e-6)
    z = z * torch.sigmoid(1.702 * z)
    n = F.layer_norm(z, (4,), router.norm_attn.weight, router.norm_attn.bias, 1e-6)
    q, k, value = (n @ router.qkv.weight.T + router.qkv.bias).chunk(3, dim=2)
    heads = []
    for h in range(2):
        part = slice(2 * h, 2 * h + 2)
        scores = q[..., part] @ k[..., part].transpose(1, 2) * 4**-0.5  # of all hidden channels, not of a head's two
        heads.append(scores.softmax(dim=2) @ value[..., part])
    z = z + torch.cat(heads, dim=2) @ router.out.weight.T + router.out.bias
    torch.testing.assert_close(router(v).cin, 1 + router.to_cin(z.transpose(1, 2)))


def test_a_causal_router_streams():
    router = built("causal", widths={"cin": 8, "bias": 1})
    assert isinstance(router, CausalRouting)
    v = torch.randn(2, C, T, dtype=torch.float64)
    whole = router(v)
    state = router.init_state(v[:, :, 0])
    for t in range(T):
        factors, state = router.step(v[:, :, t], state)
        torch.testing.assert_close(factors.cin[:, :, 0], whole.cin[:, :, t])
        torch.testing.assert_close(factors.bias[:, :, 0], whole.bias[:, :, t])


def test_a_still_picture_has_constant_causal_factors():
    router = built("causal")
    factors = router(torch.randn(1, C, 1, dtype=torch.float64).expand(-1, -1, T)).cin
    torch.testing.assert_close(factors, factors[:, :, :1].expand_as(factors))


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("name", [name for name in MADE if name != "per_frame"])
def test_short_clips(name, frames):
    assert built(name)(torch.randn(1, C, frames, dtype=torch.float64)).cin.shape == (1, 8, frames)


def test_a_descriptor_is_the_mean_of_a_frame():
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.allclose(describe(x)[1, 2, 3], x[1, 2, 3].mean())


def test_none_is_no_router():
    assert build_routing("none", C, WIDTHS) is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_routing("locl", C, WIDTHS), "routing='locl' is unknown"),
        (lambda: build_routing("per_frame", C, WIDTHS), "give num_frames"),
        (lambda: build_routing("clip", C, WIDTHS, ratio=2, causal=True), "give their number as window"),
        (lambda: build_routing("attention", C, WIDTHS, causal=True), "attends to the whole clip"),
        (lambda: build_routing("local", C, WIDTHS, ratio=2).init_state(torch.zeros(1, C)), "build it with causal=True"),
        (lambda: RecentMean(0), "a mean over 0 frames is none"),
        (lambda: build_routing("attention", C, WIDTHS, ratio=2, head_dim=3), "head_dim=3 does not divide the 4 hidden"),
        (lambda: build_routing("local", C, WIDTHS, ratio=9), "ratio=9 leaves no hidden channel"),
        (lambda: build_routing("local", C, WIDTHS, kernels=(2, 3)), "2 frames has no centre"),
        (lambda: build_routing("local", C, {"kin": 8}), r"no factor is named \['kin'\]"),
        (lambda: built("local")(torch.randn(1, 9, T)), r"built for descriptors \(B, 8, T\), got \(1, 9, 7\)"),
        (lambda: built("per_frame")(torch.randn(1, C, 4)), "learnt for 7 frames, the clip has 4"),
    ],
)
def test_what_a_router_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()
