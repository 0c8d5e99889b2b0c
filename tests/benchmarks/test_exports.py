"""Every network as a file: the rows, what becomes of failures, and going on where a run was stopped."""

import json
import runpy
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import kinema
from kinema.benchmarks import exports
from kinema.benchmarks.exports import (
    ExportRow,
    export_summary,
    export_table,
    measure_export,
    moved,
    settled,
    small_options,
    streaming_models,
)
from kinema.cli import main
from kinema.deployment.writing import ExportError
from kinema.models import MODELS, list_options

from conftest import REPOSITORY

TIMES = {"median_ms": 5.0, "least_ms": 4.0, "ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0}
FAST = {"median_ms": 3.0, "least_ms": 1.0, "ratio": 0.6, "ratio_low": 0.5, "ratio_high": 0.7}
SLOW = {"median_ms": 9.0, "least_ms": 5.0, "ratio": 0.9, "ratio_low": 0.5, "ratio_high": 2.0}


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Linear(4, 10)

    def forward(self, clip):
        return self.head(self.norm(self.conv(clip)).mean(dim=(2, 3, 4)))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(exports, "create_model", lambda *arguments, **options: Tiny())


@pytest.mark.slow
def test_a_row_of_parity_and_speed(tiny):
    row = measure_export("tsm_nano", {"width": 8}, num_frames=2, size=8, rounds=2, num_threads=1)
    assert set(row.differences) == set(row.mib) == {"onnx", "torch"} and not row.failures
    assert max(row.differences.values()) < 1e-5 < row.largest_logit
    assert (row.folded, row.norms_left, row.params) == (1, 0, 16 + 8 + 50)
    assert set(row.speed) == {"eager", "onnx", "torch"} and row.speed["eager"]["ratio"] == 1
    assert all(times["least_ms"] <= times["median_ms"] for times in row.speed.values())
    assert ExportRow(**json.loads(json.dumps(row.__dict__))).options == {"width": 8}


def test_a_failure_is_a_row_and_the_command_tells_it(tiny, tmp_path, monkeypatch, capsys):
    from kinema.deployment.export import Prepared

    plain = Prepared.write

    def write(prepared, path, format, **options):
        if format == "onnx":
            raise ExportError("no | operator")
        return plain(prepared, path, format, **options)

    monkeypatch.setattr(Prepared, "write", write)
    file = tmp_path / "rows.json"
    arguments = ["bench", "export", "tsm_nano", "tsn_nano", "--rounds", "0", "--json", str(file)]
    assert main(arguments) == 1
    told = capsys.readouterr().out
    assert "| no / operator |" in told and "ONNX: 0 of 2 networks; torch.export: 2 of 2 networks" in told
    rows = json.loads(file.read_text())["exports"]
    assert [row["failures"] for row in rows] == [{"onnx": "no | operator"}] * 2 and rows[0]["differences"][
        "torch"
    ] < 1e-5
    monkeypatch.setattr(exports, "measure_export", lambda *arguments, **options: pytest.fail("measured again"))
    assert main(arguments) == 1 and "| no / operator |" in capsys.readouterr().out


def test_steps_and_causal_clips_are_rows_of_their_own(tmp_path, capsys, monkeypatch):
    """Of one network, each told by what the file takes."""
    monkeypatch.setattr(exports, "FORMATS", ("torch",))  # ONNX takes its time
    file = tmp_path / "rows.json"
    size = ["--num-frames", "2", "--size", "32", "--rounds", "0"]
    assert main(["bench", "export", "tsm_nano:width=8,depths=(1,1,1,1)", "--stream", *size, "--json", str(file)]) == 0
    told = capsys.readouterr().out
    assert "| step, 32 x 32 |" in told and "| 2 x 32 x 32 |" in told and told.count("causal=True") == 2
    assert "torch.export: 2 of 2 networks and steps" in told
    step, clips = (ExportRow(**row) for row in json.loads(file.read_text())["exports"])
    assert (
        (step.mode, clips.mode) == ("frames", "clips") and step.clip_shape[2] == 1 and step.folded == clips.folded > 0
    )
    assert all(set(row.differences) == {"torch"} and row.differences["torch"] < 1e-4 for row in (step, clips))
    assert step.key != clips.key != ExportRow("tsm_nano", {}, (1, 3, 2, 32, 32), 1, 1.0).key
    assert main(["bench", "export", "r3d_nano", "--stream", *size]) == 1
    assert "r3d_nano has no causal form to run frame by frame; give some of tada2d_nano" in capsys.readouterr().err


@pytest.mark.slow
def test_a_step_is_timed_from_empty_states():
    options = {"causal": True, "width": 8, "depths": (1, 1, 1, 1)}
    row = measure_export("tsm_nano", options, mode="frames", num_frames=2, size=32, rounds=1, num_threads=1)
    assert set(row.speed) == {"eager", "onnx", "torch"} and row.speed["eager"]["ratio"] == 1


def test_every_network_with_a_causal_form_is_exported_as_a_step():
    assert streaming_models() == sorted(name for name in MODELS if "causal" in list_options(name))
    assert {name.partition("_")[0] for name in streaming_models()} == {"tsm", "tada2d", "timesformer"}


def test_a_network_that_cannot_be_traced_is_a_row(monkeypatch):
    def prepare(*arguments, **options):
        raise ExportError("torch.export does not take it")

    monkeypatch.setattr(exports, "prepare", prepare)
    row = measure_export("tsn_nano", {}, num_frames=2, size=32)
    assert set(row.failures) == {"onnx", "torch"} and not row.differences
    assert export_table([row]).count("torch.export does not take it") == 2


def test_the_table_and_the_verdict():
    common = {"options": {"depths": [1, 2]}, "clip_shape": (1, 3, 8, 64, 64), "params": 1_500_000, "largest_logit": 2.0}
    found = {"differences": {"onnx": 2e-6, "torch": 1e-7}, "folded": 3, "norms_left": 1}
    rows = [
        ExportRow("fast", **common, **found, speed={"eager": TIMES, "onnx": FAST, "torch": TIMES}),
        ExportRow("slow", **common, **found, speed={"eager": TIMES, "onnx": SLOW, "torch": TIMES}),
        ExportRow("lost", **common, failures={"onnx": "why", "torch": "why not"}),
    ]
    table = export_table(rows).splitlines()
    columns = [cell.strip() for cell in table[2].split("|")[1:-1]]
    assert columns[:8] == ["fast", "depths=1,2", "8 x 64 x 64", "1.50", "3, 1", "2.00", "2.0e-06", "1.0e-07"]
    assert columns[8:] == ["4.0", "0.25, 0.60 (0.50 to 0.70)", "1.00, 1.00 (1.00 to 1.00)"]
    assert all(line.count("|") == table[0].count("|") for line in table)
    assert export_summary(rows) == (
        "ONNX: 2 of 3 networks, the worst off by 2.0e-06 (fast); torch.export: 2 of 3 networks, the worst off by 1.0e-07 "
        "(fast); onnxruntime is slower than eager PyTorch in 1 of 2 (slow)."
    )


def test_what_makes_networks_small_is_known_to_them():
    for name in MODELS:
        options = small_options(name, 64)
        assert set(options) <= set(list_options(name)), name
    assert small_options("tadaformer_l14", 64)["image_size"] == 56
    assert small_options("uniformer_s", 64)["depths"] == (1, 1, 2, 1) and "depths" not in small_options("tsm_nano", 64)


def test_norms_and_zeros_are_moved_and_the_network_is_not():
    network = kinema.create_model("timesformer_nano", 3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy = moved(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(bool(parameter.abs().max() > 0) for parameter in copy.parameters())
    norms = [
        module for module in moved(kinema.create_model("tsm_nano", 3)).modules() if isinstance(module, nn.BatchNorm2d)
    ]
    for norm in norms:
        assert float(norm.running_mean.abs().max()) > 0.01 and float((norm.running_var - 1).abs().max()) > 0.1


def test_norms_are_fitted_to_what_they_see():
    """Activations stay of one size in networks whose factors would make them grow from block to block."""
    clip = torch.randn(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    network = settled(moved(kinema.create_model("tada2d_nano", 3, 8)), clip)
    seen = {}
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda norm, inputs: seen.update({norm: inputs[0].square().mean()}))
    with torch.no_grad():
        logits = network(clip)
    assert len(seen) > 8 and not network.training and logits.abs().max() < 20
    for norm, power in seen.items():
        assert 0.4 < float(norm.running_var.mean() / power) < 2.5


def test_the_report_of_a_file(tmp_path, monkeypatch):
    """The script puts table, origin and what was not run between the marks."""
    row = ExportRow("tsm_nano", {}, (1, 3, 8, 64, 64), 5, 1.0, differences={"onnx": 1e-6, "torch": 0.0})
    step = replace(row, options={"causal": True}, clip_shape=(1, 3, 1, 64, 64), mode="frames")
    older = {name: value for name, value in row.__dict__.items() if name != "mode"}
    facts = {"command": "kinema bench export", "commit": "a" * 40, "uncommitted_changes": False, "machine": "one"}
    facts |= {"cores": 2, "torch": "2", "threads": 1, "exports": [older]}
    (tmp_path / "exports.json").write_text(json.dumps(facts))
    (tmp_path / "steps.json").write_text(json.dumps(facts | {"exports": [step.__dict__]}))
    begin, end = "<!-- exports: written by a command, not by hand -->", "<!-- end of exports -->"
    (tmp_path / "README.md").write_text(f"before\n{begin}\nstale\n{end}\nafter")
    script = str(REPOSITORY / "scripts" / "report_exports.py")
    monkeypatch.setattr(
        sys, "argv", [script, str(tmp_path), *(str(tmp_path / f"{name}.json") for name in ("exports", "steps"))]
    )
    runpy.run_path(script, run_name="__main__")
    text = (tmp_path / "README.md").read_text()
    assert "| tsm_nano |  | 8 x 64 x 64 |" in text and "| tsm_nano | causal=True | step, 64 x 64 |" in text
    assert (
        "**Not run yet as a step**: tada2d_nano" in text
        and "**Not run yet**: r2plus1d_nano" in text
        and "stale" not in text
    )
    assert text.startswith("before") and text.endswith("after") and "commit `aaaaaaaaaa`" in text
