"""A yardstick that computes something else measures nothing."""

import pytest
import torch

from kinema.benchmarks.depthwise_forms import depthwise_forms


@pytest.mark.parametrize("frames", [1, 3, 6])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_all_forms_compute_the_same(size, frames):
    torch.manual_seed(0)
    forms = depthwise_forms(4, size)
    x = torch.randn(2, 4, frames, 5, 6, dtype=torch.float64)
    results = [form.double()(x) for form in forms.values()]
    assert list(forms) == ["conv3d", "channels_last", "conv2d", "kinema"]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])
