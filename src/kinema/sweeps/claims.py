"""What a paper says of the variants of an experiment, and whether the runs agree.

    {variant: tada, above: plain}          top-1 of tada minus that of plain is above 0, seed by seed
    {variant: tada, above: plain, by: 5}   above 5 points
    {variant: frozen, near: plain, by: 2}  within 2 points
    {variant: space, at_most: 50}          the mean over seeds is at most 50 %
    {variant: joint, at_least: 90}
    {variant: tsm, at_most: 15, metric: top1_reversed}    with the frames of every video in reverse

A claim with `paper` is the paper's, one without is our own expectation; tables keep the two apart. "above" is about the
direction alone unless it has `by`: the paper's figure stands beside what was measured.

A claim is judged by a 95 % interval (Student's t): it *agrees* if the whole interval fulfils it, *disagrees* if none of
the interval does, and is *undecided* between the two. Without two seeds of what it is about it is *not run*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from kinema.sweeps.collect import Difference, RunRow, mean_interval, paired_difference

Verdict = Literal["agrees", "disagrees", "undecided", "not run"]
Kind = Literal["above", "near", "at_most", "at_least"]
_KINDS = get_args(Kind)
_METRICS = {
    "top1": "",
    "top5": " (top-5)",
    "top1_shuffled": " (shuffled)",
    "top1_reversed": " (reversed)",
    "top1_frozen": " (frozen)",
}
"""Columns that a claim can be about, and what tables say of them behind the variant."""


@dataclass(frozen=True)
class Claim:
    """One sentence that runs can contradict.

    Args:
        variant: What it is about.
        kind: "above" and "near" compare with another variant, "at_most" and "at_least" with a number.
        other: That variant.
        points: That number, or by how much, in points of top-1.
        paper: What the paper says and where, in words; empty for our own expectation.
        metric: Which column of the results.
    """

    variant: str
    kind: Kind
    other: str | None
    points: float
    paper: str = ""
    metric: str = "top1"

    @property
    def source(self) -> str:
        """Who says it, for a table."""
        return self.paper or "our expectation"

    def __str__(self) -> str:
        subject = self.variant + _METRICS[self.metric]
        if self.kind == "above":
            return f"{subject} above {self.other}" + (f" by {self.points:g} points" if self.points else "")
        if self.kind == "near":
            return f"{subject} within {self.points:g} points of {self.other}"
        return f"{subject} {self.kind.replace('_', ' ')} {self.points:g} %"


def read_claim(told: Any, variants: Sequence[str]) -> Claim:
    """A claim as a sweep file has it.

    Raises:
        ValueError: If it is none, names a variant that is none, compares a variant with itself, or has a number that is
            none or a share outside 0 to 100 %.
    """
    form = "write {variant: NAME, above: OTHER}, {..., near: OTHER, by: POINTS}, {..., at_most: PERCENT} or at_least"
    if not isinstance(told, Mapping) or "variant" not in told:
        raise ValueError(f"the claim {told!r} names no variant; {form}")
    kinds = [kind for kind in _KINDS if kind in told]
    unknown = sorted(set(told) - {"variant", "by", "paper", "metric", *_KINDS})
    if len(kinds) != 1 or unknown:
        raise ValueError(f"the claim {dict(told)!r} is not understood; {form}")
    (kind,) = kinds
    other = str(told[kind]) if kind in ("above", "near") else None
    for name in (told["variant"], other):
        if name is not None and name not in variants:
            raise ValueError(f"a claim names {name!r}, which is no variant; the variants are {', '.join(variants)}")
    if kind == "near" and "by" not in told:
        raise ValueError(f"the claim {dict(told)!r} does not say how near; add by, in points")
    metric = told.get("metric", "top1")
    if metric not in _METRICS:
        raise ValueError(f"a claim is about {metric!r}, which is none of {', '.join(_METRICS)}")
    if other == told["variant"]:
        raise ValueError(f"the claim {dict(told)!r} compares {other} with itself; name another variant")
    if other is None and "by" in told:
        raise ValueError(f"the claim {dict(told)!r} has by, which says how far two variants lie apart; leave it out")
    points = told.get("by", 0) if other is not None else told[kind]
    if isinstance(points, bool) or not isinstance(points, int | float):
        raise ValueError(f"the claim {dict(told)!r} has {points!r} in place of a number; give percent, or points")
    if other is None and not 0 <= points <= 100:
        raise ValueError(f"the claim {dict(told)!r} is about {points} %; shares lie between 0 and 100 %")
    return Claim(told["variant"], cast(Kind, kind), other, float(points), told.get("paper", ""), metric)


def judge(claim: Claim, rows: Sequence[RunRow]) -> tuple[Verdict, Difference | None]:
    """The verdict of some runs, and what was measured, in shares; "not run" and None without two seeds."""
    rows = [row for row in rows if getattr(row, claim.metric) is not None]
    try:
        if claim.other is not None:
            measured = paired_difference(rows, claim.variant, claim.other, claim.metric)
        else:
            measured = mean_interval(rows, claim.variant, claim.metric)
    except ValueError:
        return "not run", None
    low, high, points = 100 * measured.low, 100 * measured.high, claim.points
    if claim.kind == "above":
        fulfilled, contradicted = low > points, high < points
    elif claim.kind == "at_least":
        fulfilled, contradicted = low >= points, high < points
    elif claim.kind == "at_most":
        fulfilled, contradicted = high <= points, low > points
    else:
        fulfilled, contradicted = -points <= low and high <= points, low > points or high < -points
    return ("agrees" if fulfilled else "disagrees" if contradicted else "undecided"), measured


def verdict_table(claims: Sequence[Claim], rows: Sequence[RunRow]) -> str:
    """One line a claim: what the paper says, what was measured, the verdict."""
    lines = ["| claim | the paper | measured, points with 95 % interval | verdict |", "|---|---|---|---|"]
    for claim in claims:
        verdict, measured = judge(claim, rows)
        sign = "+" if claim.other is not None else ""
        figures = "needs two seeds"
        if measured is not None:
            mean, low, high = (f"{100 * value:{sign}.1f}" for value in (measured.mean, measured.low, measured.high))
            figures = f"{mean} [{low}, {high}]"
        lines.append(f"| {claim} | {claim.source} | {figures} | **{verdict}** |")
    return "\n".join(lines)
