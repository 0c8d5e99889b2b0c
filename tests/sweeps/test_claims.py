"""Verdicts by the interval, against numbers worked out by hand."""

from dataclasses import replace

import pytest

from kinema.sweeps.claims import judge, read_claim, verdict_table
from kinema.sweeps.collect import RunRow


def rows(**tops):
    return [
        RunRow(variant, seed, top1, 1.0, 50, 0, 3, 1.0, "c", False, "cpu", 1, f"seed{seed}")
        for variant, values in tops.items()
        for seed, top1 in enumerate(values)
    ]


# Differences 0.10, 0.08, 0.15: 11.0 points [2.04, 19.96].
PAIR = rows(a=(0.70, 0.72, 0.77), b=(0.60, 0.64, 0.62))


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ({"variant": "a", "above": "b"}, "agrees"),
        ({"variant": "b", "above": "a"}, "disagrees"),
        ({"variant": "a", "above": "b", "by": 2.0}, "agrees"),
        ({"variant": "a", "above": "b", "by": 2.1}, "undecided"),
        ({"variant": "a", "above": "b", "by": 20}, "disagrees"),
        ({"variant": "a", "near": "b", "by": 20}, "agrees"),
        ({"variant": "a", "near": "b", "by": 19}, "undecided"),
        ({"variant": "a", "near": "b", "by": 2}, "disagrees"),
        ({"variant": "b", "near": "a", "by": 2}, "disagrees"),
        # a: mean 73, s = 3.6056, half width 8.957: [64.04, 81.96]
        ({"variant": "a", "at_least": 64}, "agrees"),
        ({"variant": "a", "at_least": 65}, "undecided"),
        ({"variant": "a", "at_least": 82}, "disagrees"),
        ({"variant": "a", "at_most": 82}, "agrees"),
        ({"variant": "a", "at_most": 81}, "undecided"),
        ({"variant": "a", "at_most": 64}, "disagrees"),
    ],
)
def test_verdicts(claim, verdict):
    assert judge(read_claim(claim, ["a", "b"]), PAIR)[0] == verdict


def test_equal_in_every_seed_is_not_above_but_near_and_at_most():
    same = rows(a=(0.5, 0.5), b=(0.5, 0.5))
    assert judge(read_claim({"variant": "a", "above": "b"}, ["a", "b"]), same)[0] == "undecided"
    assert judge(read_claim({"variant": "a", "near": "b", "by": 1}, ["a", "b"]), same)[0] == "agrees"
    assert judge(read_claim({"variant": "a", "at_most": 50}, ["a", "b"]), same)[0] == "agrees"


def test_one_seed_decides_nothing():
    claim = read_claim({"variant": "a", "above": "b", "paper": "+9.4"}, ["a", "b"])
    one = rows(a=(0.9,), b=(0.1,))
    assert judge(claim, one) == ("not run", None)
    assert "| a above b | +9.4 | needs two seeds | **not run** |" in verdict_table([claim], one)
    assert "| +11.0 [+2.0, +20.0] | **agrees** |" in verdict_table([claim], PAIR)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("a above b", "names no variant"),
        ({"variant": "a"}, "is not understood"),
        ({"variant": "a", "above": "b", "at_most": 3}, "is not understood"),
        ({"variant": "a", "over": "b", "above": "b"}, "is not understood"),
        ({"variant": "a", "near": "b"}, "add by, in points"),
        ({"variant": "a", "above": "c"}, "names 'c', which is no variant"),
        ({"variant": "a", "above": "a"}, "compares a with itself"),
        ({"variant": "a", "at_most": 50, "by": 7}, "has by, which says how far two variants"),
        ({"variant": "a", "at_most": 150}, "is about 150 %; shares lie between 0 and 100 %"),
        ({"variant": "a", "at_least": "high"}, "has 'high' in place of a number"),
        ({"variant": "a", "above": "b", "by": True}, "has True in place of a number"),
        ({"variant": "a", "at_most": 9, "metric": "loss"}, "about 'loss', which is none of top1, top5, top1_shuffled"),
    ],
)
def test_claims_that_are_none(claim, told):
    with pytest.raises(ValueError, match=told):
        read_claim(claim, ["a", "b"])


def test_what_we_expect_is_told_apart_from_what_a_paper_says():
    variants = ["a", "b"]
    theirs = read_claim({"variant": "a", "above": "b", "paper": "+9.4"}, variants)
    ours = read_claim({"variant": "a", "at_most": 50}, variants)
    assert theirs.source == "+9.4" and ours.source == "our expectation"


def test_a_claim_about_another_order_of_frames_reads_its_column_and_says_so():
    backwards = [replace(row, top1_reversed=share) for row, share in zip(PAIR[:3], (0.01, 0.02, 0.03), strict=True)]
    claim = read_claim({"variant": "a", "at_most": 5, "metric": "top1_reversed"}, ["a", "b"])
    assert str(claim) == "a (reversed) at most 5 %" and judge(claim, backwards)[0] == "agrees"
    assert judge(claim, PAIR) == ("not run", None)  # those runs were not asked for it
    assert (
        str(read_claim({"variant": "a", "above": "b", "by": 2, "metric": "top5"}, ["a", "b"]))
        == "a (top-5) above b by 2 points"
    )


def test_all_at_the_figure_are_at_least_it():
    whole = rows(a=(1.0, 1.0, 1.0))
    assert judge(read_claim({"variant": "a", "at_least": 100}, ["a"]), whole)[0] == "agrees"
