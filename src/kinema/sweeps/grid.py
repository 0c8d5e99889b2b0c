"""A sweep file: the variants of an experiment, and the runs they come to.

base: base.yaml                # a complete configuration of `kinema fit`
seeds: [0, 1, 2]
all: {trainer.max_epochs: 3}   # what every variant changes
baseline: plain                # the variant that others are compared with, seed by seed
variants:                      # name: what it changes; {base: other.yaml} starts from another file
  plain: {model.init_args.shift_fraction: 0}
  eighth: {model.init_args.shift_fraction: 0.125}
grid:                          # beside or instead of variants: every combination
  model.init_args.shift_fraction: [0, 0.25]
  model.init_args.residual: [true, false]
claims:                        # what the paper says, judged by the runs, see `kinema.sweeps.claims`
  - {variant: eighth, above: plain, paper: "table 2: +17.1"}

Values and files may name environment variables, such as ${UTD_MHAD_DEPTH}/index.csv: what is on one machine alone stays out
of the file, and out of the ids of the runs.
"""

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from kinema.sweeps.claims import Claim, read_claim

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_KEYS = {"all", "base", "seeds", "baseline", "variants", "grid", "claims", "title"}


class SweepError(ValueError):
    """A sweep file that cannot be run as it is; the text says what to change."""


@dataclass(frozen=True)
class Variant:
    """One answer to the question of an experiment.

    Args:
        name: Of the variant.
        base: The configuration it starts from.
        changes: Option to value, such as `model.init_args.shift_fraction`.
    """

    name: str
    base: Path
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepRun:
    """One variant with one seed.

    Args:
        experiment: Name of the experiment.
        variant: What is run.
        seed: Of everything.
        extra: Options given to all runs of the sweep.
    """

    experiment: str
    variant: Variant
    seed: int
    extra: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """Follows from what is run: the content of the base, the changes, the options given to all, and the seed.

        Of `run` in the base only the size of an optimiser step counts: the rest says where and how a run is recorded.
        Read once, so that a base that is edited while its sweep runs changes nothing of that sweep.
        """
        base = yaml.safe_load(self.variant.base.read_text(encoding="utf-8"))
        base.pop("seed_everything", None)
        recorded = base.pop("run", None) or {}
        if recorded.get("videos_per_step") is not None:
            base["run"] = {"videos_per_step": recorded["videos_per_step"]}
        told = json.dumps([base, dict(self.variant.changes), list(self.extra), self.seed], sort_keys=True, default=str)
        return f"seed{self.seed}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def folder(self, root: Path) -> Path:
        """Where the run records itself."""
        return root / self.experiment / self.variant.name / self.id

    def arguments(self, root: Path) -> list[str]:
        """What `kinema` is called with.

        Raises:
            SweepError: If an environment variable that is named is not set.
        """
        changes = [
            f"--{option}={self._filled_in(value) if isinstance(value, str) else json.dumps(value)}"
            for option, value in self.variant.changes.items()
        ]
        where = [f"--run.root={root}", f"--run.name={self.experiment}/{self.variant.name}", f"--run.id={self.id}"]
        groups = [f"--run.group={self.experiment}", f"--run.job_type={self.variant.name}"]
        seed = f"--seed_everything={self.seed}"
        return ["fit", "--config", str(self.variant.base), *changes, *self.extra, seed, *where, *groups]

    def _filled_in(self, value: str) -> str:
        for name in _VARIABLE.findall(value):
            if not os.environ.get(name):
                raise SweepError(
                    f"the variant {self.variant.name} needs the environment variable {name}, which is not set; see the "
                    "README of the experiment for what it names"
                )
            value = value.replace(f"${{{name}}}", os.environ[name])
        return value


@dataclass(frozen=True)
class Sweep:
    """All runs of an experiment.

    Args:
        name: Of the experiment, that of its folder; with the part behind it if there is one.
        folder: Of the experiment.
        part: "" for `sweep.yaml`; "real" for `sweep-real.yaml`, the same question at another scale.
        variants: In the order of the file.
        seeds: Each variant is run with.
        baseline: Variant that others are compared with.
        claims: What is judged.
        title: Of the picture.
    """

    name: str
    folder: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    baseline: str | None = None
    claims: tuple[Claim, ...] = ()
    title: str = ""
    part: str = ""

    @property
    def results(self) -> str:
        """Name of the file that has a row for every run, beside the sweep file."""
        return f"results-{self.part}.csv" if self.part else "results.csv"

    @property
    def figure(self) -> str:
        """Name of the picture beside it."""
        return f"figure-{self.part}.png" if self.part else "figure.png"

    @property
    def pairs(self) -> dict[str, str]:
        """Variants that claims compare with another one in top-1, and that one; what a sweep without a baseline is about."""
        return {one.variant: one.other for one in self.claims if one.other is not None and one.metric == "top1"}

    def need_places(self) -> None:
        """Look for the files and folders that environment variables name, once and not in every run.

        Raises:
            SweepError: If one is not there. A value without a separator, such as a name or a number, is no place.
        """
        values = [value for variant in self.variants for value in variant.changes.values() if isinstance(value, str)]
        for name in dict.fromkeys(name for value in values for name in _VARIABLE.findall(value)):
            place = os.environ.get(name, "")
            if os.sep in place and not Path(place).exists():
                raise SweepError(
                    f"{name}={place} names no file or folder here; see the README of the experiment for it"
                )

    def runs(self, extra: Sequence[str] = ()) -> Iterator[SweepRun]:
        """Seed by seed, so that a sweep that is stopped has compared all variants already."""
        for seed, variant in itertools.product(self.seeds, self.variants):
            yield SweepRun(self.name, variant, seed, tuple(extra))


