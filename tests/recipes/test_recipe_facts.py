"""Recipes say what papers and their code say: rates, batches, epochs, views, scores, and the rules of each family."""

import re
from dataclasses import fields

import pytest

from kinema.models import list_models, list_options
from kinema.sweeps.recipes import read_recipes
from kinema.training.optim import Optimizer

from conftest import REPOSITORY

FOLDER = REPOSITORY / "experiments" / "recipes"


@pytest.fixture(scope="module")
def recipes():
    """All recipes by data set and name, such as ssv2/tsm_r50_8f."""
    return {recipe.path.relative_to(FOLDER).with_suffix("").as_posix(): recipe for recipe in read_recipes(FOLDER)}


def model_of(recipe):
    return recipe.config["model"]["init_args"]


def family_of(recipe):
    return recipe.config["model"]["class_path"].rpartition(".")[2]


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


def test_the_cosine_begins_where_the_code_of_the_family_has_it(recipes):
    from_start = ("TAda2D", "TAdaConvNeXt", "SlowOnly", "SlowFast", "R3D", "R2Plus1D")
    counted = {True: 0, False: 0}
    for name, recipe in recipes.items():
        schedule = model_of(recipe)["schedule"]
        if schedule["name"] == "cosine":
            wanted = family_of(recipe) in from_start
            assert schedule.get("cosine_from", "warmup") == ("start" if wanted else "warmup"), name
            assert schedule["final"] == 0 or not wanted, name
            counted[wanted] += 1
    assert counted == {True: 57, False: 43}


FAMILIES = {
    # name: (rate for 1,000 videos in a step, epochs, views); the first that fits
    r"kinetics400/tsm_\w+_\d+f": (0.15625, 50, "1 clip x 10 crops of 224"),
    r"kinetics400/tsm": (0.15625, 100, "10 clips x 3 crops of 256"),
    r"(ssv.|jester)/tsm": (0.15625, 50, "2 clips x 3 crops of 256"),
    r"(ucf101|hmdb51)/tsm": (0.015625, 25, "2 clips x 3 crops of 256"),
    r"epic100/tada2d": (3.75, 50, "10 clips x 3 crops of 256"),
    r"kinetics400/(tada2d|slow|r3d|r2plus1d)": (1.875, 100, "10 clips x 3 crops of 256"),
    r"ssv2/(tada2d|slow|r3d|r2plus1d)": (3.75, 64, "2 clips x 3 crops of 256"),
    r"kinetics400/tadaconvnext_": (3.125e-3, 100, "4 clips x 3 crops of 256"),
    r"ssv2/tadaconvnext_": (3.125e-3, 64, "2 clips x 3 crops of 256"),
    r"kinetics400/tadaconvnextv2": (9.765625e-4, 100, "4 clips x 3 crops of 256"),
    r"ssv./tadaconvnextv2": (9.765625e-4, 64, "2 clips x 3 crops of 256"),
    r"kinetics400/tadaformer_b": (1.953125e-4, 30, "4 clips x 3 crops of 224"),
    r"kinetics400/tadaformer_l": (3.125e-4, 24, "4 clips x 3 crops of 224"),
    r"ssv./tadaformer": (1.953125e-3, 24, "2 clips x 3 crops of 224"),
    r"howto100m/timesformer": (0.078125, 15, "clips side by side x 3 crops of 224"),
    r"\w+/timesformer_hr": (0.078125, 15, "1 clip x 3 crops of 448"),
    r"\w+/timesformer": (0.078125, 15, "1 clip x 3 crops of 224"),
    r"kinetics400/uniformer_xxs_[48]f": (1.5625e-3, 110, "1 clip x 1 crop of "),
    r"kinetics400/uniformer_xx?s": (3.125e-3, 110, "1 clip x 1 crop of "),
    r"kinetics400/uniformer_[sb]_8x8": (3.125e-3, 100, "4 clips x 1 crop of 224"),
    r"kinetics600/uniformer_b_16x8": (3.90625e-3, 110, "4 clips x 1 crop of 224"),
    r"kinetics.00/uniformer": (3.125e-3, 110, "4 clips x 1 crop of 224"),
    r"ssv1/uniformer": (6.25e-3, 60, "1 clip x 3 crops of 224"),
    r"ssv2/uniformer": (6.25e-3, 50, "1 clip x 3 crops of 224"),
    r"(ucf101|hmdb51)/uniformer": (3.90625e-4, 25, "5 clips x 3 crops of 224"),
}


def test_rate_epochs_and_views_of_every_family(recipes):
    used = set()
    for name, recipe in recipes.items():
        kind = next(kind for kind in FAMILIES if re.match(kind, name))
        used.add(kind)
        rate, epochs, views = FAMILIES[kind]
        if views.endswith("of "):  # light networks are named by the size of their frames
            views += name.rpartition("_")[2]
        optimizer = model_of(recipe)["optimizer"]
        assert optimizer["lr"] * 1000 / optimizer["reference_batch_size"] == pytest.approx(rate), name
        assert recipe.config["trainer"]["max_epochs"] == epochs, name
        assert recipe.fields["Views"] == f"{views} pixels", name
    assert used == set(FAMILIES)


def test_parameter_groups_are_those_of_the_family(recipes):
    presets = {
        "TSM": Optimizer.tsm(),
        **dict.fromkeys(("TAda2D", "SlowOnly", "SlowFast", "R3D", "R2Plus1D"), Optimizer.tada2d()),
        "TAdaConvNeXt": Optimizer.tadaconvnextv2(),
        "TAdaFormer": Optimizer.tadaformer(),
        "TimeSformer": Optimizer.timesformer(),
        "UniFormer": Optimizer.uniformer(),
    }
    scales = [field.name for field in fields(Optimizer) if "scale" in field.name]
    for name, recipe in recipes.items():
        preset = Optimizer.tadaconvnext() if "tadaconvnext_" in name else presets[family_of(recipe)]
        given = Optimizer(**model_of(recipe)["optimizer"])
        for option in (*scales, "name", "nesterov", "decay_all", "decay_one_axis"):
            assert getattr(given, option) == getattr(preset, option), (name, option)
        assert given.layer_decay == (0.85 if "_l14_" in name else preset.layer_decay), name


