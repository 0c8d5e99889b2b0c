"""Pictures of runs: names beside the curves can be read."""

from kinema.sweeps.figures import _apart


def test_names_do_not_cover_each_other():
    assert _apart([50.0, 99.6, 99.8, 98.0, 20.0], 6.0) == [50.0, 99.8 - 6.0, 99.8, 99.8 - 12.0, 20.0]
    assert _apart([], 6.0) == []
