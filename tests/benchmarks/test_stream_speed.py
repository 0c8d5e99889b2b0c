"""The benchmark of streams: what it times is what it says, whatever the times are."""

import json

import pytest
import torch

import kinema
from kinema.benchmarks.measured import measured_table
from kinema.benchmarks.stream_speed import Stepper, Window, compare_steps, sustain
from kinema.cli import main


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = kinema.create_model("tsm_nano", 3, causal=True).eval()
    torch.nn.init.normal_(model.head.fc.weight)
    return model


def test_a_stepper_goes_on_where_it_was(network):
    clip = torch.randn(1, 3, 6, 32, 32)
    stepper = Stepper(network, 1, 32)
    stepper(clip[:, :, :2])
    last = stepper(clip[:, :, 2:])
    with torch.no_grad():
        wanted = 6 * network(clip) - 5 * network(clip[:, :, :5])
    torch.testing.assert_close(last, wanted, rtol=1e-3, atol=1e-4)


def test_a_window_sees_the_last_frames_for_every_frame(network):
    clip, seen = torch.randn(1, 3, 6, 32, 32), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    window = Window(network, 4)
    window(clip[:, :, :3])
    last = window(clip[:, :, 3:])
    assert len(seen) == 6 and all(each.shape == (1, 3, 4, 32, 32) for each in seen)
    assert torch.equal(seen[-1], clip[:, :, 2:]) and torch.equal(seen[3], clip[:, :, :4])
    with torch.no_grad():
        torch.testing.assert_close(last, network(clip[:, :, 2:]))


def test_ratios_are_of_one_round(network, monkeypatch):
    times = iter((10.0, 20.0, 400.0, 400.0, 20.0, 10.0, 1.0, 3.0, 60.0))  # the order turns round by round
    monkeypatch.setattr("kinema.evaluation.latency._time", lambda step, device: next(times))
    plain = kinema.create_model("tsn_nano", 3)
    row = compare_steps(("plain", plain), ("causal", network), frames=2, size=32, rounds=3, warmup=0)
    assert (row.baseline_ms, row.step_ms, row.window_ms) == (5.0, 10.0, 200.0)
    assert row.ratio == 2.0 and row.cheaper == 20.0 and row.window == 8
    assert row.state_kib == 4 * sum(t.numel() for t in network.init_state(1, 32).values()) / 1024


def test_a_long_stream_is_watched_from_end_to_end(network):
    row = sustain("it", network, frames=40, size=32, readings=4)
    assert row.frames == 40 and len(row.resident_mib) == 5
    assert 0 < row.p50_ms <= row.p99_ms <= row.longest_ms
    assert row.growth_mib == row.resident_mib[-1] - row.resident_mib[0]
    with pytest.raises(ValueError, match="frames=3 with readings=4"):
        sustain("it", network, frames=3, readings=4)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    path = tmp_path / "speed.json"
    networks = ["tsn_nano", "tsm_nano:causal=true", "tada2d_nano:causal=true"]
    arguments = ["bench", "stream", *networks, "--size", "32", "--rounds", "2", "--frames", "20", "--num-classes", "3"]
    assert main([*arguments, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "| tsm_nano:causal=true against tsn_nano |" in out and "| tada2d_nano:causal=true against tsn_nano |" in out
    assert "| step ms | ratio, median of rounds |" in out, (
        "not the quotient of the columns, which are medians themselves"
    )
    told = json.loads(path.read_text())
    assert told["sustained"][0]["name"] == "tsm_nano:causal=true" and told["sustained"][0]["frames"] == 20
    assert told["commit"] is not None and told["machine"] and told["threads"] == 1
    table = measured_table(path)
    assert "tsm_nano:causal=true against tsn_nano" in table and told["machine"] in table and "one frame of 32" in table


@pytest.mark.parametrize(
    ("networks", "message"),
    [(["tsn_nano", "tsm_nano"], "causal=True"), (["tsm_nano:causal=true"], "alone is compared with nothing")],
)
def test_what_cannot_be_compared(networks, message, capsys):
    assert main(["bench", "stream", *networks, "--size", "32", "--rounds", "1", "--frames", "0"]) == 1
    assert message in capsys.readouterr().err
