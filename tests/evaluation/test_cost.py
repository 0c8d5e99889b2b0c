"""Multiply-adds against counts made by hand."""

import pytest
import torch
from torch import nn

import kinema
from kinema.evaluation.cost import profile


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(3, 8, kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(8)
        self.grouped = nn.Conv3d(8, 8, kernel_size=(3, 1, 1), padding=(1, 0, 0), groups=4)
        self.fc = nn.Linear(8, 5)

    def forward(self, clip):
        return self.fc(self.grouped(self.norm(self.stem(clip))).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_small_network_by_hand(batch):
    """Positions of the output x channels of the output x weights that each sees."""
    positions = 4 * 16 * 12
    stem = positions * 8 * (3 * 3 * 3)
    grouped = positions * 8 * (2 * 3)
    fc = 8 * 5
    cost = profile(Small(), (batch, 3, 4, 32, 24))
    assert cost.macs == batch * (stem + grouped + fc)
    assert cost.params == 3 * 9 * 8 + 2 * 8 + (2 * 3 * 8 + 8) + (8 * 5 + 5)


def test_resnet18_by_hand():
    """Frame-wise, so eight times the count of the image network, and the classifier once per frame."""
    stem = 112**2 * 64 * 3 * 49
    stages = 0
    for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        first_input = 64 if channels == 64 else channels // 2
        stages += size**2 * channels * 9 * (first_input + 3 * channels)
        stages += size**2 * channels * first_input if channels > 64 else 0
    cost = profile(kinema.create_model("tsn_r18", num_classes=400))
    assert cost.macs == 8 * (stem + stages + 512 * 400)


@pytest.mark.parametrize("name", kinema.list_models())
def test_stages_add_up(name):
    size = 70 if name == "tadaformer_l14" else 64  # whole patches of 14
    with torch.device("meta"):
        model = kinema.create_model(name)
    cost = profile(model, (2, 3, 8, size, size))
    assert sum(stage.macs for stage in cost.stages) == cost.macs
    assert sum(stage.params for stage in cost.stages) == cost.params
    assert len(cost.stages) >= 6
    assert all(stage.macs < 0.75 * cost.macs for stage in cost.stages)


def test_a_shift_costs_no_multiplication():
    shape = (1, 3, 8, 64, 64)
    assert profile(kinema.create_model("tsm_nano"), shape).macs == profile(kinema.create_model("tsn_nano"), shape).macs


def test_the_model_is_left_as_it_was():
    model = kinema.create_model("tsm_nano").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    profile(model, (1, 3, 8, 64, 64))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_shows_every_stage_and_the_total():
    cost = profile(kinema.create_model("tsm_nano", num_classes=12), (1, 3, 8, 64, 64))
    lines = str(cost).splitlines()
    assert lines[0].split() == ["stage", "params", "MMACs", "output"]
    assert [line.split()[0] for line in lines[1:-1]] == [stage.name for stage in cost.stages]
    assert lines[-1].split() == ["total", f"{cost.params:,}", f"{cost.macs / 1e6:,.1f}"]


@pytest.mark.parametrize("shape", [(3, 8, 224, 224), (1, 3, 0, 224, 224)])
def test_a_shape_that_is_no_clip_is_refused(shape):
    with pytest.raises(ValueError, match=r"is no \(B, C, T, H, W\) of positive sizes"):
        profile(kinema.create_model("tsm_nano"), shape)
