"""Causal networks as files that run frame by frame, their states given and returned."""

import pytest
import torch
from torch import nn

import kinema
from kinema.benchmarks.exports import moved
from kinema.cli import main
from kinema.deployment.export_stream import export_steps, prepare_steps
from kinema.deployment.exported import SUFFIXES, open_exported
from kinema.deployment.writing import ExportError
from kinema.training.restore import Predictor

from untrained import make_module, small_clips, write_checkpoint

FRAME = (1, 3, 32, 32)


def streamed(run, clip):
    """Logits of every frame and the names of outputs, by what the file says of itself alone."""
    shapes = run.facts["states"]
    states = [torch.zeros(clip.shape[0], *shape) for shape in shapes.values()]
    logits = []
    for frame in clip.unbind(2):
        given = run.run([frame, *states])
        count = len(given) - len(states)
        said, states = given[:count], given[count:]
        logits.append(said)
    return [torch.stack(each) for each in zip(*logits, strict=True)]


class Running(nn.Module):
    """Says what the sum of all frames so far is."""

    def __init__(self, *, exported=0.0, first=0.0):
        super().__init__()
        self.head, self.exported, self.first = nn.Linear(3, 2), exported, first

    def init_state(self, batch, size):
        return {"sum": torch.full((batch, 3), self.first), "frames": torch.zeros(batch, 1)}

    def step(self, frame, state):
        total = state["sum"] + frame.mean(dim=(2, 3))
        count = state["frames"] + 1
        change = self.exported if torch.compiler.is_exporting() else 0
        return self.head(total / count), {"sum": total + change, "frames": count}


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_file_carries_nothing_from_one_call_to_the_next(format, tmp_path):
    torch.manual_seed(0)
    network, path = Running(), tmp_path / f"it{SUFFIXES[format]}"
    written = export_steps(network, path, format, frame_shape=FRAME, facts={"size": 32})
    assert written.max_difference < 1e-5
    run = open_exported(path)
    assert run.facts == {"size": 32, "states": {"sum": [3], "frames": [1]}}
    clip = torch.randn(4, 3, 5, 32, 32)
    means = clip.mean(dim=(3, 4)).cumsum(dim=2) / torch.arange(1, 6)
    for _ in range(2):
        (logits,) = streamed(run, clip)
        torch.testing.assert_close(logits, network.head(means.permute(2, 0, 1)), rtol=1e-4, atol=1e-5)
    if format == "onnx":
        assert run.input_names == ["frame", "state.sum", "state.frames"]
        assert run.output_names == ["logits", "next.sum", "next.frames"]


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Running(exported=1e-3), "differs from the network by 0.001"),  # in a state alone: logits show it a step later
        (Running(first=1.0), "the first state of this network is not zero"),
        (kinema.create_model("tsm_nano", 5, 4), "cannot run frame by frame: .*causal"),
        (kinema.create_model("r3d_nano", 5, 4), "cannot run frame by frame: .*no causal form"),
        (nn.Linear(3, 3), "a Linear has no form that runs frame by frame"),
    ],
)
def test_what_is_refused(network, told, tmp_path):
    with pytest.raises(ExportError, match=told):
        export_steps(network, tmp_path / "it.pt2", "torch", frame_shape=FRAME)
    assert not list(tmp_path.iterdir())


def test_the_mean_over_frames_is_what_the_network_says_of_the_clip(tmp_path, capsys):
    """From a checkpoint by the command; norms of the steps are folded as those of clips are."""
    module = make_module(causal=True)
    module.network = moved(module.network)
    checkpoint = write_checkpoint(tmp_path / "it.ckpt", module, small_clips())
    path = tmp_path / "it.pt2"
    arguments = ["export", "--checkpoint", str(checkpoint), "--format", "torch", "--output", str(path), "--stream"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "input frame: float32 B x 3 x 32 x 32\ninput state." in told and "states begin as zeros" in told
    assert "any number of streams at a time" in told and "16 folded into convolutions, 0 left" in told
    run = open_exported(path)
    clip = torch.randn(2, 3, 6, 32, 32, generator=torch.Generator().manual_seed(5))
    (logits,) = streamed(run, clip)
    with torch.no_grad():
        wanted = Predictor.from_checkpoint(checkpoint).module.network(clip)
    torch.testing.assert_close(logits.mean(dim=0), wanted, rtol=1e-4, atol=1e-4)
    assert run.facts["class_names"] and run.facts["input"].startswith("frame: float32 (B, C, H, W)")


@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tsn_nano", {"num_frames": 4}),
        ("tsm_nano", {"num_frames": 4, "causal": True, "shift_fraction": 0}),
        ("timesformer_nano", {"num_frames": 1, "causal": True, "image_size": 32, "depth": 1}),
    ],
)
def test_networks_that_remember_nothing_are_exported_too(name, options, format, tmp_path):
    network, path = moved(kinema.create_model(name, 5, **options)).eval(), tmp_path / f"it{SUFFIXES[format]}"
    export_steps(network, path, format, frame_shape=FRAME)
    clip = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    (logits,) = streamed(open_exported(path), clip)
    with torch.no_grad():
        torch.testing.assert_close(logits.mean(dim=0), network(clip), rtol=1e-4, atol=1e-4)


def test_a_two_way_checkpoint_is_refused_with_the_reason(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "it.ckpt", make_module(), small_clips())
    arguments = ["export", "--checkpoint", str(checkpoint), "--format", "torch", "--output", str(tmp_path / "it.pt2")]
    assert main([*arguments, "--stream"]) == 1
    told = capsys.readouterr().err
    assert told.count("cannot run on a stream") == 1 and "--model.causal true" in told


@pytest.mark.slow
def test_norms_are_watched_in_the_step_and_not_in_the_clip():
    """What a step calls is folded, and its logits stay."""
    network = moved(kinema.create_model("tada2d_nano", 5, 4, causal=True)).eval()
    prepared = prepare_steps(network, FRAME)
    assert prepared.folded == 6 and prepared.norms_left == 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tsm_nano", "tada2d_nano", "timesformer_nano"])
def test_every_causal_family_in_onnx(name, tmp_path):
    options = {"image_size": 32} if name == "timesformer_nano" else {}
    network = moved(kinema.create_model(name, 5, 4, causal=True, **options)).eval()
    export_steps(network, tmp_path / "it.onnx", "onnx", frame_shape=FRAME)
    clip = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(5))
    (logits,) = streamed(open_exported(tmp_path / "it.onnx"), clip)
    with torch.no_grad():
        torch.testing.assert_close(logits.mean(dim=0), network(clip), rtol=1e-4, atol=1e-4)
