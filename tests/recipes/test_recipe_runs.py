"""Each family of networks on each data set: two steps and a validation over all views, by a recipe shrunk to a CPU's size."""

import csv
import signal
from pathlib import Path

import pytest
import torch

from kinema.cli import main
from kinema.sweeps.recipes import read_recipe, read_recipes

from archives import make_archive
from conftest import REPOSITORY, metrics_of

pytestmark = pytest.mark.slow

FOLDER = REPOSITORY / "experiments" / "recipes"
SHRINK = Path(__file__).with_name("shrink.yaml")
FURTHER = (
    "kinetics400/tsm_r50_nonlocal_8x8",
    "kinetics400/tadaconvnextv2_tiny_16x5",
    "kinetics400/uniformer_xxs_16f_128",
    "ssv2/r2plus1d_r50_tada2d1d_8f",
    "ucf101/tsm_r50_online_8f",
)
"""Of a family that has another on this data set, with blocks, samples or a loss of their own."""


def one_of_each() -> list[str]:
    """The first recipe of each family on each data set."""
    first: dict[tuple[str, str], str] = {}
    for recipe in read_recipes(FOLDER):
        name = recipe.path.relative_to(FOLDER).with_suffix("").as_posix()
        first.setdefault((recipe.dataset, recipe.config["model"]["class_path"]), name)
    return sorted({*first.values(), *FURTHER})


RUNS = one_of_each()


def test_all_of_them_are_found():
    assert len(RUNS) == 39, RUNS


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The folder of a small archive, made once."""
    made: dict[str, Path] = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / name
            make_archive(name, made[name])
        return made[name]

    return make


def smaller(recipe) -> list[str]:
    """What the overlay cannot say, for recipes differ in it."""
    options = recipe.config["model"]["init_args"]
    size = "backbone" if "backbone" in options else "size"
    given = {f"model.{size}": "nano"}
    given |= {f"model.{name}": value for name, value in {"num_frames": "4", "alpha": "4"}.items() if name in options}
    given |= {"model.checkpointing": "false"} if "checkpointing" in options else {}
    given |= {"model.light": "true", "model.class_head": "true"} if options.get("size") in ("xxs", "xs") else {}
    given |= {"data.train_jitter": "[36, 40]"} if "train_jitter" in recipe.data else {}
    given |= {"data.min_videos": "2"} if recipe.dataset == "HowTo100M" else {}
    return [f"--{name}={value}" for name, value in given.items()]


@pytest.mark.parametrize("name", RUNS)
def test_two_steps_and_one_validation(archives, tmp_path, capsys, name):
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    place = [f"--data.root={archives(name.partition('/')[0])}", f"--run.root={tmp_path}"]
    before = signal.getsignal(signal.SIGTERM)
    arguments = ["fit", "--config", str(recipe.path), "--config", str(SHRINK), *place, *smaller(recipe)]
    status = main(arguments)
    signal.signal(signal.SIGTERM, before)
    output = capsys.readouterr()
    assert status == 0, output.err
    run = Path(output.out.splitlines()[-1])
    metrics = metrics_of(run)
    assert (metrics["steps"], metrics["epochs"], metrics["undecodable"]) == (2, 1, 0)
    rows = list(csv.DictReader((run / "val_scores.csv").read_text().splitlines()))
    assert len(rows) == metrics["videos"] >= 6
    views = {int(row["views"]) for row in rows}
    crops = recipe.data["num_crops"]
    if recipe.data.get("clip_kind") == "uniform":
        assert all(count % crops == 0 and count >= crops for count in views)
    else:
        assert views == {recipe.data["num_clips"] * crops}
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert ("trained_weights" in checkpoint) == ("ema" in recipe.config)
    # DDP takes a parameter without a gradient for an error, and no recipe tells it to look for them.
    (optimizer,) = checkpoint["optimizer_states"]
    assert len(optimizer["state"]) == sum(len(group["params"]) for group in optimizer["param_groups"])


def test_weights_of_others_are_evaluated_over_the_views_of_a_recipe(archives, tmp_path, capsys):
    recipe = read_recipe(FOLDER / "ssv2" / "tsm_r50_8f.yaml")
    place = [f"--data.root={archives('ssv2')}", f"--run.root={tmp_path}", "--model.backbone=nano"]
    told = {}
    for command, *given in (["fit"], ["validate"]):
        if told:
            given = [f"--init_from={told['run']}"]
        before = signal.getsignal(signal.SIGTERM)
        assert main([command, "--config", str(recipe.path), "--config", str(SHRINK), *place, *given]) == 0
        signal.signal(signal.SIGTERM, before)
        run = Path(capsys.readouterr().out.splitlines()[-1])
        scores = (run / "val_scores.csv").read_text()
        assert told.setdefault("scores", scores) == scores
        told["run"] = run
