"""Grad-CAM against closed forms, on every kind of network, and without a trace on the network."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import kinema
from kinema.explain.grad_cam import grad_cam, last_layer
from kinema.shapes import ClipTokens, RankedMaps, fold_time

FRAMES, SIDE = 4, 32


@pytest.fixture
def clip():
    return torch.randn(2, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def built(name, **options):
    torch.manual_seed(0)
    network = kinema.create_model(name, 5, FRAMES, **options)
    # Large enough to matter, and so that something speaks for every class.
    nn.init.uniform_(network.head.fc.weight, -0.5, 1)
    return network


def enlarged(heat):
    large = F.interpolate(heat[:, None], size=(FRAMES, SIDE, SIDE), mode="trilinear")[:, 0]
    return large / large.amax(dim=(1, 2, 3), keepdim=True)


class Squares(nn.Module):
    """score[c] = sum over k of head[c, k] mean over places of relu(A[k]) ** 2, the ReLU in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 6, (1, 8, 8), stride=(1, 8, 8))
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 5, bias=False)

    def forward(self, clip):
        return self.head(self.relu(self.conv(clip)).pow(2).mean(dim=(2, 3, 4)))


def test_the_equation_with_a_relu_in_place_behind_the_layer(clip):
    """d score / d A = 2 head relu(A) / n, and its mean over places weighs A as it was before the ReLU."""
    torch.manual_seed(1)
    network = Squares()
    maps = network.conv(clip)
    weights = network.head.weight[2] * maps.relu().mean(dim=(2, 3, 4))
    wanted = enlarged((weights[:, :, None, None, None] * maps).sum(dim=1).relu().detach())
    assert torch.allclose(grad_cam(network, clip, 2, layer="conv"), wanted, atol=1e-5)


def test_behind_a_mean_it_is_the_class_activation_map(clip):
    network = built("tsn_nano").eval()
    with torch.no_grad():
        maps = network.backbone(clip)
    wanted = enlarged(torch.einsum("d,bdthw->bthw", network.head.fc.weight[3], maps).relu().detach())
    assert torch.allclose(grad_cam(network, clip, 3), wanted, atol=1e-5)


def test_frames_that_are_folded_into_the_batch_are_unfolded(clip):
    network = built("tsn_nano")
    assert torch.allclose(
        grad_cam(network, clip, 1, layer="backbone.trunk.layer4"), grad_cam(network, clip, 1), atol=1e-6
    )


def test_frames_keep_their_places(clip):
    """A frame-wise network sees in frame t of the clip what it sees in frame T - 1 - t of the reversed one."""
    network = built("tsn_nano")
    for layer in (None, "backbone.trunk.layer3"):
        heat, other = (grad_cam(network, each, 1, layer=layer) for each in (clip, clip.flip(2)))
        assert torch.allclose(other, heat.flip(1), atol=1e-5)
        assert not torch.allclose(other, heat, atol=1e-2)


class Brightness(nn.Module):
    """Scores the mean brightness of patches of 8 x 8, which its layer gives in one form or another."""

    def __init__(self, form):
        super().__init__()
        self.layer = Patches(form)

    def forward(self, clip):
        given = self.layer(clip)
        if isinstance(given, ClipTokens):
            given = given.patches.flatten(1)
        elif isinstance(given, RankedMaps):
            given = given.maps.flatten(1)
        mean = given.reshape(len(clip), -1).mean(dim=1)
        return torch.stack([mean, -mean], dim=1)


class Patches(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, clip):
        maps = F.avg_pool3d(clip, (1, 8, 8))[:, :1]
        if self.form == "maps":
            return maps
        if self.form == "frames":
            return fold_time(maps)
        if self.form == "ranked":
            return RankedMaps(maps.new_zeros(len(clip), 1, 1), maps, None)
        if self.form == "clip tokens":
            return ClipTokens(maps.new_zeros(len(clip), 1, 1), maps.permute(0, 3, 4, 2, 1))
        tokens = fold_time(maps).flatten(2).transpose(1, 2)
        others = 34 if self.form == "crowded tokens" else 2
        return torch.cat([tokens.new_zeros(len(tokens), others, 1), tokens], dim=1)


@pytest.mark.parametrize("form", ["maps", "frames", "ranked", "clip tokens", "frame tokens"])
def test_every_form_of_maps_is_put_back_where_it_was(form):
    clip = torch.zeros(2, 3, FRAMES, 32, 48)
    clip[0, :, 1, 16:24, 8:16] = 1
    clip[1, :, 3, 0:8, 40:48] = 1
    heat = grad_cam(Brightness(form), clip, 0, layer="layer")
    assert heat.shape == (2, FRAMES, 32, 48)
    assert heat[0, 1, 19, 11] == 1 and heat[1, 3, 2, 45] == 1
    assert heat[0, 3].max() == 0 and heat[1, 1].max() == 0
    assert heat[0, 1, :, 24:].max() == 0 and heat[0, 1, :8].max() == 0


def test_what_speaks_against_a_class_is_cold():
    clip = torch.rand(1, 3, FRAMES, 32, 32)
    assert grad_cam(Brightness("maps"), clip, 1, layer="layer").max() == 0


def test_the_scale_is_one_for_all_frames_of_a_clip():
    clip = torch.ones(1, 3, 2, 32, 32)
    clip[0, :, 1] = 0.5
    heat = grad_cam(Brightness("maps"), clip, 0, layer="layer")
    assert torch.allclose(heat[0, 0], torch.ones(())) and torch.allclose(heat[0, 1], torch.tensor(0.5))


