"""`kinema convert`: there and back again, without losing a bit."""

import pytest
import torch

import kinema
from kinema.checkpoints.tadaconv import to_ours, to_theirs
from kinema.cli import main

OPTIONS = ["--model", "tada2d_r50", "--num-classes", "5"]


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = kinema.create_model("tada2d_r50", 5)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value))
    return network


def test_there_and_back_is_exact(network, tmp_path, capsys):
    first, second, third = tmp_path / "a.pth", tmp_path / "b.pyth", tmp_path / "c.safetensors"
    torch.save(network.state_dict(), first)
    assert main(["convert", str(first), str(second), "--to", "official", *OPTIONS]) == 0
    assert "TAda2D" in capsys.readouterr().out
    assert main(["convert", str(second), str(third), "--to", "kinema", *OPTIONS]) == 0
    other = kinema.create_model("tada2d_r50", 5)
    kinema.load_checkpoint(other, third)
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize("routing", ["attention", "local_global"])
def test_every_tensor_survives_renaming(routing):
    network = kinema.create_model("tada2d_r50", 5, routing=routing, routing_head_dim=8, num_frames=4)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value))
    theirs = to_theirs(network)
    back = to_ours(network, theirs)
    assert set(back) == set(network.state_dict())
    assert all(torch.equal(back[name], value) for name, value in network.state_dict().items())
    rows = theirs[next(name for name in theirs if "qkv_proj.weight" in name)] if routing == "attention" else None
    if rows is not None:
        assert not torch.equal(
            rows.flatten(1), network.get_parameter("backbone.trunk.layer1.0.conv2.operator.router.qkv.weight")
        )


def test_a_run_knows_its_own_network(cli, tmp_path):
    run = cli("fit", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    assert main(["convert", str(run), str(tmp_path / "run.safetensors"), "--to", "kinema"]) == 0
    kinema.load_checkpoint(kinema.create_model("tsm_nano", 12), tmp_path / "run.safetensors")
    assert main(["convert", str(run), str(tmp_path / "run.pyth"), "--to", "official"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "kinema", *OPTIONS], "end the name in .safetensors"),
        (["--to", "official", "--model", "tsm_nano", "--num-classes", "5"], "holds"),
        (["--to", "official"], "name it with --model"),
    ],
)
def test_what_is_refused(arguments, message, network, tmp_path, capsys):
    torch.save(network.state_dict(), tmp_path / "a.pth")
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.pth"), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_help_lists_the_layouts(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "authors of TSM, TAdaConv, TimeSformer and UniFormer" in told and "Hugging Face (TimeSformer)" in told
