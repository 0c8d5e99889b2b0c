"""Recipes: none is overlooked, each builds at full size, and its header agrees with its configuration."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

import kinema
from kinema.cli.training import TrainingCLI
from kinema.data.datasets.archives import ARCHIVES
from kinema.sweeps.recipes import TABLE_MARKS, read_recipe, read_recipes, write_recipes
from kinema.training.optim import parameter_groups

from conftest import REPOSITORY

FOLDER = REPOSITORY / "experiments" / "recipes"
FILES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
COUNTS = {
    "diving48": 3,
    "epic100": 1,
    "hmdb51": 3,
    "howto100m": 4,
    "jester": 1,
    "kinetics400": 54,
    "kinetics600": 8,
    "ssv1": 18,
    "ssv2": 39,
    "ucf101": 3,
}
NAMES = {
    "diving48": "Diving48",
    "epic100": "EPIC-KITCHENS-100",
    "hmdb51": "HMDB51",
    "howto100m": "HowTo100M",
    "jester": "Jester",
    "kinetics400": "Kinetics-400",
    "kinetics600": "Kinetics-600",
    "ssv1": "Something-Something V1",
    "ssv2": "Something-Something V2",
    "ucf101": "UCF101",
}
CLASSES = {
    "diving48": 48,
    "epic100": (97, 300),
    "hmdb51": 51,
    "howto100m": 1059,
    "jester": 27,
    "kinetics400": 400,
    "kinetics600": 600,
    "ssv1": 174,
    "ssv2": 174,
    "ucf101": 101,
}
# Of each architecture the one with most options.
ONE_OF_EACH = (
    "hmdb51/tsm_r50_online_8f",
    "epic100/tada2d_r50_8x8",
    "ssv2/tadaconvnext_tiny_16f",
    "ssv1/tadaformer_b16_32f",
    "howto100m/timesformer_large_96x32",
    "kinetics600/uniformer_b_32x4",
    "ssv2/slowfast_r50_tada_8x8",
)


@pytest.fixture(scope="module")
def recipes():
    """All recipes by data set and name, such as ssv2/tsm_r50_8f."""
    return {recipe.path.relative_to(FOLDER).with_suffix("").as_posix(): recipe for recipe in read_recipes(FOLDER)}


def test_all_of_them_are_found(recipes):
    # Add to these numbers with every file: a test that silently saw fewer would pass.
    assert Counter(name.partition("/")[0] for name in FILES) == COUNTS
    assert set(recipes) == set(FILES), "read_recipes sees all of them too"


class Parsed(TrainingCLI):
    """Builds everything but the trainer, so nothing is written."""

    def instantiate_trainer(self, **kwargs):
        return None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ONE_OF_EACH else pytest.mark.slow) for name in FILES]
)
def test_it_builds_at_full_size(name):
    cli = Parsed(["fit", "--config", str(FOLDER / f"{name}.yaml")])
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    assert cli.model.num_classes is None, "the data says how many classes there are"
    with torch.device("meta"):
        network = kinema.create_model(
            cli.model.model_name, num_classes=CLASSES[name.partition("/")[0]], **cli.model.options
        )
    parameters = list(network.parameters())
    assert all(parameter.is_meta for parameter in parameters)
    assert round(sum(parameter.numel() for parameter in parameters) / 1e6, 1) == recipe.parameters
    # A factor for parts that the network has not would be without effect, and nobody would see it.
    options = cli.model.optimizer
    groups = parameter_groups(network, network.get_submodule("head"), options)
    assert sum(len(group["params"]) for group in groups) == len(parameters)
    scales = {"head": options.head_lr_scale, "router": options.router_lr_scale, "tada": options.tada_lr_scale}
    for part, scale in scales.items():
        assert scale == 1 or any(part in group["name"] for group in groups), f"{part}_lr_scale={scale} is of nothing"


def test_parameters_are_those_of_the_papers(recipes):
    printed = {
        "kinetics400/tsm_r50_8x8": 24.3,
        "kinetics400/tsm_mobilenetv2_8x8": 2.7,
        "kinetics400/slowonly_r50_8x8": 32.5,
        "kinetics400/slowonly_r50_tada_8x8": 35.6,
        "kinetics400/slowfast_r50_4x16": 34.5,
        "kinetics400/slowfast_r50_tada_4x16": 37.7,
        "kinetics400/r2plus1d_r50_8x8": 28.1,
        "kinetics400/r2plus1d_r50_tada2d1d_8x8": 34.4,
        "kinetics400/r3d_r50_8x8": 47.0,
        "kinetics400/r3d_r50_tada_8x8": 50.1,
        "ssv2/timesformer_base_8f": 121.4,
        "kinetics400/uniformer_s_16x4": 21.4,
        "kinetics400/uniformer_b_32x4": 49.8,
        "ssv2/uniformer_s_16f": 21.3,
        "ssv2/uniformer_b_16f": 49.7,
    }
    assert {name: recipes[name].parameters for name in printed} == printed


def test_the_data_is_that_of_the_folder(recipes):
    for name, recipe in recipes.items():
        kind, options = ARCHIVES[name.partition("/")[0]]
        assert recipe.config["data"]["class_path"] == f"kinema.data.datasets.{kind.__name__}", name
        assert options.items() <= recipe.data.items(), name
        assert recipe.dataset == NAMES[name.partition("/")[0]], name
        assert re.fullmatch(r"[\w-]+", recipe.data["root"]), "a plain name, no path of a machine"
        assert "/home" not in recipe.path.read_text() and "/work" not in recipe.path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("num_clips: 2", "num_clips: 1", "of views '2 clips x 3 crops of 256 pixels' and the configuration '1 clip x"),
        ("num_frames: 8", "num_frames: 16", "of frames '8 frames, one of each segment' and the configuration '16"),
        ("# Expected:   top-1 61.2", "# Expected:   61.2", "'Expected: 61.2' cannot be read"),
        ("# Source:  ", "# Origin:  ", "the field Origin of the header is unknown"),
        ("# Hardware:", "# Hardware ", "is neither a field nor the rest of one"),
        ("# Views:      2 clips x 3 crops of 256 pixels\n", "", "says nothing of Views"),
        ("recipes/ssv2/tsm", "recipes/ssv1/tsm", "its command should be"),
        (" --init_from WEIGHTS", "", "the field Start"),
        ("name: ssv2-tsm", "name: ssv1-tsm", "run.name is 'ssv1-tsm_r50_8f'"),
        (" M\n", "\n", "write it as '24.3 M'"),
        ("# TSM-R50 on ", "# TSM-R50, ", "the first line should be"),
    ],
)
def test_a_header_that_says_something_else_is_refused(tmp_path, old, new, text):
    source = (FOLDER / "ssv2" / "tsm_r50_8f.yaml").read_text()
    assert old in source
    path = tmp_path / "ssv2" / "tsm_r50_8f.yaml"
    path.parent.mkdir()
    path.write_text(source.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(text)):
        read_recipe(path)


def test_lines_of_a_field_are_joined(recipes):
    fields = recipes["ssv2/tsm_r50_8f"].fields
    assert "an author lr 0.025 with decay 1e-4 (issue 51)" in fields["Disagree"]
    assert all("\n" not in text and "  " not in text and "#" not in text for text in fields.values())


def test_the_table_of_all_recipes_is_of_these_files(tmp_path):
    committed = (FOLDER / "README.md").read_text()
    copy = tmp_path / "recipes"
    for name in FILES:
        (copy / f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (copy / f"{name}.yaml").write_text((FOLDER / f"{name}.yaml").read_text())
    (copy / "README.md").write_text(committed)
    write_recipes(copy, command="python scripts/report_recipes.py")
    assert (copy / "README.md").read_text() == committed, "run python scripts/report_recipes.py"
    table = committed.partition(TABLE_MARKS[0])[2]
    assert table.startswith(f"\n\n{len(FILES)} recipes.")
    row = next(line for line in table.splitlines() if "(ssv2/tsm_r50_8f.yaml)" in line)
    assert row.split(" | ")[1:] == [
        "TSM-R50",
        "8 frames, one of each segment",
        "2 clips x 3 crops of 256",
        "23.9 M",
        "61.2",
        "",
        "README of the authors' code |",
    ]
    with pytest.raises(FileNotFoundError, match="give the folder of recipes"):
        read_recipes(tmp_path / "nowhere")


def test_the_overlay_of_the_tests_changes_no_more_than_sizes():
    overlay = yaml.safe_load(Path(__file__).with_name("shrink.yaml").read_text())
    kept = {"rounding", "sampling", "num_clips", "num_crops", "clip_kind", "train_crop", "augment", "mixing", "flip"}
    assert not kept & set(overlay["data"]["init_args"]) and "model" not in overlay