def read_sweep(file: str | Path) -> Sweep:
    """Read a sweep file, or sweep.yaml of a folder.

    Raises:
        SweepError: If it names an unknown key or one twice, has no variant, two of one name or of one content, a value that
            is no number, or compares with a variant that it does not have.
        FileNotFoundError: If the file, or the base of a variant, is not there.
    """
    file = Path(file)
    if file.is_dir():
        file = file / "sweep.yaml"
    if not file.is_file():
        others = ", ".join(str(other) for other in sorted(file.parent.glob("sweep-*.yaml")))
        raise FileNotFoundError(
            f"the sweep file {file} does not exist; "
            + (f"there are {others}" if others else "try experiments/shift_fraction/sweep.yaml")
        )
    text = file.read_text(encoding="utf-8")
    try:
        _check_keys(file, yaml.compose(text, yaml.SafeLoader))
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SweepError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, dict):
        raise SweepError(f"{file} holds no mapping; write base, seeds and variants, see kinema.sweeps.grid")
    unknown = sorted(set(told) - _KEYS)
    if unknown:
        near = get_close_matches(str(unknown[0]), _KEYS, n=1)
        meant = f", {near[0]} is;" if near else ";"
        keys = ", ".join(sorted(_KEYS))
        raise SweepError(f"{file}: {', '.join(map(str, unknown))} is no key of a sweep{meant} the keys are {keys}")
    common = told.get("all") or {}
    if not isinstance(common, dict):
        raise SweepError(f"{file}: all is {type(common).__name__}; write an option and its value for each change")
    variants = [
        replace(variant, changes={**common, **variant.changes})
        for variant in (*_listed(file, told), *_combined(file, told))
    ]
    if not variants:
        raise SweepError(f"{file} has no variant; write some below variants or grid")
    _check_distinct(file, variants)
    seeds = told.get("seeds", [0, 1, 2])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise SweepError(f"{file}: seeds={seeds!r}; give a list of whole numbers, such as [0, 1, 2]")
    if len(set(seeds)) < len(seeds):
        raise SweepError(f"{file}: seeds={seeds} names one twice; a seed is run once")
    names = [variant.name for variant in variants]
    baseline = told.get("baseline")
    if baseline is not None and baseline not in names:
        raise SweepError(f"{file}: the baseline {baseline!r} is no variant; the variants are {', '.join(names)}")
    try:
        claims = tuple(read_claim(claim, names) for claim in told.get("claims") or [])
    except ValueError as error:
        raise SweepError(f"{file}: {error}") from error
    part = "" if file.stem == "sweep" else file.stem.removeprefix("sweep-")
    name = "-".join(filter(None, [file.parent.resolve().name, part]))
    return Sweep(name, file.parent, tuple(variants), tuple(seeds), baseline, claims, told.get("title", ""), part)


def _check_keys(file: Path, node: yaml.Node | None) -> None:
    """Refuse a key that stands twice: YAML's readers keep the last one, and the first variant of a name would be gone."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(file, item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                raise SweepError(f"{file}, line {line}: {key.value} stands there twice; give each its own name")
            seen.add(key.value)
            _check_keys(file, value)


def _listed(file: Path, told: Mapping[str, Any]) -> Iterator[Variant]:
    variants = told.get("variants") or {}
    if not isinstance(variants, dict):
        raise SweepError(f"{file}: variants is {type(variants).__name__}; write a name and its changes for each")
    for name, changes in variants.items():
        changes = dict(changes or {})
        yield Variant(_name(file, str(name)), _base(file, changes.pop("base", told.get("base"))), changes)


def _combined(file: Path, told: Mapping[str, Any]) -> Iterator[Variant]:
    grid = told.get("grid")
    if grid is None:
        return
    if not isinstance(grid, dict) or not grid:
        raise SweepError(f"{file}: the grid is empty; write an option and a list of values for each axis")
    for option, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SweepError(f"{file}: the grid gives {option} no list of values, but {values!r}; give at least one")
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        name = ",".join(f"{option.rpartition('.')[2]}={_short(value)}" for option, value in changes.items())
        yield Variant(_name(file, name), _base(file, told.get("base")), changes)


def _short(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _name(file: Path, name: str) -> str:
    if not name or any(letter in name for letter in "/\\|") or name.startswith("."):
        raise SweepError(f"{file}: the variant {name!r} cannot name a folder; use letters, digits, = , and _")
    return name


def _base(file: Path, base: Any) -> Path:
    if base is None:
        raise SweepError(f"{file} has no base; name the configuration that variants start from")
    path = file.parent / str(base)
    if not path.is_file():
        raise FileNotFoundError(
            f"{file}: the base {path} does not exist; give a configuration of kinema fit, as seen from the sweep file"
        )
    return path


def _check_distinct(file: Path, variants: Sequence[Variant]) -> None:
    seen: dict[str, str] = {}
    for variant in variants:
        for value in variant.changes.values():
            if isinstance(value, float) and not math.isfinite(value):
                raise SweepError(f"{file}: the variant {variant.name} has the value {value}; give a number")
        content = SweepRun("", variant, 0).id
        if variant.name in seen.values():
            raise SweepError(f"{file}: two variants are named {variant.name}; give each its own name")
        if content in seen:
            raise SweepError(f"{file}: {seen[content]} and {variant.name} are the same run; leave one of them out")
        seen[content] = variant.name
