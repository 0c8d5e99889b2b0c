"""What is measured as an operator over time must be one, and cost what it says."""

import pytest
import torch

from kinema import profile
from kinema.benchmarks.operator_forms import operator_forms

NAMES = ["frame_wise", "shift", "tadaconv", "tadaconv_v2", "depthwise_3x1x1", "2+1d", "3d", "non_local"]


@pytest.mark.parametrize("name", NAMES)
def test_all_but_the_first_let_frames_hear_one_another(name):
    torch.manual_seed(0)
    form = operator_forms(32)[name].double().eval()
    for parameter in form.parameters():
        torch.nn.init.normal_(parameter)
    clip = torch.randn(1, 32, 5, 6, 6, dtype=torch.float64)
    other = clip.clone()
    other[:, :, 2] += torch.randn(32, 6, 6, dtype=torch.float64)
    changed = (form(clip) - form(other)).abs().amax(dim=(0, 1, 3, 4)) > 1e-9
    assert changed[2]
    assert bool(changed[[0, 1, 3, 4]].any()) == (name != "frame_wise")


def test_costs_are_those_of_the_definitions():
    channels, shape = 16, (1, 16, 4, 6, 6)
    costs = {name: profile(form, shape) for name, form in operator_forms(channels).items()}
    kernel, places = channels**2 * 9, 4 * 6 * 6
    assert list(costs) == NAMES
    assert (costs["frame_wise"].params, costs["frame_wise"].macs) == (kernel, kernel * places)
    assert (costs["shift"].params, costs["shift"].macs) == (kernel, kernel * places)
    assert costs["3d"].params == 3 * kernel and costs["3d"].macs == 3 * kernel * places
    assert costs["2+1d"].params == kernel + 3 * channels**2
    assert costs["depthwise_3x1x1"].params == kernel + 3 * channels
    assert kernel * places < costs["tadaconv"].macs < 1.1 * kernel * places
