"""What loading a checkpoint did to every tensor of a network."""

from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """Every tensor of the network is in exactly one of `loaded`, `inflated` and `initial`.

    Printed, it names what stands alone, and of what shares a reason in numbers the first; its fields have all names.

    Args:
        source: What the checkpoint was found to be.
        loaded: Tensors now equal to the checkpoint's.
        renamed: Those among them that the checkpoint names differently, with its name for them.
        inflated: Tensors computed from the checkpoint's, with how.
        initial: Tensors left as the network was built, with why.
        refused: Tensors of the checkpoint that were not used, with why.
        notes: What the checkpoint cannot say and the reader should know.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    inflated: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} tensors from {self.source}"]
        if self.renamed:
            own, theirs = next(iter(self.renamed.items()))
            lines.append(f"  renamed: {len(self.renamed)}, as {theirs} -> {own}")
        for title, entries in (("inflated", self.inflated), ("initial", self.initial), ("not used", self.refused)):
            lines += [f"  {title}: {line}" for line in _grouped(entries)]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


_MOST = 3
"""Entries of one reason that are named one by one."""


def _grouped(entries: dict[str, str]) -> list[str]:
    """A line for each entry whose reason few share, one for all entries of another reason; the rare ones first."""
    by_reason: dict[str, list[str]] = {}
    for name, why in entries.items():
        by_reason.setdefault(why, []).append(name)
    lines = []
    for why, names in sorted(by_reason.items(), key=lambda item: len(item[1])):
        if len(names) <= _MOST:
            lines += [f"{name} ({why})" for name in names]
        else:
            lines.append(f"{len(names)} tensors, such as {names[0]} ({why})")
    return lines
