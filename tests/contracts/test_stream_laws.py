"""The law of streams: the mean of the logits of T steps is forward on T frames, for every causal network and every T."""

import pytest
import torch
import yaml
from torch import nn

import kinema
from kinema.models import MODELS, list_options
from kinema.testing import assert_network_streams

from conftest import REPOSITORY

COSTLY = {"tsm_r50", "tsm_r101", "tada2d_r50", "timesformer_base", "timesformer_hr", "timesformer_large"}
"""Networks of which a stage keeps two blocks: each is still of every kind."""
CAUSAL = [
    pytest.param(name, {}, marks=pytest.mark.slow) if name in COSTLY else (name, {})
    for name in MODELS
    if "causal" in list_options(name)
]
"""Every network that has a causal form, by the registry, and variants."""
CAUSAL += [
    ("tsm_nano", {"placement": "in_place", "shift_fraction": 1.0}),
    ("tsm_nano", {"num_classes": (3, 4), "in_channels": 2}),
    ("tada2d_nano", {"routing": "causal"}),
    ("tada2d_nano", {"routing": "local", "routing_kernels": (5, 2), "aggregation": "max", "aggregation_kernel": 4}),
    ("tada2d_nano", {"routing": "global", "aggregation": "avg+max", "calibration": "cin+cout"}),
    ("tada2d_nano", {"routing": "local_global_ln", "aggregation_norm": "shared", "calibration": "kernel"}),
    ("tada2d_nano", {"routing": "clip", "aggregation": "none", "calibrated_fraction": 0.5}),
    ("tada2d_nano", {"routing": "linear", "calibrated_stages": (2, 4), "num_classes": (3, 4)}),
    ("tada2d_nano", {"routing": "static"}),
    ("tada2d_nano", {"routing": "none"}),
    ("timesformer_nano", {"attention_order": "reversed", "position": "space"}),
    ("timesformer_nano", {"attention_order": "parallel", "num_classes": (3, 4), "qk_scale": 0.7}),
]
FRAME_WISE = [("tsn_nano", {}), ("tsn_mobilenetv2", {}), ("tsm_nano", {"shift_fraction": 0, "causal": True})]
ONE_FRAME = [("tada2d_nano", {"routing": "static", "aggregation_kernel": 1}), ("timesformer_nano", {"num_frames": 1})]
WINDOW = 3
TRAINED = {"TSM": "tsm", "TAda2D": "tada2d"}
"""Classes of training to their networks, for the configurations of experiments/causal."""


def ids(value):
    return value if isinstance(value, str) else " ".join(f"{key}={value[key]}" for key in value) or "as named"


def build(name, *, shallow=False, **options):
    """Nothing at a value that keeps the law idly: gates and routers away from zero, norms with statistics of their own."""
    torch.manual_seed(0)
    model = kinema.create_model(name, **{"num_classes": 5, "num_frames": WINDOW, **options}).eval()
    if name in COSTLY and shallow:
        parts = model.backbone if name.startswith("timesformer") else model.backbone.trunk
        for stage in ("blocks",) if name.startswith("timesformer") else ("layer1", "layer2", "layer3", "layer4"):
            setattr(parts, stage, getattr(parts, stage)[:2])
    for key, parameter in model.named_parameters():
        if key.startswith("head."):
            nn.init.normal_(parameter)
        elif parameter.abs().max() < 1e-5:
            nn.init.normal_(parameter, std=0.05)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def window_of(name, options):
    """Frames that the output at one frame may see in one operator: until more have come, no state has slid."""
    if name.startswith("tada2d"):
        routers = options.get("routing_kernels", (3, 3))
        return sum(routers) - 1 + options.get("aggregation_kernel", 3) - 1
    return options.get("num_frames", WINDOW) if name.startswith("timesformer") else 2


def clip_for(model, batch=2, frames=WINDOW + 2, size=(32, 48)):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, model.backbone.in_channels, frames, *size, generator=generator)


