"""Benchmark files become tables that name their command, commit and machine."""

import json

from kinema.benchmarks.tables import SPEED_BEGIN, SPEED_END, speed_table, write_speed

FACTS = {
    "command": "kinema bench model tsn_r50 tsm_r50",
    "commit": "0123456789abcdef",
    "uncommitted_changes": True,
    "machine": "a processor",
    "cores": 2,
    "torch": "2.15",
}
NETWORK = {
    "name": "tsm_r50",
    "median_ms": 350.4,
    "ratio": 1.0312,
    "ratio_low": 1.02,
    "ratio_high": 1.05,
    "peak_memory_mib": 99.6,
}
LOADER = {
    "name": "kinema",
    "clips_per_s": 31.25,
    "cpu_ms_per_clip": 32.0,
    "ratio": 8.7,
    "ratio_low": 8.0,
    "ratio_high": 9.0,
}


def test_tables(tmp_path):
    models = FACTS | {"threads": 2, "clip_shape": [1, 3, 8, 224, 224], "forward": [NETWORK]}
    data = FACTS | {
        "8 segments": {"loaders": [LOADER], "decoders": [LOADER]},
        "memory": {"clips": [10, 5000], "resident_mib": [300.0, 301.5], "growth_mib": 1.5},
    }
    for name, results in {"models.json": models, "data.json": data}.items():
        (tmp_path / name).write_text(json.dumps(results))
    (tmp_path / "README.md").write_text(f"{SPEED_BEGIN}\n{SPEED_END}\n")
    write_speed(tmp_path, [tmp_path / "models.json", tmp_path / "data.json"], command="write it")
    text = (tmp_path / "README.md").read_text()
    assert "| tsm_r50 | 350 | 1.031 | 1.020 to 1.050 | 100 |" in text
    assert "| kinema | 31.2 | 32.0 | 8.70 | 8.00 to 9.00 |" in text
    assert "Memory over 5000 clips: +1.5 MiB of 302 MiB." in text
    assert "commit `0123456789` with changes; a processor, 2 cores" in text and "write it" in text
    assert speed_table(models) in text


def test_layers_say_how_many_times_faster():
    rows = [
        NETWORK | {"name": name, "median_ms": ms, "ratio": ms / 40, "ratio_low": ms / 50, "ratio_high": ms / 30}
        for name, ms in (("grouped", 40.0), ("kinema", 4.0), ("plain", 3.0))
    ]
    layers = {"256x14": {"clip_shape": [2, 256, 8, 14, 14], "forward": rows, "forward_backward": rows}}
    table = speed_table(FACTS | {"threads": 2, "layers": layers})
    assert "| 256 channels at 14 (2 x 256 x 8 x 14 x 14) | 40.0 | 4.0 | 10.00 | 7.50 to 12.50 | 1.00 | 3.0 |" in table


def test_a_table_says_how_the_networks_ran():
    results = FACTS | {"threads": 2, "clip_shape": [1], "forward": [NETWORK], "compile": True, "dtype": "bfloat16"}
    assert "2 threads, compiled, bfloat16" in speed_table(results)


def test_operators_stand_beside_their_costs():
    rows = [
        NETWORK | {"name": name, "median_ms": ms, "ratio": ms / 4} for name, ms in (("frame_wise", 4.0), ("3d", 12.0))
    ]
    costs = {"frame_wise": {"params": 9216, "macs": 5_000_000}, "3d": {"params": 27648, "macs": 15_000_000}}
    layers = {"32x56": {"clip_shape": [2, 32, 8, 56, 56], "cost": costs, "forward": rows, "forward_backward": rows}}
    table = speed_table(FACTS | {"kind": "operators", "threads": 2, "layers": layers})
    half = "12.0 | 3.00 (1.02 to 1.05) | 100 |"
    assert f"| 3d | 27,648 | 15 | {half} {half}" in table
    assert "| 32 channels at 56 (2 x 32 x 8 x 56 x 56), 2 threads | parameters | MMACs |" in table


def test_workers_of_a_sweep():
    row = {"workers": 2, "runs": 4, "wall_s": 61.2, "training_s": 100.0, "beside_s": 5.6, "faster": 1.834}
    assert "| 2 | 61 | 100 | 5.6 | 1.83 |" in speed_table(FACTS | {"sweep": [row]})
