"""Growth with the frames of a clip: every network and length has its row, also the one that runs out of memory."""

import pytest

from kinema.benchmarks.growth import GrowthRow, draw_growth, growth_table, measure_growth


@pytest.mark.slow
def test_what_does_not_fit_stays_in_the_table(tmp_path):
    networks = {"small": ("timesformer_nano", {}), "wrong": ("timesformer_nano", {"num_heads": 3})}
    rows = measure_growth(networks, [2], size=64, rounds=1)
    assert [(row.name, row.num_frames) for row in rows] == [("small", 2), ("wrong", 2)]
    assert rows[0].failure is None and rows[0].median_ms > 0 and rows[0].peak_memory_mib > 0
    assert "num_heads=3 does not divide" in rows[1].failure
    (row,) = measure_growth({"large": ("timesformer_base", {})}, [2], size=224, rounds=1, memory_gib=0.3)
    assert row.failure == "out of memory"
    table = growth_table([*rows[:1], GrowthRow("small", 4, failure="out of memory")], "forward")
    assert table.splitlines()[0] == "| forward | T = 2: ms, MiB | T = 4: ms, MiB |"
    assert table.splitlines()[-1].endswith("| out of memory |")
    draw_growth(tmp_path / "growth.png", {"forward": [*rows, row]}, title="frames of 64 pixels")
    assert (tmp_path / "growth.png").stat().st_size > 5000


@pytest.mark.slow
def test_what_was_measured_before_it_was_stopped_is_not_measured_again():
    told = []
    known = [GrowthRow("small", 2, 7.0, 8.0)]
    networks = {"small": ("timesformer_nano", {}), "wrong": ("timesformer_nano", {"num_heads": 3})}
    rows = measure_growth(networks, [2], size=64, known=known, on_row=lambda rows: told.append(len(rows)))
    assert rows[0] == known[0] and rows[1].failure is not None
    assert told == [1, 2]


@pytest.mark.slow
def test_a_mistake_is_no_lack_of_memory():
    (row,) = measure_growth({"odd": ("timesformer_nano", {"depth": "two"})}, [2], size=64, rounds=1)
    assert row.failure.startswith("TypeError: ")