@pytest.mark.parametrize(("name", "options"), [*CAUSAL, *ONE_FRAME], ids=ids)
def test_steps_are_the_network_on_clips_of_any_length(name, options):
    model = build(name, shallow=True, causal=True, **options)
    frames = window_of(name, options) + 1
    clip = clip_for(
        model, **({"batch": 1, "frames": frames} if name in COSTLY else {"frames": max(frames, WINDOW + 2)})
    )
    assert_network_streams(model, clip)


def test_every_network_with_a_causal_form_is_held_to_the_law():
    tested = {getattr(each, "values", each)[0] for each in CAUSAL}
    assert tested == {name for name in MODELS if "causal" in list_options(name)} and len(tested) >= 11
    families = {name.partition("_")[0] for name in tested}
    quick = {each[0].partition("_")[0] for each in CAUSAL if isinstance(each, tuple) and not hasattr(each, "values")}
    assert families == quick, "one of each family is tested within seconds"


def trained_options(file):
    """Network and options of a configuration of training."""
    model = yaml.safe_load(file.read_text())["model"]
    given = dict(model["init_args"])
    name = f"{TRAINED[model['class_path'].rpartition('.')[2]]}_{given.pop('backbone')}"
    return name, {option: value for option, value in given.items() if option in list_options(name)}


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "experiments" / "causal").glob("*.yaml")), ids=lambda file: file.stem
)
def test_the_networks_of_the_experiment_stream_beyond_their_windows(file):
    """Of routers over 7 frames the state holds 6: it slides behind more frames than the clips of training have."""
    name, options = trained_options(file)
    assert options.pop("causal") is True
    frames = max(window_of(name, options) + 1, 8 + 2)
    assert frames >= 16 or "routing_kernels" not in options
    model = build(name, causal=True, **options)
    assert_network_streams(model, clip_for(model, batch=1, frames=frames, size=(32, 32)))


@pytest.mark.parametrize(("name", "options"), FRAME_WISE, ids=ids)
def test_a_frame_wise_network_streams_without_a_state(name, options):
    model = build(name, **options)
    assert model.init_state(2, 32) == {}
    assert_network_streams(model, clip_for(model))


@pytest.mark.parametrize(("name", "options"), CAUSAL, ids=ids)
def test_the_past_matters(name, options):
    """Otherwise the law would hold for a network that is only frame-wise."""
    model = build(name, shallow=True, causal=True, **options)
    clip = clip_for(model, batch=1, frames=2)
    with torch.no_grad():
        fresh = model.init_state(1, (32, 48))
        _, state = model.step(clip[:, :, 0], fresh)
        alone, after = (model.step(clip[:, :, 1], before)[0] for before in (fresh, state))
    alone, after = (torch.cat(part, 1) if isinstance(part, tuple) else part for part in (alone, after))
    assert (after - alone).norm() > 1e-5 * alone.norm()


@pytest.mark.parametrize("name", ["tsm_nano", "tada2d_nano", "timesformer_nano"])
def test_zeroed_rows_start_one_stream_anew(name):
    model = build(name, causal=True, **({"aggregation": "avg+max"} if name == "tada2d_nano" else {})).double()
    clip = clip_for(model).double()
    with torch.no_grad():
        state = model.init_state(2, (32, 48))
        for t in range(4):
            _, state = model.step(clip[:, :, t], state)
        for tensor in state.values():
            tensor[1] = 0
        logits, _ = model.step(clip[:, :, 4], state)
        fresh, _ = model.step(clip[1:, :, 4], model.init_state(1, (32, 48)))
        gone_on = model(clip[:1, :, :5]) * 5 - model(clip[:1, :, :4]) * 4
    torch.testing.assert_close(logits[1:], fresh)
    torch.testing.assert_close(logits[:1], gone_on)


