"""Temporal operators: the science, one file per idea. Needs torch, einops and jaxtyping alone."""
