"""UniFormer's checkpoints: its authors', mmaction2's, those of images; what a file is called when it does not fit."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import kinema
from kinema.checkpoints import uniformer
from kinema.checkpoints.class_order import kinetics400_of_uniformer, reorder_classes, sort_classes

LIGHT = {"light": True, "class_head": True}
VARIANTS = [{}, {"split": True}, {"std": True}, {"layer_scale": 0.1, "dpe": False}, {"stage_types": "GLGL"}, LIGHT]


def network(seed=0, num_classes=5, name="uniformer_nano", **options):
    torch.manual_seed(seed)
    model = kinema.create_model(name, num_classes, **options)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.01, 0.1)
    return model


def authors(model):
    """A state dict as the authors' code has it."""
    names = {"head.fc.": "head.", "head_cls.fc.": "head_cls."}
    renamed = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        renamed[name.removeprefix("backbone.")] = value
    return renamed


def mmaction2(model):
    return {
        name.replace("head.fc.", "cls_head.fc_cls.") if name.startswith("head.fc.") else name: value
        for name, value in model.state_dict().items()
    }


def image(model):
    """What an image network of the same sizes has: kernels of two dimensions, each the sum over time."""
    flat = {}
    for name, value in authors(model).items():
        flat[name] = value.sum(dim=2) if value.ndim == 5 and not name.endswith(("gamma_1", "gamma_2")) else value
    return flat


LAYOUTS = {
    "bare": authors,
    "model": lambda model: {"model": authors(model)},
    "model_state": lambda model: {"epoch": 3, "model_state": authors(model)},
    "mmaction2": lambda model: {"state_dict": mmaction2(model), "meta": {}},
    "own": lambda model: model.state_dict(),
}


CASES = [(layout, options) for layout in LAYOUTS for options in VARIANTS if (layout, options) != ("mmaction2", LIGHT)]


@pytest.mark.parametrize(("layout", "options"), CASES, ids=str)
def test_every_tensor_finds_its_place(layout, options):
    source, target = network(1, **options), network(2, **options)
    report = kinema.load_checkpoint(target, LAYOUTS[layout](source))
    assert len(report.loaded) == len(source.state_dict())
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
    origin = {"mmaction2": "mmaction2", "own": "kinema"}.get(layout, "the UniFormer authors' code")
    assert report.source.startswith(f"{origin}: UniFormer of (1, 1, 2, 1) blocks, (16, 32, 64, 64) channels wide with ")


def test_names_and_shapes_are_those_of_the_authors():
    """As written down from their state dicts; those of S and B by the parity tests."""
    shapes = {name: tuple(value.shape) for name, value in authors(network(**LIGHT)).items()}
    wanted = {
        "patch_embed1.proj.0.weight": (8, 3, 3, 3, 3),
        "patch_embed1.proj.1.running_mean": (8,),
        "patch_embed1.proj.3.weight": (16, 8, 3, 3, 3),
        "patch_embed1.proj.4.weight": (16,),
        "patch_embed2.proj.weight": (32, 16, 1, 2, 2),
        "patch_embed2.norm.weight": (32,),
        "cls_token": (1, 1, 64),
        "cls_upsample.weight": (64, 64),
        "norm_cls.weight": (64,),
        "head_cls.weight": (5, 64),
        "head.bias": (5,),
        "blocks1.0.mlp.fc1.weight": (48, 16, 1, 1, 1),
        "blocks3.1.attn.qkv.weight": (192, 64),
    }
    assert {name: shapes[name] for name in wanted} == wanted


