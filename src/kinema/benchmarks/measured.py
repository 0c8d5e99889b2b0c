"""Any file that `kinema bench --json` wrote, as Markdown."""

import json
from pathlib import Path
from typing import Any

from kinema.benchmarks.growth import GrowthRow, growth_table
from kinema.benchmarks.tables import origin, speed_table


def growth_title(results: dict[str, Any]) -> str:
    """What all rows of `kinema bench growth` share."""
    return f"frames of {results['size']} pixels, {results['threads']} thread{'s' if results['threads'] != 1 else ''}"


def measured_table(file: Path) -> str:
    """The tables of a benchmark file, and the command, commit and machine that it came from.

    Args:
        file: What `kinema bench ... --json FILE` wrote.
    """
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    modes = [mode for mode in ("forward", "forward_backward") if mode in results]
    if not any("num_frames" in row for mode in modes for row in results[mode]):
        return speed_table(results)
    tables = [
        growth_table(
            [GrowthRow(**row) for row in results[mode]], f"{mode.replace('_', ' + ')}, {growth_title(results)}"
        )
        for mode in modes
    ]
    return "\n\n".join([*tables, origin(results)])