@pytest.mark.parametrize("name", ["tsm_nano", "tada2d_nano", "timesformer_nano"])
def test_a_state_is_flat_zeros_and_survives_a_file(name, tmp_path):
    model = build(name, causal=True)
    clip = clip_for(model)
    state = model.init_state(2, (32, 48))
    assert all(isinstance(tensor, torch.Tensor) and not tensor.any() for tensor in state.values())
    assert all(tensor.shape[0] == 2 and not tensor.requires_grad for tensor in state.values())
    with torch.no_grad():
        _, state = model.step(clip[:, :, 0], state)
        torch.save({name: tensor.detach().clone() for name, tensor in state.items()}, tmp_path / "state.pt")
        read = torch.load(tmp_path / "state.pt", weights_only=True)
        assert torch.equal(model.step(clip[:, :, 1], read)[0], model.step(clip[:, :, 1], state)[0])


@pytest.mark.parametrize(("name", "count", "numbers"), [("tsm_mobilenetv2", 10, 27_048), ("tsm_r50", 16, 702_464)])
def test_the_state_of_tsm_is_as_large_as_the_authors_caches(name, count, numbers):
    state = build(name, causal=True).init_state(1, 224)
    assert len(state) == count and sum(tensor.numel() for tensor in state.values()) == numbers
    if count == 10:
        sizes = [3 * 56**2, *[4 * 28**2] * 2, *[8 * 14**2] * 3, *[12 * 14**2] * 2, *[20 * 7**2] * 2]
        assert [tensor.numel() for tensor in state.values()] == sizes


@pytest.mark.parametrize("name", ["tsm_nano", "tada2d_nano", "timesformer_nano"])
def test_gradients_flow_through_steps_as_through_the_clip(name):
    model = build(name, causal=True).double()
    clip = clip_for(model, batch=1, frames=4).double().requires_grad_()
    wanted = torch.autograd.grad(model(clip).square().sum(), clip)[0]
    state, logits = model.init_state(1, (32, 48)), []
    for t in range(4):
        now, state = model.step(clip[:, :, t], state)
        logits.append(now)
    got = torch.autograd.grad(torch.stack(logits).mean(0).square().sum(), clip)[0]
    torch.testing.assert_close(got, wanted)


class Stepping(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, frame, state):
        return self.model.step(frame, state)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("tada2d_nano", "timesformer_nano")] + ["tsm_nano"],
)
def test_a_step_exports_with_its_state_as_inputs_and_outputs(name):
    model = build(name, causal=True)
    clip, state = clip_for(model, batch=3), model.init_state(2, (32, 48))
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = ({0: batch}, {key: {0: batch} for key in state})
    exported = torch.export.export(Stepping(model), (clip[:2, :, 0], state), dynamic_shapes=shapes).module()
    state = other = model.init_state(3, (32, 48))
    with torch.no_grad():
        for t in range(3):
            logits, state = model.step(clip[:, :, t], state)
            again, other = exported(clip[:, :, t], other)
            torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)
    assert list(other) == list(state)


TWO_WAY = [(name, {}) for name in MODELS if name.endswith("_nano") and name != "tsn_nano"]
TWO_WAY += [
    ("tsn_nano", {"non_local": "gaussian"}),
    ("tsn_nano", {"temporal_pool": True}),
    ("tsn_nano", {"mixer": "temporal_conv"}),
    ("tada2d_nano", {"routing": "none"}),
    ("tada2d_nano", {"routing": "causal"}),
    ("timesformer_nano", {"attention_scheme": "space"}),
]


@pytest.mark.parametrize(("name", "options"), TWO_WAY, ids=ids)
def test_a_two_way_network_says_why_it_does_not_stream(name, options):
    model = kinema.create_model(name, 5, **options).eval()
    with pytest.raises(ValueError, match=r"(?s)stream.*causal=True|causal=True.*stream"):
        model.init_state(1, 64)