def test_a_file_of_another_network_is_refused_by_name():
    with torch.device("meta"):
        large = kinema.create_model("uniformer_b", 5)
    small = kinema.create_model("uniformer_s", 5)
    tensors = {name: torch.empty(value.shape) for name, value in authors(large).items()}
    with pytest.raises(
        ValueError, match=r"holds UniFormer-B with .*; the model is UniFormer-S with 11 global relations"
    ):
        kinema.load_checkpoint(small, tensors)
    with pytest.raises(ValueError, match=r"holds UniFormer-B .*; the model is UniFormer-S"):
        kinema.init_from(small, tensors)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({"split": True}, {}, r"holds .* 3 divided relations, .*; the model is .* 3 global relations"),
        ({}, {"std": True}, r"embedding over 3 frames in .*patch_embed2.* of the model alone"),
        ({"tube_size": 3}, {}, "local relation over 3 x 3 x 3 in .* of the checkpoint alone"),
        ({"dpe": False}, {}, "position embedding in .* of the model alone"),
        ({}, {"layer_scale": 1.0}, "layer scale in .* of the model alone"),
        ({"representation_size": 8}, {}, "representation of 8 channels in .* of the checkpoint alone"),
        (LIGHT, {"light": True}, "classifier on the class token in .* of the checkpoint alone"),
        ({"light": True, "mlp_ratio": 4}, {}, "class token in .* of the checkpoint alone"),
        ({"num_classes": 7}, {}, "Build it with num_classes=7"),
    ],
)
def test_a_file_of_another_variant_is_refused_by_name(theirs, ours, message):
    with pytest.raises(ValueError, match=message):
        kinema.load_checkpoint(network(1, **ours), authors(network(2, **theirs)))


def test_an_image_network_is_no_video_network():
    with pytest.raises(ValueError, match="the tensors do not match"):
        kinema.load_checkpoint(network(1), image(network(2)))


@pytest.mark.parametrize("options", [{}, {"std": True}, {"light": True}], ids=str)
@pytest.mark.parametrize("inflation", ["mean", "centre"])
def test_an_image_network_is_inflated(inflation, options):
    source, target = network(2, **options), network(1, num_classes=7, **options)
    tensors = image(source)
    report = kinema.init_from(target, tensors, inflation=inflation)
    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight"]
    kernels = {name for name, value in target.state_dict().items() if value.ndim == 5 and value.shape[2] > 1}
    assert set(report.inflated) == kernels and len(kernels) >= 8
    state = target.state_dict()
    for name in kernels:
        kernel = state[name]
        torch.testing.assert_close(kernel.sum(dim=2), tensors[name.removeprefix("backbone.")])
        if inflation == "mean":
            assert all(torch.equal(tap, kernel[:, :, 0]) for tap in kernel.unbind(2))
        else:
            middle = kernel.shape[2] // 2
            assert not kernel[:, :, :middle].any() and not kernel[:, :, middle + 1 :].any()


def test_a_clip_of_one_channel_starts_from_the_mean_over_three():
    target, tensors = network(1, in_channels=1), image(network(2))
    kinema.init_from(target, tensors)
    kernel = target.state_dict()["backbone.patch_embed1.proj.weight"]
    torch.testing.assert_close(kernel.sum(dim=2), tensors["patch_embed1.proj.weight"].mean(dim=1, keepdim=True))
    assert all(torch.equal(tap, kernel[:, :, 0]) for tap in kernel.unbind(2))


@pytest.mark.parametrize("inflation", ["mean", "centre"])
def test_equal_frames_are_embedded_as_one_image(inflation):
    target = network(1)
    tensors = image(network(2))
    kinema.init_from(target, tensors, inflation=inflation)
    frame = torch.randn(1, 3, 32, 32)
    wanted = F.conv2d(frame, tensors["patch_embed1.proj.weight"], tensors["patch_embed1.proj.bias"], stride=4)
    embedded = target.backbone.patch_embed1.proj(frame[:, :, None].expand(-1, -1, 9, -1, -1))
    inner = embedded[:, :, 1:-1]  # zeros stand outside of the first and the last frame
    torch.testing.assert_close(inner, wanted[:, :, None].expand_as(inner))


