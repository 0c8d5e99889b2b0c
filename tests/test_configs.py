"""Every configuration is read against the real signatures, and none is overlooked."""

import re
from pathlib import Path

import pytest
import torch
import yaml

import kinema
from kinema.cli.training import TrainingCLI
from kinema.sweeps.grid import read_sweep
from kinema.sweeps.report import result_marks
from kinema.training import BMN

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FILES = sorted(path.relative_to(EXPERIMENTS) for path in EXPERIMENTS.rglob("*.yaml"))
FILES = [path for path in FILES if path.parts[0] != "recipes"]  # those have tests of their own, tests/recipes
SWEEPS = [path for path in FILES if path.stem.startswith("sweep")]
CONFIGS = [path for path in FILES if path not in SWEEPS]


def test_all_of_them_are_found():
    # Add to these numbers with every file: a test that silently saw fewer would pass.
    assert len(CONFIGS) == 27, CONFIGS
    assert len(SWEEPS) == 24, SWEEPS


@pytest.mark.parametrize("file", SWEEPS, ids=str)
def test_every_variant_of_a_sweep_builds(file, monkeypatch, tmp_path):
    for name in re.findall(r"\$\{(\w+)\}", (EXPERIMENTS / file).read_text()):
        monkeypatch.setenv(name, str(tmp_path))
    sweep = read_sweep(EXPERIMENTS / file)
    assert sweep.claims, "an experiment says what would refute it"
    assert f"kinema sweep experiments/{file}" in (EXPERIMENTS / file).read_text()
    assert result_marks(sweep.part)[0] in (EXPERIMENTS / file).with_name("README.md").read_text()
    for run in sweep.runs():
        if run.seed == sweep.seeds[0]:
            cli = Parsed(run.arguments(Path("runs")))
            with torch.device("meta"):  # some are too large to fill in for a look
                kinema.create_model(cli.model.model_name, num_classes=12, **cli.model.options)


class Parsed(TrainingCLI):
    """Builds everything but the trainer, so nothing is written."""

    def instantiate_trainer(self, **kwargs):
        return None


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_builds(config):
    cli = Parsed(["fit", "--config", str(EXPERIMENTS / config)])
    if isinstance(cli.model, BMN):
        assert cli.datamodule.windows.max_bins <= cli.datamodule.windows.num_bins and not hasattr(cli.model, "network")
        return
    assert cli.model.model_name in cli.model.options.get("name", cli.model.model_name)
    assert cli.datamodule.scheme.num_frames > 0


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_its_header_says_command_and_hardware_and_it_holds_no_path_of_a_machine(config):
    text = (EXPERIMENTS / config).read_text()
    header = text[: text.index("\nseed_everything")]
    assert f"kinema fit --config experiments/{config}" in header
    assert "Hardware:" in header
    assert not str(yaml.safe_load(text)["data"]["init_args"].get("root", "")).startswith("/")
