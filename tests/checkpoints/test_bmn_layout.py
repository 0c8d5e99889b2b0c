"""Checkpoints of boundary-matching networks: the authors' names, and their sampling matrix."""

import pytest
import torch

import kinema
from kinema.checkpoints.bmn import SAMPLING_MATRIX, to_theirs
from kinema.localization.network import BoundaryMatchingNetwork


def network(**options):
    sizes = {"dim": 8, "dim_collapsed": 8, "dim_map": 4, "num_samples": 4}
    return BoundaryMatchingNetwork(4, 6, 3, **(sizes | options))


def theirs(model):
    matrix = model.matching(torch.eye(model.num_bins)[None]).reshape(model.num_bins, -1)
    return {to_theirs(name): tensor for name, tensor in model.state_dict().items()} | {SAMPLING_MATRIX: matrix}


OPTIONS = {"num_classes": (3, 5), "regression": True}


def test_the_authors_layout_is_loaded_and_the_matrix_dropped(tmp_path):
    ours, other = network(**OPTIONS), network(**OPTIONS)
    tensors = theirs(ours)
    names = {"backbone.conv_layer.2.weight", "head.x_1d_s.2.bias", "head.x_3d_p.0.weight", "head.x_2d_p.6.weight"}
    assert names | {"head.x_2d_r.0.weight", "head.x_2d_verb.6.bias", "head.x_2d_noun.6.bias"} <= set(tensors)
    torch.save({"model_state": tensors}, tmp_path / "bmn.pyth")
    report = kinema.load_checkpoint(other, tmp_path / "bmn.pyth")
    assert "head.sample_mask (6, 72) is dropped" in str(report) and not report.refused and not report.initial
    x = torch.randn(2, 4, 6)
    assert all(torch.equal(a, b) for a, b in zip(ours(x)[:4], other(x)[:4], strict=True))
    assert len(other.state_dict()) == len(tensors) - 1


def test_a_matrix_that_samples_otherwise_is_refused():
    ours = network()
    for changed in ({"context": 0.25}, {"num_points": 1}):
        with pytest.raises(ValueError, match="samples proposals in another way"):
            kinema.load_checkpoint(network(**changed), theirs(ours))
    with pytest.raises(ValueError, match=r"has shape \(6, 72\), the network's would be \(7, 84\)"):
        kinema.load_checkpoint(BoundaryMatchingNetwork(4, 7, 3, num_samples=4), theirs(ours))


def test_strict_unless_one_starts_from_it():
    tensors = theirs(network())
    with pytest.raises(ValueError, match=r"Without a value: classes.0.0.weight \(not in the checkpoint\)"):
        kinema.load_checkpoint(network(num_classes=3), tensors)
    with pytest.raises(ValueError, match=r"Without a place: head.x_2d_r.0.weight"):
        kinema.load_checkpoint(network(), theirs(network(regression=True)))
    model = network(num_classes=3)
    report = kinema.init_from(model, tensors)
    assert all(name.startswith("classes.0.") for name in report.initial) and len(report.initial) == 8
    assert torch.equal(model.state_dict()["base.0.weight"], tensors["backbone.conv_layer.0.weight"])
    wider = network(dim_map=8)
    report = kinema.init_from(wider, tensors)
    assert "confidence.0.weight" in report.initial and "head.x_2d_p.0.weight" in report.refused
    with pytest.raises(ValueError, match="does not hold this boundary-matching network"):
        kinema.init_from(network(), {"fc.weight": torch.zeros(3)})


def test_our_own_layout_is_loaded_too():
    ours, other = network(), network()
    report = kinema.load_checkpoint(other, {f"network.{name}": value for name, value in ours.state_dict().items()})
    assert not report.renamed and not report.initial
    assert torch.equal(other.collapse.weight, ours.collapse.weight)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="give groups=1, or features of 8 channels"):
        BoundaryMatchingNetwork(6, 6, 3)
    with pytest.raises(ValueError, match="leaves nothing that reads"):
        network(base_layers=0)
    with pytest.raises(ValueError, match=r"\(batch, 4, 6\) expected"):
        network()(torch.zeros(1, 4, 5))