REGULARISATION = {
    # name: (stochastic depth, weight decay, RandAugment); the first that fits
    r"(ucf101|hmdb51|ssv.|jester)/tsm": (None, 5e-4, None),
    r"kinetics400/tsm_mobile": (None, 2e-5, None),
    r"kinetics400/tsm": (None, 1e-4, None),
    r"\w+/(tada2d|slow|r3d|r2plus1d)": (None, 1e-4, None),
    r"\w+/tadaconvnext_": (0.4, 1e-3, "rand-m7-n4-mstd0.5-inc1"),
    r"kinetics400/tadaconvnextv2_tiny": (0.2, 0.02, "rand-m9-n4-mstd0.5-inc1"),
    r"kinetics400/tadaconvnextv2_small": (0.4, 0.02, "rand-m9-n4-mstd0.5-inc1"),
    r"ssv./tadaconvnextv2_tiny": (0.3, 0.02, "rand-m9-n4-mstd0.5-inc1"),
    r"ssv./tadaconvnextv2_small": (0.5, 0.02, "rand-m9-n4-mstd0.5-inc1"),
    r"\w+/tadaconvnextv2_base": (0.6, 0.02, "rand-m9-n4-mstd0.5-inc1"),
    r"ssv./tadaformer_l": (0.2, 0.05, "rand-m9-n4-mstd0.5-inc1"),
    r"\w+/tadaformer": (0.0, 0.05, "rand-m9-n4-mstd0.5-inc1"),
    r"\w+/timesformer": (0.1, 1e-4, None),
    r"\w+/uniformer_xxs": (0.05, 0.1, "rand-m5-n2-mstd0.25"),
    r"\w+/uniformer_xs": (0.1, 0.05, "rand-m5-n2-mstd0.25"),
    r"(ucf101|hmdb51)/uniformer": (0.2, 0.05, "rand-m5-n2-mstd0.25"),
    r"kinetics.00/uniformer_s": (0.1, 0.05, "rand-m7-n4-mstd0.5-inc1"),
    r"kinetics.00/uniformer_b": (0.3, 0.05, "rand-m7-n4-mstd0.5-inc1"),
    r"ssv1/uniformer_s": (0.2, 0.05, "rand-m7-n4-mstd0.5-inc1"),
    r"ssv1/uniformer_b": (0.6, 0.05, "rand-m7-n4-mstd0.5-inc1"),
    r"ssv2/uniformer_s": (0.3, 0.05, "rand-m7-n4-mstd0.5-inc1"),
    r"ssv2/uniformer_b_16f": (0.4, 0.05, "rand-m7-n4-mstd0.5-inc1"),
    r"ssv2/uniformer_b_32f": (0.5, 0.05, "rand-m7-n4-mstd0.5-inc1"),
}


def test_regularisation_of_every_family(recipes):
    used = set()
    for name, recipe in recipes.items():
        kind = next(kind for kind in REGULARISATION if re.match(kind, name))
        used.add(kind)
        model, data = model_of(recipe), recipe.data
        told = (model.get("drop_path"), model["optimizer"]["weight_decay"], data.get("augment", {}).get("rand_augment"))
        assert told == REGULARISATION[kind], name
        # UniFormer's is done on whole frames and takes turns with mixing, repeats and erasing; TAdaConv's first version mixes
        # on Something-Something alone.
        whole = family_of(recipe) == "UniFormer"
        assert (data.get("augment", {}).get("before_crop", False), data.get("num_repeats", 1) == 2) == (whole, whole), (
            name
        )
        mixes = whole or name.startswith("ssv2/tadaconvnext_")
        assert ("mixing" in data, data.get("augment", {}).get("erase") == 0.25) == (mixes, mixes), name
        smooth = mixes or family_of(recipe) == "TAdaFormer"
        assert model.get("label_smoothing", 0.0) == (0.1 if smooth else 0.0), name
        assert ("ema" in recipe.config) == ("tadaconvnext_" in name), name
        assert model.get("freeze_norm") == ("all_but_first" if re.match("(ucf101|hmdb51)/tsm", name) else None), name
        dropout = {"TimeSformer": None, "UniFormer": None}.get(family_of(recipe), 0.5)
        assert model.get("dropout") == (0.8 if re.match("(ucf101|hmdb51)/tsm", name) else dropout), name
    assert used == set(REGULARISATION)


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


def test_runs_to_start_from_exist(recipes):
    named = {name: re.findall(r"[\w/]+(?=\.yaml)", recipe.path.read_text()) for name, recipe in recipes.items()}
    for name, others in named.items():
        for other in others:
            whole = other.removeprefix("experiments/recipes/")
            assert (whole if "/" in whole else f"{name.partition('/')[0]}/{whole}") in recipes, (name, other)
    assert "kinetics400/tsm_r50_8x8" in named["ucf101/tsm_r50_8f"]


def test_weights_of_others_name_networks_and_options_that_there_are():
    text = (FOLDER / "README.md").read_text().partition("## Weights of others")[2].partition("<!-- recipes")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 20
    for _, _, _, build in rows:
        words = re.findall(r"`(\w+)(?:=\w+)?`", build)
        networks = [word for word in words if word in list_models()]
        options = {option for name in networks for option in list_options(name)}
        assert build == "the same" or (networks and set(words) - set(networks) <= options), build