def test_maps_of_fewer_frames_are_spread_over_the_clip():
    network = built("tadaformer_nano", image_size=SIDE)  # its stem halves the frames
    assert grad_cam(network, torch.randn(1, 3, FRAMES, SIDE, SIDE)).shape == (1, FRAMES, SIDE, SIDE)


NETWORKS = [
    ("tsn_nano", {}),
    ("tsm_nano", {}),
    ("tada2d_nano", {}),
    ("tadaconvnext_nano", {}),
    ("tadaconvnextv2_nano", {}),
    ("tadaformer_nano", {"image_size": SIDE}),
    ("timesformer_nano", {"image_size": SIDE}),
    ("timesformer_nano", {"image_size": SIDE, "attention_scheme": "space"}),
    ("timesformer_rotary_nano", {"image_size": SIDE}),
    ("uniformer_nano", {}),
    ("uniformer_nano", {"light": True}),
    ("r3d_nano", {}),
    ("r2plus1d_nano", {}),
    ("slowonly_nano", {}),
    ("slowfast_nano", {}),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_family(name, options, clip):
    network = built(name, **options)
    if name == "slowfast_nano":  # its slow pathway would have one place left
        clip = torch.randn(2, 3, FRAMES, 2 * SIDE, 2 * SIDE)
    heats = torch.stack([grad_cam(network, clip, label) for label in range(5)])
    assert heats.shape == (5, *clip.shape[:1], *clip.shape[2:])
    assert heats.min() >= 0 and heats.max() == 1
    assert heats.std(dim=0).max() > 0.01, "classes look alike"
    assert torch.allclose(grad_cam(network, clip[1:], 2), heats[2, 1:], atol=1e-4), "clips hear of each other"


def test_temporalized_image_networks(clip):
    convolutional = kinema.temporalize(timm.create_model("resnet10t", num_classes=5), "tsm", num_frames=FRAMES)
    assert last_layer(convolutional) == "model.layer4"
    assert grad_cam(convolutional, clip).shape == (2, FRAMES, SIDE, SIDE)


def test_without_classes_the_best_guess_is_explained(clip):
    network = built("tsm_nano").eval()
    best = network(clip).argmax(dim=1)
    assert torch.equal(grad_cam(network, clip), grad_cam(network, clip, best))
    other = (best + 1) % 5
    assert not torch.allclose(grad_cam(network, clip), grad_cam(network, clip, other), atol=1e-2)


def test_the_network_is_left_as_it_was(clip):
    network = built("tsm_nano").train()
    frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clip.requires_grad_()
    heat = grad_cam(network, clip, 1)
    assert not heat.requires_grad and clip.grad is None
    assert network.training and not frozen.training
    assert sum(not module.training for module in network.modules()) == 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    # Also when it fails.
    with pytest.raises(ValueError, match="beyond the 5"):
        grad_cam(network, clip, 5)
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_frozen_networks_and_callers_without_gradients(clip):
    network = built("tsm_nano")
    wanted = grad_cam(network, clip, 1)
    with torch.no_grad():
        assert torch.equal(grad_cam(network, clip, 1), wanted)
    with torch.inference_mode():
        assert torch.equal(grad_cam(network, clip + 0, 1), wanted)
    assert torch.allclose(grad_cam(network.requires_grad_(False), clip, 1), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["timesformer_nano", "tadaformer_nano"])
def test_patches_behind_the_last_block_have_no_say(name, clip):
    network = built(name, image_size=SIDE)
    blocks = "backbone.blocks" if name == "timesformer_nano" else "backbone.trunk.blocks"
    last = len(network.get_submodule(blocks)) - 1
    assert last_layer(network) == f"{blocks}.{last - 1}"
    with pytest.raises(ValueError, match="does not depend on the places"):
        grad_cam(network, clip, layer=f"{blocks}.{last}")


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 3, 1)

    def forward(self, clip):
        return self.conv(self.conv(clip)).mean(dim=(2, 3, 4))


def test_what_cannot_be_explained_is_refused(clip):
    network = built("tsn_nano")
    with pytest.raises(ValueError, match="no layer 'layer9'"):
        grad_cam(network, clip, layer="layer9")
    with pytest.raises(ValueError, match="called 2 times in one forward pass"):
        grad_cam(Twice(), clip, layer="conv")
    with pytest.raises(ValueError, match="called 0 times"):
        grad_cam(built("slowfast_nano"), clip, layer="backbone.slow")
    with pytest.raises(ValueError, match=r"gives \(2, 4, 5\) for 2 clips"):
        grad_cam(network, clip, layer="head.fc")  # (B, T, K): no tokens of frames
    with pytest.raises(ValueError, match="50 tokens for a frame of 32 x 32 pixels, which are no grid"):
        grad_cam(Brightness("crowded tokens"), clip, layer="layer")
    with pytest.raises(ValueError, match="does not name a class for each of 2 clips"):
        grad_cam(network, clip, torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"classes=\[-1, -1\] names a class beyond"):
        grad_cam(network, clip, -1)
    with pytest.raises(ValueError, match="explain one classifier at a time"):
        grad_cam(kinema.create_model("tsn_nano", (3, 4)), clip)
    with pytest.raises(ValueError, match="expected a clip"):
        grad_cam(network, clip[0])
    with pytest.raises(ValueError, match=r"give its \.network"):
        last_layer(nn.ModuleDict({"network": network}))
    with pytest.raises(ValueError, match="a transformer of one block"):
        last_layer(built("timesformer_nano", depth=1))
    with pytest.raises(ValueError, match="does not say what its stages are"):
        last_layer(_unknown_image_network())


def _unknown_image_network():
    network = kinema.temporalize(timm.create_model("resnet10t", num_classes=5), "tsm", num_frames=FRAMES)
    network.model.feature_info = None
    return network
