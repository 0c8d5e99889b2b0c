"""Recipes: none is overlooked, each builds at full size, and says what its paper says."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

import kinema
from conftest import REPOSITORY
from kinema.cli.training import TrainingCLI
from kinema.data.datasets.archives import ARCHIVES
from kinema.sweeps.recipes import TABLE_MARKS, read_recipe, read_recipes, write_recipes
from kinema.training.optim import parameter_groups

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


def model_of(recipe):
    return recipe.config["model"]["init_args"]


def family_of(recipe):
    return recipe.config["model"]["class_path"].rpartition(".")[2]


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


def test_frames_are_those_of_the_name_and_of_the_network(recipes):
    for name, recipe in recipes.items():
        frames, of_network = recipe.data["num_frames"], model_of(recipe).get("num_frames")
        assert of_network in (None, frames), name
        assert (of_network is None) == (family_of(recipe) == "TSM"), name
        if "slowfast" in name:  # named by the frames and the distance of the slow pathway
            assert name.endswith({8: "_4x16", 4: "_8x8"}[model_of(recipe)["alpha"]]) and frames == 32
        elif recipe.data["sampling"] == "dense":
            assert name.endswith(f"_{frames}x{recipe.data['stride_frames']}"), name
        else:
            assert re.search(rf"_{frames}f(_\d+)?$", name), name
            assert "stride_frames" not in recipe.data and "target_fps" not in recipe.data, name


def test_every_family_has_the_rules_of_its_code(recipes):
    half, imagenet = ([0.45] * 3, [0.225] * 3), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    clip = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    tada = ("tada", "probabilities", half, 30.0, None)
    rules = {
        "TSM": ("tsm", "logits", imagenet, None, 20.0),
        **dict.fromkeys(("TAda2D", "TAdaConvNeXt", "SlowOnly", "SlowFast", "R3D", "R2Plus1D"), tada),
        "TAdaFormer": ("tada", "probabilities", clip, None, None),
        "TimeSformer": ("timesformer", "logits", half, 30.0, None),
        "UniFormer": ("uniformer", "logits", half, None, 20.0),
    }
    assert {family_of(recipe) for recipe in recipes.values()} == set(rules)
    for name, recipe in recipes.items():
        rounding, average, (mean, std), fps, clipped = rules[family_of(recipe)]
        fps = {"epic100": 60.0}.get(name.partition("/")[0], fps) if recipe.data["sampling"] == "dense" else None
        if "howto100m" in name:
            rounding = "kinema"  # clips side by side
        told = model_of(recipe)["normalisation"]
        assert (recipe.data["rounding"], model_of(recipe)["average"]) == (rounding, average), name
        assert (told["mean"], told["std"]) == (mean, std), name
        assert recipe.data.get("target_fps") == fps, name
        assert recipe.config["trainer"].get("gradient_clip_val") == clipped, name
        # Both read the pictures of Something-Something with another library, which has blue first.
        bgr = family_of(recipe) in ("TimeSformer", "UniFormer") and name.startswith("ssv")
        assert told.get("bgr", False) == bgr, name


def test_no_mirror_makes_a_wrong_label(recipes):
    for name, recipe in recipes.items():
        if name.startswith(("ssv", "jester")):
            assert recipe.data["flip"] == 0 or recipe.data["flip_pairs"] == "auto", name
            flips = "tada" in name or family_of(recipe) in ("SlowOnly", "SlowFast", "R3D", "R2Plus1D")
            assert recipe.data["flip"] == (0.5 if flips else 0.0), name
        else:
            assert recipe.data["flip"] == 0.5 and "flip_pairs" not in recipe.data, name


def test_the_last_epoch_is_evaluated_and_steps_can_be_filled(recipes):
    for name, recipe in recipes.items():
        trainer, data = recipe.config["trainer"], recipe.data
        assert trainer["max_epochs"] % trainer["check_val_every_n_epoch"] == 0, name
        schedule = model_of(recipe)["schedule"]
        ends = schedule.get("milestones", [schedule.get("warmup_epochs", 0)])
        assert 0 < ends[-1] < trainer["max_epochs"], name
        # On one GPU, and on eight.
        assert recipe.config["run"]["videos_per_step"] % (8 * data["batch_size"]) == 0, name
        assert "devices" in trainer and trainer["devices"] == "auto", name
        # A second block of the last layer learns nothing, which DDP takes for an error.
        assert ("strategy" in trainer) == bool(model_of(recipe).get("double")), name


PUBLISHED = {
    # name: (rate of a step, videos of a step, epochs, warm-up or the epochs of falls, rate at the first step or None, decay)
    "kinetics400/tsm_r50_8f": (0.02, 128, 50, [20, 40], None, 1e-4),
    "kinetics400/tsm_r50_16f": (0.01, 64, 50, [20, 40], None, 1e-4),
    "kinetics400/tsm_r50_8x8": (0.01, 64, 100, [40, 80], None, 1e-4),
    "ssv1/tsm_r50_16f": (0.01, 64, 50, [20, 40], None, 5e-4),
    "ucf101/tsm_r50_8f": (0.001, 64, 25, [10, 20], None, 5e-4),
    "kinetics400/tada2d_r50_8x8": (0.24, 128, 100, 8, 0.01, 1e-4),
    "kinetics400/tada2d_r50_16x5": (0.12, 64, 100, 8, 0.01, 1e-4),
    "ssv2/tada2d_r50_8f": (0.48, 128, 64, 4, 1e-4, 1e-4),
    "ssv2/tada2d_r50_16f": (0.24, 64, 64, 4, 1e-4, 1e-4),
    "epic100/tada2d_r50_8x8": (0.48, 128, 50, 10, 0.01, 1e-4),
    "kinetics400/tadaconvnext_tiny_16x5": (4e-4, 128, 100, 8, 1e-6, 1e-3),
    "ssv2/tadaconvnext_base_16f": (2e-4, 64, 64, 4, 1e-6, 1e-3),
    "kinetics400/tadaconvnextv2_tiny_16x5": (5e-4, 512, 100, 8, 1e-6, 0.02),
    "kinetics400/tadaconvnextv2_tiny_32x2": (2.5e-4, 256, 100, 8, 1e-6, 0.02),
    "ssv2/tadaconvnextv2_small_16f": (2.5e-4, 256, 64, 2.5, 1e-6, 0.02),
    "kinetics400/tadaformer_b16_16f": (5e-5, 256, 30, 5, 1e-6, 0.05),
    "kinetics400/tadaformer_l14_16f": (2e-5, 64, 24, 5, 1e-6, 0.05),
    "ssv2/tadaformer_b16_16f": (5e-4, 256, 24, 4, 1e-8, 0.05),
    "ssv2/tadaformer_l14_16f": (2.5e-4, 128, 24, 4, 1e-8, 0.05),
    "kinetics400/timesformer_hr_16x16": (0.005, 64, 15, [11, 14], None, 1e-4),
    "kinetics400/uniformer_s_8x8": (4e-4, 128, 100, 10, 1e-6, 0.05),
    "kinetics400/uniformer_b_16x8": (1.25e-4, 40, 110, 10, 1e-6, 0.05),
    "kinetics400/uniformer_xxs_16f_160": (8e-4, 256, 110, 10, 1e-6, 0.1),
    "kinetics400/uniformer_xxs_8f_128": (4e-4, 256, 110, 10, 1e-6, 0.1),
    "kinetics400/uniformer_xs_32f_192": (4e-4, 128, 110, 10, 1e-6, 0.05),
    "kinetics600/uniformer_s_16x4": (3e-4, 96, 110, 10, 1e-6, 0.05),
    "kinetics600/uniformer_b_32x4": (4e-4, 128, 110, 10, 1e-6, 0.05),
    "ssv1/uniformer_b_16f": (2.5e-4, 40, 60, 5, 1e-6, 0.05),
    "ssv2/uniformer_s_32f": (2e-4, 32, 50, 5, 1e-6, 0.05),
    "hmdb51/uniformer_s_16x4": (5e-5, 128, 25, 5, 1e-6, 0.05),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rates_and_batches_are_the_published_ones(recipes, name):
    recipe = recipes[name]
    optimizer, schedule = model_of(recipe)["optimizer"], model_of(recipe)["schedule"]
    videos = recipe.config["run"]["videos_per_step"]
    rate = optimizer["lr"] * videos / optimizer["reference_batch_size"]
    first = schedule["warmup_start"] * rate if "warmup_start" in schedule else None
    turns = schedule.get("milestones", schedule.get("warmup_epochs"))
    *published, first_rate, decay = PUBLISHED[name]
    assert [pytest.approx(rate), videos, recipe.config["trainer"]["max_epochs"], turns] == published
    assert first == (first_rate if first_rate is None else pytest.approx(first_rate, rel=1e-4))
    assert optimizer["weight_decay"] == decay


def test_views_and_scores_are_the_published_ones(recipes):
    told = {
        "kinetics400/tsm_r50_8x8": ("10 clips x 3 crops of 256 pixels", ("74.1",)),
        "ssv2/tsm_r50_16f": ("2 clips x 3 crops of 256 pixels", ("63.1",)),
        "kinetics400/tada2d_r50_16x5": ("10 clips x 3 crops of 256 pixels", ("77.4", "93.1")),
        "ssv2/tadaconvnextv2_base_32f": ("2 clips x 3 crops of 256 pixels", ("71.1",)),
        "kinetics400/tadaformer_l14_64f": ("4 clips x 3 crops of 224 pixels", ("89.9",)),
        "ssv2/slowfast_r50_tada_8x8": ("2 clips x 3 crops of 256 pixels", ("63.88",)),
        "kinetics400/timesformer_hr_16x16": ("1 clip x 3 crops of 448 pixels", ("79.7", "94.4")),
        "howto100m/timesformer_base_32x32": ("clips side by side x 3 crops of 224 pixels", ("61.2",)),
        "ssv1/uniformer_b_32f": ("1 clip x 3 crops of 224 pixels", ("60.9", "87.3")),
        "kinetics400/uniformer_xxs_4f_160": ("1 clip x 1 crop of 160 pixels", ("65.8",)),
        "epic100/tada2d_r50_8x8": ("10 clips x 3 crops of 256 pixels", ()),
    }
    assert {name: (recipes[name].fields["Views"], recipes[name].scores) for name in told} == told


def test_what_is_not_published_says_so_and_has_a_guess(recipes):
    unpublished = [name for name, recipe in recipes.items() if not recipe.scores]
    assert len(unpublished) == 11
    assert all("Guess" in recipes[name].fields or "Disagree" in recipes[name].fields for name in unpublished)


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