@pytest.mark.parametrize("name", ["tsm_nano", "tada2d_nano", "timesformer_nano"])
def test_what_a_stream_refuses(name):
    model = build(name, causal=True)
    state = model.init_state(2, 32)
    with pytest.raises(ValueError, match=r"stream began with frames of 32 x 32 pixels and this one has 32 x 48"):
        model.step(torch.randn(2, 3, 32, 48), state)
    with pytest.raises(ValueError, match=r"state is of 2 streams and 3 frames came"):
        model.step(torch.randn(3, 3, 32, 32), state)
    with pytest.raises(ValueError, match=r"one frame of each stream.*got torch.float32 of shape \(2, 3, 1, 32, 32\)"):
        model.step(torch.randn(2, 3, 1, 32, 32), state)
    with pytest.raises(ValueError, match=r"floating-point and normalised, .* got torch.uint8"):
        model.step(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), state)
    with pytest.raises(ValueError, match=r"state is of another network: \["):
        model.step(torch.randn(2, 3, 32, 32), {})
    with pytest.raises(ValueError, match="batch=0, size="):
        model.init_state(0, 32)
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        model.train().init_state(1, 32)
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        model.step(torch.randn(2, 3, 32, 32), state)


def test_a_state_from_elsewhere_is_checked_too():
    """The network never saw frames of this size itself, as after loading a state."""
    state = build("tsm_nano", causal=True).init_state(1, 64)
    with pytest.raises(ValueError, match=r"frames of another size \(.*mixer.state is \(2, 16, 16\), not \(2, 8, 8\)\)"):
        build("tsm_nano", causal=True).step(torch.randn(1, 3, 32, 32), state)


def test_a_refused_frame_leaves_the_network_for_clips():
    """What passes through a hole is told by the backbone, also after an error on the way."""
    model = build("tsm_nano", causal=True)
    state = model.init_state(1, 32)
    model.backbone.trunk.layer3[0].conv1.conv.register_forward_pre_hook(lambda module, inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.step(torch.randn(1, 3, 32, 32), state)
    assert not model.backbone.trunk.layer1[0].conv1.mixer.on_stream


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tada2d_nano", {"non_local": "gaussian"}, "non_local='gaussian' reads the future"),
        ("tada2d_nano", {"routing": "attention"}, "attends to the whole clip"),
        ("tada2d_nano", {"routing": "per_frame"}, "has a factor for each place of a clip"),
        (
            "timesformer_nano",
            {"attention_scheme": "joint"},
            "attention_scheme='joint' has no causal form; give 'divided'",
        ),
        ("timesformer_nano", {"class_everywhere": True}, "class_everywhere=True reads the future"),
    ],
)
def test_what_no_causal_network_can_have(name, options, message):
    with pytest.raises(ValueError, match=message):
        kinema.create_model(name, 5, causal=True, **options)


class Forgets(nn.Module):
    """A network made wrong in one way."""

    def __init__(self, fault):
        super().__init__()
        self.model, self.fault = build("tada2d_nano", causal=True, routing="local"), fault

    def forward(self, clip):
        return self.model(clip)

    def init_state(self, batch, size):
        return self.model.init_state(batch, size)

    def step(self, frame, state):
        return self.fault(self.model, frame, state)


def writes_in_place(model, frame, state):
    logits, after = model.step(frame, state)
    for name, tensor in state.items():
        tensor.copy_(after[name])
    return logits, state


FAULTS = {
    "forgets": (lambda model, frame, state: (model.step(frame, state)[0], state), "the mean of 2 steps differs"),
    "starts with a frame": (
        lambda model, frame, state: model.step(
            frame, state if any(t.any() for t in state.values()) else model.step(frame, state)[1]
        ),
        "the mean of 1 steps differs",
    ),
    "writes in place": (writes_in_place, "step 0 changes the state that it was given"),
    "loses a name": (
        lambda model, frame, state: (model.step(frame, state)[0], dict(list(model.step(frame, state)[1].items())[1:])),
        "step 0 gives a state of other names",
    ),
    "in single precision": (
        lambda model, frame, state: (model.step(frame, state)[0].float().double(), model.step(frame, state)[1]),
        "the mean of 1 steps differs",
    ),
    "by chance": (
        lambda model, frame, state: (model.step(frame, state)[0] + torch.rand(()), model.step(frame, state)[1]),
        "step 0 gives other logits when taken again",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_law_is_seen_broken(fault):
    broken, message = FAULTS[fault]
    model = Forgets(broken)
    with pytest.raises(AssertionError, match=message):
        assert_network_streams(model, clip_for(model.model))
