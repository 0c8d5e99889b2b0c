"""Rows that are dataclasses, as a Markdown table."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any


def row_table(rows: Sequence[Any], columns: Sequence[str] | None = None) -> str:
    """One line a row, one column a field; fractions with three significant digits, None as nothing.

    Args:
        rows: Instances of one dataclass.
        columns: Fields or properties shown; all fields when None.

    Raises:
        TypeError: If a row is no dataclass.
    """
    if not rows:
        return "none"
    if not is_dataclass(rows[0]):
        raise TypeError(f"a row is a {type(rows[0]).__name__}; give instances of a dataclass")
    shown = [field.name for field in fields(rows[0])] if columns is None else list(columns)
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in shown)} |", "|---" * len(shown) + "|"]
    lines += [f"| {' | '.join(_cell(getattr(row, name)) for name in shown)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