def test_a_third_way_of_inflation_does_not_exist():
    with pytest.raises(ValueError, match="inflation='median' is unknown; give one of mean, centre"):
        kinema.init_from(network(1), image(network(2)), inflation="median")


def test_image_weights_of_layer_scale_are_left_over_and_listed():
    """The authors advise to take those without (issue 12 of their repository)."""
    report = kinema.init_from(network(1), image(network(2, layer_scale=0.1)))
    assert {name.rpartition(".")[2] for name in report.refused} == {"gamma_1", "gamma_2"}


def test_kinema_s_own_weights_are_not_mistaken_for_mmaction2_s():
    target = network(1, split=True)  # which has names that the weights lack
    report = kinema.init_from(target, network(2).state_dict())
    assert report.source.startswith("kinema: ")
    assert report.initial and all(".t_attn." in name or ".t_norm." in name for name in report.initial)
    report = kinema.init_from(network(1), mmaction2(network(2, num_classes=7)))
    assert report.source.startswith("mmaction2: ")


def test_video_weights_start_another_data_set():
    target = network(1, num_classes=7, **LIGHT)
    report = kinema.init_from(target, authors(network(2, **LIGHT)))
    assert sorted(report.initial) == ["head.fc.bias", "head.fc.weight", "head_cls.fc.bias", "head_cls.fc.weight"]


@pytest.mark.parametrize(
    ("layout", "num_classes", "words"),
    [
        ("bare", 400, "an order of their own"),
        ("bare", 174, r"Normalisation\(bgr=True\)"),
        ("bare", 5, None),
        ("mmaction2", 400, None),
        ("own", 400, None),
    ],
)
def test_the_report_tells_of_class_order_and_of_bgr(layout, num_classes, words):
    report = kinema.load_checkpoint(network(1, num_classes), LAYOUTS[layout](network(2, num_classes)))
    if words is None:
        assert not report.notes
    else:
        (note,) = report.notes
        assert words.replace("\\", "") in note and note in str(report)


def test_the_note_on_class_order_names_what_there_is():
    note = uniformer.CLASS_ORDER
    assert f"{sort_classes.__module__}.{sort_classes.__name__}" in note and kinetics400_of_uniformer.__name__ in note


def test_classes_come_into_the_order_of_their_names():
    names = kinetics400_of_uniformer()
    assert len(set(names)) == 400 and names[:3] == ["riding a bike", "marching", "dodgeball"]
    model = network(1, 400, **LIGHT)
    before = {head: getattr(model, head).fc.weight.clone() for head in ("head", "head_cls")}
    wanted = sort_classes(model, names)
    assert wanted[:3] == ["abseiling", "air drumming", "answering questions"] and wanted[-1] == "zumba"
    for head, weight in before.items():
        assert torch.equal(getattr(model, head).fc.weight[wanted.index("yoga")], weight[names.index("yoga")])
    reorder_classes(model, wanted, names)
    for head, weight in before.items():
        assert torch.equal(getattr(model, head).fc.weight, weight)


def test_biases_go_with_their_classes():
    model = network(1, 3)
    with torch.no_grad():
        model.head.fc.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    sort_classes(model, ["cat", "ant", "bee"])
    assert model.head.fc.bias.tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("num_classes", "names", "wanted", "message"),
    [
        (3, ["a", "b", "c"], ["a", "b", "d"], r"not the same names once each \(only in one: \['c', 'd'\]\)"),
        (3, ["a", "a", "c"], ["a", "a", "c"], "not the same names once each"),
        (3, ["a", "b"], ["b", "a"], "2 names were given for 3 classes"),
        ((3, 4), ["a", "b", "c"], ["c", "b", "a"], r"3 names were given for \[3, 4\] classes"),
    ],
)
def test_an_order_that_fits_no_classifier_is_refused(num_classes, names, wanted, message):
    with pytest.raises(ValueError, match=message):
        reorder_classes(network(1, num_classes), names, wanted)
