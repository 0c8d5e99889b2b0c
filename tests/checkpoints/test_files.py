"""Files: what is read, and what is refused without running anything in it."""

import os
import pickle

import pytest
import safetensors.torch
import torch

import kinema

from other_layouts import network


@pytest.fixture
def trained():
    return network("tsm_nano", seed=1)


def same(model, other):
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("kind", ["safetensors", "torch", "old torch", "with optimiser", "lightning", "a str path"])
def test_kinds_of_files(kind, trained, tmp_path):
    """The suffix is the same for all: the content says what a file is."""
    path = tmp_path / "weights.bin"
    state = trained.state_dict()
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    elif kind == "old torch":
        torch.save({"epoch": 3, "arch": "resnet50", "state_dict": state}, path, _use_new_zipfile_serialization=False)
    elif kind == "with optimiser":
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        torch.save({"model_state": state, "optimizer_state": optimizer.state_dict()}, path)
    elif kind == "lightning":
        held = {f"network.{name}": value for name, value in state.items()}
        torch.save({"state_dict": held, "loops": {}, "hyper_parameters": {"lr": 0.1}, "epoch": 1}, path)
    else:
        torch.save(state, path)
    model = network("tsm_nano", seed=2)
    kinema.load_checkpoint(model, str(path) if kind == "a str path" else path)
    assert same(model, trained)


class Payload:
    """Unpickling one calls os.mkdir: any code could stand there."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("load", [kinema.load_checkpoint, kinema.init_from])
@pytest.mark.parametrize("kind", ["torch", "old torch", "plain pickle"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(load, kind, trained, tmp_path):
    path, trace = tmp_path / "model.pth", tmp_path / "was run"
    content = {"state_dict": trained.state_dict(), "config": Payload(trace)}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(ValueError, match=r"model.pth was refused: reading it would run code .*If you trust the file"):
        load(network("tsm_nano"), path)
    assert not trace.exists()


def test_the_refusal_names_what_was_found_and_does_not_advise_to_run_it(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {}, "config": Payload(tmp_path / "x")}, path)
    with pytest.raises(ValueError, match="was refused") as caught:
        kinema.load_checkpoint(network("tsm_nano"), path)
    assert "mkdir" in str(caught.value)
    assert "weights_only" not in str(caught.value) and "add_safe_globals" not in str(caught.value)


def test_a_whole_pickled_network_is_refused(trained, tmp_path):
    torch.save(trained, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="was refused"):
        kinema.load_checkpoint(network("tsm_nano"), tmp_path / "model.pth")


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_a_file_cut_short_is_refused(kind, share, trained, tmp_path):
    path = tmp_path / "cut"
    if kind == "torch":
        torch.save(trained.state_dict(), path)
    else:
        safetensors.torch.save_file(trained.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"cut.*(is damaged|no readable safetensors|is no checkpoint)"):
        kinema.load_checkpoint(network("tsm_nano"), path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"version https://git-lfs", b"\x00" * 100])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.pth is no checkpoint: it starts with"):
        kinema.load_checkpoint(network("tsm_nano"), path)


@pytest.mark.parametrize("path", ["nowhere.pth", "."])
def test_a_missing_file_is_named(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint file"):
        kinema.load_checkpoint(network("tsm_nano"), tmp_path / path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a dict of tensors"),
        ({}, "holds no tensors"),
        ({"state_dict": {"epoch": 3}}, r"holds no tensors; its entries are \['epoch'\]"),
    ],
)
def test_a_file_without_tensors_is_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=message):
        kinema.load_checkpoint(network("tsm_nano"), tmp_path / "model.pth")


def test_a_network_is_its_state_dict():
    source, target = network("tsm_nano"), network("tsm_nano", seed=1)
    kinema.load_checkpoint(target, source)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_a_run_folder_is_its_last_checkpoint(tmp_path):
    source, target = network("tsm_nano"), network("tsm_nano", seed=1)
    (tmp_path / "checkpoints").mkdir()
    torch.save(
        {"state_dict": {f"network.{k}": v for k, v in source.state_dict().items()}},
        tmp_path / "checkpoints" / "last.ckpt",
    )
    kinema.load_checkpoint(target, tmp_path)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
