"""Recipes: complete configurations of published runs, each with a header that says what to expect of it and who says so.

A header is one sentence, and fields below it:

    # <model> on <data set>: <frames>.
    # Command:    kinema fit --config ...
    # Parameters: 24.3 M
    # Views:      10 clips x 3 crops of 256 pixels
    # Expected:   top-1 74.1, top-5 91.2
    # Source:     ...

What a header says of frames and views stands in the configuration too, and the two must agree: the number expected is that
of these views alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinema.sweeps.report import insert_results

TABLE_MARKS = ("<!-- recipes: written by a command, not by hand -->", "<!-- end of recipes -->")
FIELDS = ("Command", "Hardware", "Parameters", "Views", "Expected", "Source")
"""What every header has. Some also have Start (the weights to begin with), Also (other numbers of the same training),
Disagree (where sources do) and Guess (what none of them says)."""
OPTIONAL_FIELDS = ("Start", "Also", "Disagree", "Guess")


@dataclass(frozen=True)
class Recipe:
    """One published run.

    Args:
        path: Its file.
        model: Its network, in the words of the paper.
        dataset: Name of the data set.
        fields: Of the header.
        config: The configuration.
    """

    path: Path
    model: str
    dataset: str
    fields: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        """Options of the data module."""
        return self.config["data"]["init_args"]

    @property
    def frames(self) -> str:
        """Which frames of a video make a clip."""
        return frames_of(self.data)

    @property
    def parameters(self) -> float:
        """Of the network with the classes of the data set, in millions."""
        return float(self.fields["Parameters"].removesuffix(" M"))

    @property
    def scores(self) -> tuple[str, ...]:
        """Top-1 and, where it is published, top-5 in percent; none where nothing is."""
        return tuple(re.findall(r"top-[15] ([\d.]+)", self.fields["Expected"]))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe, and check that header and configuration say the same.

    Args:
        path: `<folder of recipes>/<data set>/<name>.yaml`.

    Raises:
        ValueError: If the header lacks a field, or contradicts the configuration.
    """
    text = path.read_text(encoding="utf-8")
    title, fields = _header(text, path)
    config = yaml.safe_load(text)
    data = config["data"]["init_args"]
    written = f"experiments/recipes/{path.parent.name}/{path.name}"
    if f"kinema fit --config {written} --data.root" not in fields["Command"]:
        raise ValueError(f"{path}: its command should be 'kinema fit --config {written} --data.root FOLDER ...'")
    if ("--init_from WEIGHTS" in fields["Command"]) != ("Start" in fields):
        raise ValueError(
            f"{path}: '--init_from WEIGHTS' in the command and the field Start, which names them, go together"
        )
    for what, told, meant in (("frames", title[3], frames_of(data)), ("views", fields["Views"], views_of(data))):
        if told != meant:
            raise ValueError(f"{path}: the header says of {what} '{told}' and the configuration '{meant}'; correct one")
    if config["run"]["name"] != f"{path.parent.name}-{path.stem}":
        raise ValueError(f"{path}: run.name is '{config['run']['name']}', not '{path.parent.name}-{path.stem}'")
    if not re.fullmatch(r"top-1 \d\d\.\d\d?(, top-5 \d\d\.\d)?|not published", fields["Expected"]):
        raise ValueError(
            f"{path}: 'Expected: {fields['Expected']}' cannot be read; write 'top-1 74.1', 'top-1 76.7, top-5 92.6' or "
            "'not published'"
        )
    if not re.fullmatch(r"\d+\.\d M", fields["Parameters"]):
        raise ValueError(f"{path}: 'Parameters: {fields['Parameters']}' cannot be read; write it as '24.3 M'")
    return Recipe(path, title[1], title[2], fields, config)


def read_recipes(folder: Path) -> list[Recipe]:
    """All recipes of a folder, by data set and name.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: As for `read_recipe`.
    """
    found = [read_recipe(path) for path in sorted(folder.glob("*/*.yaml"), key=_by_number)]
    if not found:
        raise FileNotFoundError(f"{folder} holds no <data set>/<name>.yaml; give the folder of recipes")
    return found


def frames_of(data: Mapping[str, Any]) -> str:
    """Which frames of a video make a clip, by the options of the data module."""
    if data["sampling"] == "segment":
        return f"{data['num_frames']} frames, one of each segment"
    rate = f" at {data['target_fps']:g} per second" if data.get("target_fps") else ""
    return f"{data['num_frames']} frames, {data['stride_frames']} apart{rate}"


def views_of(data: Mapping[str, Any]) -> str:
    """How many clips and crops of a video are evaluated, by the options of the data module."""
    clips = "clips side by side" if data.get("clip_kind") == "uniform" else _counted(data["num_clips"], "clip")
    return f"{clips} x {_counted(data['num_crops'], 'crop')} of {data.get('eval_size') or data['size']} pixels"


def write_recipes(folder: Path, *, command: str) -> list[Recipe]:
    """Write the table of all recipes into the README of their folder.

    Args:
        folder: Of the recipes; its README must have the two marks.
        command: The command that writes this again, quoted below the table.

    Raises:
        FileNotFoundError, ValueError: As for `read_recipes`, or if the README has no place for the table.
    """
    recipes = read_recipes(folder)
    parts = [f"{len(recipes)} recipes."]
    for dataset in dict.fromkeys(recipe.dataset for recipe in recipes):
        rows = [_row(recipe, folder) for recipe in recipes if recipe.dataset == dataset]
        head = "| recipe | model | frames | views | parameters | top-1 | top-5 | source |"
        parts += [f"### {dataset}", "\n".join([head, "|---|---|---|---|---|---|---|---|", *rows])]
    insert_results(folder / "README.md", "\n\n".join([*parts, f"```bash\n{command}\n```"]), marks=TABLE_MARKS)
    return recipes


def _row(recipe: Recipe, folder: Path) -> str:
    link = f"[{recipe.path.stem}]({recipe.path.relative_to(folder).as_posix()})"
    top1, top5 = (*recipe.scores, "", "")[:2]
    views = recipe.fields["Views"].removesuffix(" pixels")
    source = recipe.fields["Source"].removesuffix(".")
    cells = (
        link,
        recipe.model,
        recipe.frames,
        views,
        recipe.fields["Parameters"],
        top1 or "not published",
        top5,
        source,
    )
    return f"| {' | '.join(cells)} |"


def _header(text: str, path: Path) -> tuple[re.Match[str], dict[str, str]]:
    lines = text.splitlines()
    title = re.fullmatch(r"# (.+) on ([^:]+): (.+)\.", lines[0])
    if title is None:
        raise ValueError(f"{path}: the first line should be '# <model> on <data set>: <frames>.', found '{lines[0]}'")
    fields: dict[str, str] = {}
    name = ""
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        if found := re.fullmatch(r"# (\w+): +(\S.*)", line):
            name = found[1]
            if name in fields or name not in (*FIELDS, *OPTIONAL_FIELDS):
                raise ValueError(f"{path}: the field {name} of the header is unknown, or there twice")
            fields[name] = found[2]
        elif name and line.startswith("#    "):
            fields[name] += f" {line[1:].strip()}"
        else:
            raise ValueError(f"{path}: the line '{line}' of the header is neither a field nor the rest of one")
    missing = [name for name in FIELDS if name not in fields]
    if missing:
        raise ValueError(f"{path}: the header says nothing of {', '.join(missing)}; every recipe does")
    return title, fields


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts 8 frames before 16."""
    parts = re.findall(r"\d+|\D+", f"{path.parent.name}/{path.stem}")
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
