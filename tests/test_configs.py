"""Every configuration is read against the real signatures, and none is overlooked."""

from pathlib import Path

import pytest
import yaml

from kinema.cli.training import TrainingCLI

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CONFIGS = sorted(path.relative_to(EXPERIMENTS) for path in EXPERIMENTS.rglob("*.yaml"))


def test_all_of_them_are_found():
    # Add to this number with every configuration: a test that silently saw fewer would pass.
    assert len(CONFIGS) == 8, CONFIGS


class Parsed(TrainingCLI):
    """Builds everything but the trainer, so nothing is written."""

    def instantiate_trainer(self, **kwargs):
        return None


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_builds(config):
    cli = Parsed(["fit", "--config", str(EXPERIMENTS / config)])
    assert cli.model.model_name in cli.model.options.get("name", cli.model.model_name)
    assert cli.datamodule.scheme.num_frames > 0


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_its_header_says_command_and_hardware_and_it_holds_no_path_of_a_machine(config):
    text = (EXPERIMENTS / config).read_text()
    header = text[: text.index("\nseed_everything")]
    assert f"kinema fit --config experiments/{config}" in header
    assert "Hardware:" in header
    assert not str(yaml.safe_load(text)["data"]["init_args"].get("root", "")).startswith("/")
