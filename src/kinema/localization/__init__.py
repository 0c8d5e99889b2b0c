"""Temporal action localization: the boundary-matching network, its labels and losses, and segments from its maps."""
